"""A trace and its annotations in, a tidy frame of results out."""
