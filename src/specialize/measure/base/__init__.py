"""Counting, information, estimates with intervals, nulls, paired differences and chance levels, all on arrays."""
