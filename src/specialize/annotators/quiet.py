"""Keeps third-party chatter off the terminal while topics are fitted."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec

from specialize.quiet import without_transformers_bars


@contextmanager
def quiet_topic_libraries() -> Iterator[None]:
    """Silence the progress bars and the beside-the-point warnings of UMAP, transformers and their like.

    Warnings that say something about the data or the result pass.
    """
    with warnings.catch_warnings():
        # UMAP tells of an optional class that needs Tensorflow and that is not used here.
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        # transformers is here only where an embedding model is
        with without_transformers_bars() if find_spec("sentence_transformers") else nullcontext():
            yield
