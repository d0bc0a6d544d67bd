"""Measures of a whole trace against its annotations, as tidy frames of results."""
