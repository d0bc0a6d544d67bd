"""A corpus into the trace of a run folder, whatever finds the routing: a model (`capture`) or a server (`serving`).

No module here imports torch.
"""
