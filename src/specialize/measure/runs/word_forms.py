"""Which word form each token belongs to: the vocabulary against which routing must prove that it follows more."""

import re
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.trace.schema import UNKNOWN

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace

FormKind = Literal["word form", "token id"]
# A word is a run of letters and digits; any other sign stands for itself.
_WORD = re.compile(r"\w+|[^\w\s]")


def read_word_forms(
    trace: "RoutingTrace", tokens: pd.DataFrame | None = None
) -> tuple[FormKind, NDArray[np.int64]] | tuple[None, None]:
    """Number the word forms of a trace's tokens, or their ids where there is no text or no place in it.

    The form of a token is the whole word that it begins in or, for a token that begins with space, the word after it:
    letters and digits together, any other sign alone, upper and lower case apart.

    Args:
        trace: an open trace.
        tokens: its `tokens()`, where they have been read already.

    Returns:
        What the forms are, and int64 [tokens]; two times None where the trace tells neither text nor token ids.
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
    numbers: dict[str, int] = {"": 0}  # what no word follows
    forms = np.zeros(len(tokens), dtype=np.int64)
    edges = np.searchsorted(document, np.arange(len(texts) + 1))
    for text, first, last in zip(texts, edges[:-1], edges[1:], strict=True):
        words = list(_WORD.finditer(text))
        ends = [word.end() for word in words]
        own = [numbers.setdefault(word.group(), len(numbers)) for word in words]
        own.append(0)
        forms[first:last] = np.asarray(own)[np.searchsorted(ends, start[first:last], side="right")]
    return forms
