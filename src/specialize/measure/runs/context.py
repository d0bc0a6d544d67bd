"""Labels in context: the label of the next token, and labels without the first positions of a sequence."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.errors import MeasurementError
from specialize.measure.estimators.label_sums import shift_labels


def next_codes(codes: ArrayLike, tokens: pd.DataFrame) -> NDArray[np.int32]:
    """Assign to each token the code of the next token.

    A causal router has no access to the next token but may be informative about it.

    Args:
        codes: integers [tokens], labels or token ids; negative where there is none.
        tokens: a frame with the column document, and sequence where documents were divided into context windows.

    Returns:
        int32 [tokens]; ``NO_LABEL`` for the last token of a document or window.

    Raises:
        MeasurementError: codes and tokens differ in length.
    """
    values = np.asarray(codes, dtype=np.int32)
    if len(values) != len(tokens):
        raise MeasurementError(f"expected a code for each of {len(tokens)} tokens, got {len(values)} codes")
    columns = {name: tokens[name].to_numpy() for name in ("document", "sequence") if name in tokens}
    nowhere = np.zeros(len(values), dtype=np.int32)
    return shift_labels(values, columns.get("document", nowhere), sequences=columns.get("sequence"))


def drop_positions(annotation: Annotation, tokens: pd.DataFrame, count: int) -> Annotation:
    """Remove the labels of the first positions of each sequence.

    The first token of a sequence has no context, and trained models often use it as an attention sink.

    Args:
        annotation: labels of tokens.
        tokens: a frame with the column position, the index of a token in its sequence.
        count: number of positions to skip; 0 returns the annotation unchanged.

    Returns:
        The annotation, with the number of skipped positions in its provenance (``skip_positions``).

    Raises:
        MeasurementError: the count is negative, the labels are not of these tokens, or positions are unknown.
    """
    if count < 0:
        raise MeasurementError(f"number of positions to skip must be at least 0, got {count}: 0 skips none")
    if not count:
        return annotation
    if annotation.level != "token" or len(annotation.codes) != len(tokens) or "position" not in tokens:
        raise MeasurementError(
            f"annotation {annotation.name!r}: positions can be skipped only for labels of tokens with positions"
        )
    codes = np.where(tokens["position"].to_numpy() < count, NO_LABEL, annotation.codes).astype(np.int32)
    provenance: dict[str, Any] = {**annotation.provenance, "skip_positions": count}
    return replace(annotation, codes=codes, provenance=provenance)
