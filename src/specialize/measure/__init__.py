"""Counts into numbers: contingency tables, information, nulls and intervals. NumPy, SciPy and Numba only."""
