"""Runs, corpora and reports at the addresses of object stores: local copies, and what is stored from them.

The package fsspec and the libraries of the stores are loaded when an address is first used.
"""
