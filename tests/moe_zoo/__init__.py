"""Tiny random models of every Mixture-of-Experts type of transformers."""
