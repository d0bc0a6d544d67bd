"""Suppression of other libraries' progress bars and irrelevant warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec


@contextmanager
def without_transformers_bars() -> Iterator[None]:
    """Hide the progress bars with which transformers loads and saves models; those of downloads remain."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def quiet_topic_libraries() -> Iterator[None]:
    """Hide the progress bars of transformers and the irrelevant warnings of the libraries that fit topics.

    Warnings about the data or the result are not suppressed.
    """
    with warnings.catch_warnings():
        # UMAP warns about an optional class that needs Tensorflow and is not used here.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        # transformers is needed, and installed, only with an embedding model
        with without_transformers_bars() if find_spec("sentence_transformers") else nullcontext():
            yield
