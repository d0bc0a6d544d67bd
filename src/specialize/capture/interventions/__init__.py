"""Interventions: experts of a model switched off, and what a layer computes without them."""
