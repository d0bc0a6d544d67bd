"""Estimators of one layer, from arrays to estimates with intervals and nulls."""
