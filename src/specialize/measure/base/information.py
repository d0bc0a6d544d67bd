"""Information measures of labels and experts, computed from tables of counts.

Every function takes ``counts`` as float64 [..., label, expert]: non-negative mass, not necessarily integer or
normalised. Functions are vectorised over leading axes, such as leave-one-out tables or permutations under the null.
Information and entropy are in bits. Tables with fewer than two axes and negative or NaN counts raise
MeasurementError.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specialize.errors import MeasurementError

_SMALLEST = np.finfo(np.float64).tiny


def _as_counts(counts: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2:
        raise MeasurementError(f"expected counts [..., label, expert], got shape {table.shape}: add the missing axes")
    if table.size and not table.min() >= 0:
        raise MeasurementError(f"counts must be non-negative numbers, got {table.min()}: check what was counted")
    return table


def _log2(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute log2, finite at zero: results are multiplied by the mass, so that 0 log 0 = 0."""
    return np.log2(np.maximum(values, _SMALLEST))


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide; NaN where the denominator is zero."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1.0), np.nan)


def entropy(counts: ArrayLike, axis: int = -1) -> NDArray[np.float64]:
    """Compute the entropy of the normalised counts along one axis, in bits: ``H = -sum p log2 p``.

    Args:
        counts: non-negative masses of any shape.
        axis: axis of the distribution.

    Returns:
        float64, the shape of ``counts`` without ``axis``; NaN where there is no mass.

    Raises:
        MeasurementError: counts are negative or NaN.

    Source:
        Shannon (1948), A Mathematical Theory of Communication, section 6.
    """
    masses = np.asarray(counts, dtype=np.float64)
    if masses.size and not masses.min() >= 0:
        raise MeasurementError(f"counts must be non-negative numbers, got {masses.min()}: check what was counted")
    total = masses.sum(axis=axis)
    return np.maximum(_log2(total) - _divide((masses * _log2(masses)).sum(axis=axis), total), 0.0)


def label_entropy(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute H(label), the entropy of the label, in bits, float64 [...]; NaN for an empty table."""
    return entropy(_as_counts(counts).sum(axis=-1))


def load_entropy(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute H(expert), the entropy of the load, in bits, float64 [...]; NaN for an empty table."""
    return entropy(_as_counts(counts).sum(axis=-2))


def load(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the load P(expert), each expert's share of all mass, float64 [..., expert]; NaN for an empty table."""
    table = _as_counts(counts)
    return _divide(table.sum(axis=-2), table.sum(axis=(-2, -1))[..., None])


def specific_information(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute how informative each expert is about the label, in bits.

    ``i(e) = sum_y P(y|e) log2(P(y|e) / P(y))``, the Kullback-Leibler divergence of the label distribution of expert
    ``e`` from that of all tokens. Its mean weighted by the load is the mutual information.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [..., expert], non-negative; NaN for an expert without mass, for which P(y|e) is undefined.

    Source:
        DeWeese & Meister (1999), How to measure the information gained from one symbol. This is their "specific
        surprise", the non-negative of the two decompositions of mutual information that they compare.
    """
    table = _as_counts(counts)
    by_label, by_expert = table.sum(axis=-1), table.sum(axis=-2)
    total = by_label.sum(axis=-1)[..., None]
    # The expanded logarithm needs one logarithm per cell and a matrix product: about twice as fast.
    within = (table * _log2(table)).sum(axis=-2)
    against = (_log2(by_label)[..., None, :] @ table)[..., 0, :]
    divergence = _divide(within - against, by_expert) - _log2(by_expert) + _log2(total)
    return np.maximum(divergence, 0.0)


def mutual_information(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the plug-in mutual information of label and expert, in bits.

    ``I = sum_ye P(y, e) log2(P(y, e) / (P(y) P(e)))``. The plug-in estimator is biased upwards;
    `specialize.measure.jackknife` corrects the bias.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [...], non-negative; 0 where only one label or one expert has mass, NaN for an empty table.

    Source:
        Shannon (1948), A Mathematical Theory of Communication.
    """
    return pool_information(specific_information(counts), load(counts))


def pool_information(specific: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute mutual information as the mean of specific information weighted by the load.

    Args:
        specific: specific information in bits, float64 [..., expert]; NaN for experts without mass.
        shares: load float64 [..., expert].

    Returns:
        float64 [...], in bits; NaN where no expert has mass.
    """
    return np.where(shares > 0, shares * specific, shares).sum(axis=-1)


def uncertainty_coefficient(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the uncertainty coefficient, the share of the label's entropy that routing explains.

    ``U(label | expert) = I(label; expert) / H(label)``: 0 where label and expert are independent, 1 where the expert
    determines the label. The normaliser is the entropy of the label, not that of the load.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [...] in [0, 1]; NaN where H(label) is 0, with fewer than two labels that have mass.

    Source:
        Theil (1970), On the estimation of relationships involving qualitative variables.
    """
    return _divide(mutual_information(counts), label_entropy(counts))


def lift(counts: ArrayLike) -> NDArray[np.float64]:
    """Compute the lift ``P(label | expert) / P(label)``, observed over expected mass at independence.

    Args:
        counts: [..., label, expert].

    Returns:
        float64 [..., label, expert]; 1 at independence, 0 for a label without mass at the expert, NaN for
        experts or labels without mass.
    """
    table = _as_counts(counts)
    by_label, by_expert = table.sum(axis=-1)[..., None], table.sum(axis=-2)[..., None, :]
    total = table.sum(axis=(-2, -1))[..., None, None]
    return _divide(table * total, by_label * by_expert)
