"""Windows of documents as the units of topics, for documents whose topic changes."""

from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.columns import read_texts
from specialize.errors import AnnotationError

WINDOW_TOPICS = "bertopic_window"


class Readable(Protocol):
    """The part of a trace that windows are cut from."""

    def documents(self) -> pd.DataFrame:
        """Return one row per document."""

    def tokens(self) -> pd.DataFrame:
        """Return one row per token."""


def cut_windows(trace: Readable, size: int) -> tuple[pd.DataFrame, NDArray[np.int32]]:
    """Cut every document into windows of tokens.

    Args:
        trace: the trace.
        size: tokens of a window. Fewer than half as many at the end of a document are added to its last window.

    Returns:
        One row per window in reading order, with the columns of its document and, as text, the text of the window;
        and int32 [tokens], the window of each token, `NO_LABEL` for tokens that have no text (special tokens).

    Raises:
        AnnotationError: `size` is less than 1, documents have no text, or tokens have no position in it.
    """
    if size < 1:
        raise AnnotationError(f"expected windows of at least 1 token, got {size}")
    documents, tokens = trace.documents(), trace.tokens()
    texts = read_texts(documents)
    in_text = (tokens["char_end"] > tokens["char_start"]).to_numpy()
    if not in_text.any():
        raise AnnotationError(
            "expected tokens with their positions in the text, the trace has none; use whole documents"
        )
    placed = tokens.loc[in_text, ["document", "char_start", "char_end"]]
    by_document = placed.groupby("document", sort=False)["char_start"]
    lengths = by_document.transform("size").to_numpy()
    most = np.maximum(1, (lengths + size // 2) // size)
    number = np.minimum(by_document.cumcount().to_numpy() // size, most - 1)
    windows = placed.groupby([placed["document"].rename("row"), pd.Series(number, placed.index, name="window")])
    spans = windows.agg(start=("char_start", "min"), end=("char_end", "max")).reset_index()
    table = documents.iloc[spans["row"]].reset_index(drop=True)
    table["text"] = [
        texts[row][start:end] for row, start, end in zip(spans["row"], spans["start"], spans["end"], strict=True)
    ]
    window_of = np.full(len(tokens), NO_LABEL, dtype=np.int32)
    window_of[in_text] = windows.ngroup().to_numpy()
    return table, window_of


def spread_windows(topics: Annotation, window_of: NDArray[np.int32]) -> Annotation:
    """Label every token with the topic of its window.

    The null of token labels shifts labels within documents. The null-corrected value therefore measures how far routing
    is associated with the topic *within* documents; the mix of topics of whole documents is part of the null.

    Args:
        topics: annotation of the windows, codes int32 [windows].
        window_of: int32 [tokens], the window of each token, negative where it has none.

    Returns:
        Annotation `bertopic_window` of tokens.
    """
    codes = np.where(window_of >= 0, topics.codes[window_of], NO_LABEL).astype(np.int32)
    return Annotation(WINDOW_TOPICS, "token", topics.labels, codes, topics.provenance)
