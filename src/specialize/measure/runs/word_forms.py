"""Word forms of tokens, for the word-form baseline and the control task of probes."""

import re
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.trace.schema import UNKNOWN

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

FormKind = Literal["word form", "token id"]
# A word is a sequence of letters and digits; any other character is a word of its own.
_WORD = re.compile(r"\w+|[^\w\s]")


def read_word_forms(
    trace: "RoutingTrace", tokens: pd.DataFrame | None = None
) -> tuple[FormKind, NDArray[np.int64]] | tuple[None, None]:
    """Number the word forms of a trace's tokens, or return token ids where text or character offsets are missing.

    The word form of a token is the word in which it begins or, for a token that begins with whitespace, the next
    word. Words are sequences of letters and digits, or single other characters; case is preserved.

    Args:
        trace: an open trace.
        tokens: its `tokens()`, if already read.

    Returns:
        The kind of the numbers ("word form" or "token id") and the numbers, int64 [tokens]; (None, None) where the
        trace has neither text nor token ids.
    """
    tokens = trace.tokens() if tokens is None else tokens
    known = "char_start" in tokens and bool((tokens["char_start"] != UNKNOWN).all())
    texts = trace.documents()["text"] if known else None
    if texts is not None and not texts.isna().any():
        return "word form", _number_forms(tokens, texts.tolist())
    if "token_id" in tokens and (tokens["token_id"] != UNKNOWN).all():
        return "token id", tokens["token_id"].to_numpy(dtype=np.int64)
    return None, None


def _number_forms(tokens: pd.DataFrame, texts: list[str]) -> NDArray[np.int64]:
    document, start = tokens["document"].to_numpy(), tokens["char_start"].to_numpy()
    numbers: dict[str, int] = {"": 0}  # tokens after the last word
    forms = np.zeros(len(tokens), dtype=np.int64)
    edges = np.searchsorted(document, np.arange(len(texts) + 1))
    for text, first, last in zip(texts, edges[:-1], edges[1:], strict=True):
        words = list(_WORD.finditer(text))
        ends = [word.end() for word in words]
        own = [numbers.setdefault(word.group(), len(numbers)) for word in words]
        own.append(0)
        forms[first:last] = np.asarray(own)[np.searchsorted(ends, start[first:last], side="right")]
    return forms
