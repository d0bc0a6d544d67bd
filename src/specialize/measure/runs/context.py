"""Labels in context: the label of the next token, and labels without the first positions of a sequence."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.column import Column, compute_column
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
    if len(np.asarray(codes)) != len(tokens):
        raise MeasurementError(f"expected a code for each of {len(tokens)} tokens, got {len(np.asarray(codes))} codes")
    columns = {name: tokens[name].to_numpy() for name in ("document", "sequence") if name in tokens}
    return following_codes(np.asarray(codes), columns)[:]


def following_codes(codes: Any, columns: Mapping[str, Any]) -> Any:
    """Assign to each token the code of the next token, as `next_codes`, as a column that is computed slice by slice.

    Args:
        codes: integers [tokens], in memory or as a column.
        columns: document and sequence of each token, as far as they are known, in memory or as columns.
    """
    places = [columns[name] for name in ("document", "sequence") if name in columns]

    def shift(rows: slice) -> NDArray[np.int32]:
        ahead = slice(rows.start, rows.stop + 1)  # the last token of a slice may have a next one
        own = [np.asarray(each[ahead]) for each in places] or [np.zeros(len(codes[ahead]), dtype=np.int32)]
        return shift_labels(codes[ahead], own[0], sequences=own[-1])[: rows.stop - rows.start]

    return compute_column(len(codes), shift, dtype=np.int32)


def drop_positions(annotation: Annotation, tokens: pd.DataFrame | Mapping[str, Any], count: int) -> Annotation:
    """Remove the labels of the first positions of each sequence.

    The first token of a sequence has no context, and trained models often use it as an attention sink.

    Args:
        annotation: labels of tokens.
        tokens: a frame, or columns, with the column position, the index of a token in its sequence.
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
    position = tokens.get("position")
    if annotation.level != "token" or position is None or len(annotation.codes) != len(position):
        raise MeasurementError(
            f"annotation {annotation.name!r}: positions can be skipped only for labels of tokens with positions"
        )
    places = position.to_numpy() if isinstance(position, pd.Series) else position

    def drop(rows: slice) -> NDArray[np.int32]:
        return np.where(places[rows] < count, NO_LABEL, annotation.codes[rows]).astype(np.int32)

    codes: Any = compute_column(len(places), drop, dtype=np.int32)
    codes = codes if isinstance(places, Column) else codes[:]
    provenance: dict[str, Any] = {**annotation.provenance, "skip_positions": count}
    return replace(annotation, codes=codes, provenance=provenance)
