"""The stages in order, each callable from Python as from the command line.

A stage takes a run (or a model and a corpus), reports to a `specialize.events.Reporter`, leaves its files in the run
folder and returns its frame. The public names are those of `specialize`.
"""
