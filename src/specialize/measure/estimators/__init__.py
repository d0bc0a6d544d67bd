"""Estimators of a layer: arrays in, estimates with intervals and nulls out."""
