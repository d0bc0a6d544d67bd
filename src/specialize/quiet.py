"""Keeping other libraries' progress bars off the screen while ours are on it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_transformers_bars() -> Iterator[None]:
    """Hide the progress bars of transformers' loading and saving; downloads keep theirs."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
