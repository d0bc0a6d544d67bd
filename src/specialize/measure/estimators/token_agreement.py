"""Whether two models, or one model run in two ways, choose the same experts for a token."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError


@dataclass(frozen=True)
class TokenAgreement:
    """How far the experts of each token agree on two sides; NaN for a token to which one side gave no expert.

    Attributes:
        overlap: float64 [tokens], share of the slots with the same experts, in any order.
        same_first: float64 [tokens], 1 where the first slots hold the same expert, else 0; NaN where one holds none.
        differs: float64 [tokens], 1 where the sets of experts differ, else 0.
        weight_difference: float64 [tokens], mean over the experts that both sides chose of the absolute difference of
            their gate weights; NaN where they share none; None where gate weights are not known.
    """

    overlap: NDArray[np.float64]
    same_first: NDArray[np.float64]
    differs: NDArray[np.float64]
    weight_difference: NDArray[np.float64] | None


def compare_tokens(
    experts: ArrayLike,
    others: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    other_weights: ArrayLike | None = None,
) -> TokenAgreement:
    """Compare the experts of each token on two sides.

    Args:
        experts: integers [tokens, k] of the first side, distinct within a token; negative where a slot holds no expert.
        others: integers [tokens, k] of the second side.
        weights: gate weights of the first side, floating [tokens, k]; None where they are not known.
        other_weights: those of the second side.

    Raises:
        MeasurementError: arrays do not match in shape.
    """
    one, other = (np.ascontiguousarray(each, dtype=np.int16) for each in (experts, others))
    known = weights is not None and other_weights is not None
    gates = [np.zeros((0, 0)) if not known else np.ascontiguousarray(each) for each in (weights, other_weights)]
    if one.ndim != 2 or one.shape != other.shape or (known and not one.shape == gates[0].shape == gates[1].shape):
        raise MeasurementError(
            f"expected experts and gate weights [tokens, k] of two sides, got shapes {one.shape}, {other.shape}, "
            f"{gates[0].shape} and {gates[1].shape}: compare the same tokens and k"
        )
    found = np.full((4, len(one)), np.nan)
    _compare(found, one, other, gates[0].astype(np.float64), gates[1].astype(np.float64))
    return TokenAgreement(found[0], found[1], found[2], found[3] if known else None)


@njit(cache=True, nogil=True)
def _compare(found, one, other, weights, other_weights):  # type: ignore[no-untyped-def]
    slots = one.shape[1]
    for row in range(len(one)):
        common, first, second, apart = 0, 0, 0, 0.0
        for slot in range(slots):
            first += one[row, slot] >= 0
            second += other[row, slot] >= 0
            for place in range(slots):
                if one[row, slot] >= 0 and one[row, slot] == other[row, place]:
                    common += 1
                    if len(weights):
                        apart += abs(weights[row, slot] - other_weights[row, place])
        if first and second:
            found[0, row] = common / slots
            found[2, row] = not common == first == second
            if one[row, 0] >= 0 and other[row, 0] >= 0:
                found[1, row] = one[row, 0] == other[row, 0]
            if common:
                found[3, row] = apart / common
