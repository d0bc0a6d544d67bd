"""Information between labels and experts, from tables of counts.

Every function takes ``counts`` as float64 [..., label, expert]: non-negative mass, not necessarily
integers, not necessarily summing to one. Leading axes are carried through, so that a stack of
leave-one-out tables or of null draws costs one call. All information is in bits.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError

_SMALLEST = np.finfo(np.float64).tiny


def _as_counts(counts: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2:
        raise MeasurementError(f"counts must be [..., label, expert], got shape {table.shape}: add the missing axes")
    if table.size and not table.min() >= 0:
        raise MeasurementError(f"counts must be non-negative numbers, got {table.min()}: check what was counted")
    return table


def _log2(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Finite log2: zero mass is only ever multiplied with it, and 0 log 0 is 0."""
    return np.log2(np.maximum(values, _SMALLEST))


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is zero."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1.0), np.nan)


def entropy(counts: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Compute the entropy of the distribution along one axis of a table, in bits.

    Args:
        counts: non-negative masses of any shape.
        axis: the axis that holds the distribution.

    Returns:
        float64, the shape of ``counts`` without ``axis``; NaN where there is no mass.

    Source:
        Shannon (1948), A Mathematical Theory of Communication, section 6.
    """
    masses = np.asarray(counts, dtype=np.float64)
    if masses.size and not masses.min() >= 0:
        raise MeasurementError(f"counts must be non-negative numbers, got {masses.min()}: check what was counted")
    total = masses.sum(axis=axis)
    return np.maximum(_log2(total) - _divide((masses * _log2(masses)).sum(axis=axis), total), 0.0)


def label_entropy(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute H(label) in bits, shape [...]; NaN for an empty table."""
    return entropy(_as_counts(counts).sum(axis=-1))


def load_entropy(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute H(expert), the entropy of the load, in bits, shape [...]; NaN for an empty table."""
    return entropy(_as_counts(counts).sum(axis=-2))


def load(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute P(expert), the share of the mass at each expert, [..., expert]; NaN for an empty table."""
    table = _as_counts(counts)
    return _divide(table.sum(axis=-2), table.sum(axis=(-2, -1))[..., None])


def specific_information(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute what a routing to each expert tells about the label, in bits.

    ``i(e) = sum_y P(y|e) log2(P(y|e) / P(y))``, the divergence of the labels seen by expert ``e`` from
    all labels. Weighted by the load it sums to the mutual information.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [..., expert], at least 0; NaN for an expert without mass, which has no P(y|e).

    Source:
        DeWeese & Meister (1999), How to measure the information gained from one symbol, where this is the
        "specific surprise"; it is the non-negative one of the two decompositions they compare.
    """
    table = _as_counts(counts)
    by_label, by_expert = table.sum(axis=-1), table.sum(axis=-2)
    total = by_label.sum(axis=-1)[..., None]
    # Expanding the logarithm leaves one logarithm a cell and a matrix product: about twice as fast.
    within = (table * _log2(table)).sum(axis=-2)
    against = (_log2(by_label)[..., None, :] @ table)[..., 0, :]
    divergence = _divide(within - against, by_expert) - _log2(by_expert) + _log2(total)
    return np.maximum(divergence, 0.0)


def mutual_information(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the plug-in mutual information of label and expert, in bits.

    ``I = sum_ye P(y, e) log2(P(y, e) / (P(y) P(e)))``. The plug-in value is biased upwards; see
    `specialize.measure.jackknife` for the correction.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [...], at least 0; 0 when only one label or one expert has mass, NaN for an empty table.

    Source:
        Shannon (1948), A Mathematical Theory of Communication.
    """
    return pool_information(specific_information(counts), load(counts))


def pool_information(specific: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pool experts' specific information into the mutual information.

    Args:
        specific: bits [..., expert], NaN for experts without mass.
        shares: load [..., expert].

    Returns:
        float64 [...]; NaN where there is no mass at all.
    """
    return np.where(shares > 0, shares * specific, shares).sum(axis=-1)


def uncertainty_coefficient(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the share of the label's uncertainty that one routing decision removes.

    ``U(label | expert) = I(label; expert) / H(label)``: 0 when routing tells nothing, 1 when the expert
    determines the label. The normaliser is the entropy of the label, not of the load.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [...] in [0, 1]; NaN where H(label) is 0 (fewer than two labels have mass).

    Source:
        Theil (1970), On the estimation of relationships involving qualitative variables.
    """
    return _divide(mutual_information(counts), label_entropy(counts))


def lift(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute ``P(label | expert) / P(label)``, the ratio to what chance gives at the observed load.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [..., label, expert]; 1 at independence, 0 for a label that an expert never sees, NaN for
        experts or labels without mass.
    """
    table = _as_counts(counts)
    by_label, by_expert = table.sum(axis=-1)[..., None], table.sum(axis=-2)[..., None, :]
    total = table.sum(axis=(-2, -1))[..., None, None]
    return _divide(table * total, by_label * by_expert)
