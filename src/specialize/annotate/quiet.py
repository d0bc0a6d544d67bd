"""Keeps third-party chatter off the terminal while topics are fitted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def quiet_topic_libraries() -> Iterator[None]:
    """Silence the progress bars and the beside-the-point warnings of UMAP, transformers and their like.

    Warnings that say something about the data or the result pass.
    """
    with warnings.catch_warnings():
        # UMAP tells of an optional class that needs Tensorflow and that is not used here.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        with _no_loading_bars():
            yield


@contextmanager
def _no_loading_bars() -> Iterator[None]:
    if find_spec("sentence_transformers") is None:
        yield
        return
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
