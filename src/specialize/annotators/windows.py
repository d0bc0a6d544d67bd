"""Windows of documents as the unit of topics, for documents that change theirs."""

from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.columns import read_texts
from specialize.errors import AnnotationError

WINDOW_TOPICS = "bertopic_window"


class Readable(Protocol):
    """What is needed of a trace."""

    def documents(self) -> pd.DataFrame:
        """One row a document."""

    def tokens(self) -> pd.DataFrame:
        """One row a token."""


def cut_windows(trace: Readable, size: int) -> tuple[pd.DataFrame, NDArray[np.int32]]:
    """Cut every document into windows of tokens.

    Args:
        trace: what was traced.
        size: tokens of a window. A rest of less than half of it joins the window before.

    Returns:
        The windows, one row each in reading order, with all columns of the documents and as text their part of it;
        and int32 [tokens], the window of each token, `NO_LABEL` for one that stands for no text.

    Raises:
        AnnotationError: a window of no tokens, or documents without text or tokens without their place in it.
    """
    if size < 1:
        raise AnnotationError(f"expected windows of at least 1 token, got {size}")
    documents, tokens = trace.documents(), trace.tokens()
    texts = read_texts(documents)
    in_text = (tokens["char_end"] > tokens["char_start"]).to_numpy()
    if not in_text.any():
        raise AnnotationError("expected tokens with their place in the text, the trace tells none: use whole documents")
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
    """Give every token the topic of its window.

    Labels of tokens are measured against rotations within their document, so the result tells how far routing
    follows the topic *within* documents; what the document's own mix of topics does is in the null.

    Args:
        topics: one code a window.
        window_of: int32 [tokens], the window of each token, negative for none.
    """
    codes = np.where(window_of >= 0, topics.codes[window_of], NO_LABEL).astype(np.int32)
    return Annotation(WINDOW_TOPICS, "token", topics.labels, codes, topics.provenance)
