"""Which tokens a label is read from: the next token's, and without the first positions of a sequence."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.errors import MeasurementError


def next_codes(codes: ArrayLike, tokens: pd.DataFrame) -> NDArray[np.int32]:
    """Give every token the code of the token after it.

    A causal router has not seen what comes next, but may well prepare for it.

    Args:
        codes: integers [tokens], labels or token ids; negative where there is none.
        tokens: column document, and sequence where a document was read in several windows.

    Returns:
        int32 [tokens], ``NO_LABEL`` for the last token of a document or window.

    Raises:
        MeasurementError: the lengths differ.
    """
    values = np.asarray(codes, dtype=np.int32)
    if len(values) != len(tokens):
        raise MeasurementError(f"expected a code for each of {len(tokens)} tokens, got {len(values)}")
    following = np.full(len(values), NO_LABEL, dtype=np.int32)
    together = np.ones(max(len(values) - 1, 0), dtype=bool)
    for column in ("document", "sequence"):
        if column in tokens:
            places = tokens[column].to_numpy()
            together &= places[1:] == places[:-1]
    following[:-1][together] = values[1:][together]
    return following


def drop_positions(annotation: Annotation, tokens: pd.DataFrame, count: int) -> Annotation:
    """Take the labels from the first positions of each sequence.

    The first token of a sequence is where trained models park attention, and where no context is known.

    Args:
        annotation: labels of tokens.
        tokens: column position, counted from 0 in each sequence.
        count: positions to leave out; 0 changes nothing.

    Returns:
        The annotation; its provenance says how many positions were left out.

    Raises:
        MeasurementError: the count is negative, the labels are not those of tokens, or positions are not known.
    """
    if count < 0:
        raise MeasurementError(f"expected a number of positions to skip of at least 0, got {count}")
    if not count:
        return annotation
    if annotation.level != "token" or len(annotation.codes) != len(tokens) or "position" not in tokens:
        raise MeasurementError(f"annotation {annotation.name!r}: positions can be skipped for labels of tokens only")
    codes = np.where(tokens["position"].to_numpy() < count, NO_LABEL, annotation.codes).astype(np.int32)
    provenance: dict[str, Any] = {**annotation.provenance, "skip_positions": count}
    return replace(annotation, codes=codes, provenance=provenance)
