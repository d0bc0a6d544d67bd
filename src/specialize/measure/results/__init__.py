"""The schema of result frames, reading and writing them, and q-values."""
