"""Specialization while a model trains: its routing on a fixed sample with labels, measured at intervals."""
