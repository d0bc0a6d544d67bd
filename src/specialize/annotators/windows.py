"""Windows of documents as the units of topics, for documents whose topic changes."""

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.annotators.carrier import TokensAndTexts, find_document_bounds, read_places
from specialize.annotators.columns import read_texts
from specialize.errors import AnnotationError

WINDOW_TOPICS = "bertopic_window"


def cut_windows(trace: TokensAndTexts, size: int) -> tuple[pd.DataFrame, NDArray[np.int32]]:
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
    documents, places = trace.documents(), read_places(trace)
    texts, bounds = read_texts(documents), find_document_bounds(places["document"], len(documents))
    window_of = np.full(int(bounds[-1]), NO_LABEL, dtype=np.int32)
    rows: list[int] = []
    pieces: list[str] = []
    for document, (first, end) in enumerate(pairwise(bounds.tolist())):
        begins, ends = (np.asarray(places[name][first:end]) for name in ("char_start", "char_end"))
        in_text = np.flatnonzero(ends > begins)
        if not len(in_text):
            continue
        most = max(1, (len(in_text) + size // 2) // size)
        number = np.minimum(np.arange(len(in_text)) // size, most - 1)
        window_of[first + in_text] = len(rows) + number
        edges = np.arange(most) * size
        spans = np.minimum.reduceat(begins[in_text], edges), np.maximum.reduceat(ends[in_text], edges)
        pieces += [texts[document][start:stop] for start, stop in zip(*(each.tolist() for each in spans), strict=True)]
        rows += [document] * most
    if not rows:
        raise AnnotationError(
            "expected tokens with their positions in the text, the trace has none; use whole documents"
        )
    table = documents.drop(columns="text").iloc[rows].reset_index(drop=True)
    table.insert(documents.columns.get_loc("text"), "text", pieces)
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
