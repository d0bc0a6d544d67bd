"""Suppression of other libraries' progress bars and irrelevant warnings."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec

from specialize.text import clean_text


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
def quiet_loading() -> Iterator[list[str]]:
    """Hide the progress bars and the loading report of transformers, and clean its other messages.

    The report is a table of the names in the checkpoint, which may hold whatever a terminal obeys.

    Yields:
        The lines of the reports that were hidden, cleaned.
    """
    hidden: list[str] = []

    def clean(record: logging.LogRecord) -> bool:
        """Put a message on one line without control characters; return False to drop it."""
        message = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())  # colors
        record.msg, record.args = clean_text(message), ()
        is_report = "LOAD REPORT" in message
        if is_report:
            hidden.extend(map(clean_text, message.splitlines()))
        return not is_report

    with without_transformers_bars():
        handlers = list(logging.getLogger("transformers").handlers)
        for handler in handlers:
            handler.addFilter(clean)
        try:
            yield hidden
        finally:
            for handler in handlers:
                handler.removeFilter(clean)


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
