"""Standing committee: the smallest group of experts that holds half of the mass, of each label and common to all.

Source: the common group is a covering integer program with one constraint for each label, solved exactly by HiGHS
(Huangfu & Hall 2018, https://doi.org/10.1007/s12532-017-0130-5) through `scipy.optimize.milp`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from specialize.errors import MeasurementError
from specialize.measure.base.blocks import divide
from specialize.measure.base.estimate import Estimate, EstimateArray, Statistic, jackknife_values, make_estimates
from specialize.measure.estimators.label_sums import LabelledSums
from specialize.measure.estimators.usage import observe_usage

ROUNDING = 1e-9  # sums of shares in another order differ by less
MASS_GAP = 1e-3  # of the largest mass; to prove the last digits of it can take minutes
MOST_NODES = 1000  # of a search; hardly ever reached, even with 256 experts
NO_INTERVAL = "none: a number of experts"


@dataclass(frozen=True)
class Committee:
    """The smallest groups of experts that hold a share of the mass.

    Attributes:
        sizes: number of experts in the smallest group of each label, [label]. Null: labels permuted over documents;
            the p-value is that of a smaller group.
        groups: the experts of these groups, bool [label, expert].
        common_size: number of experts in the smallest group that holds the share of every label. Null: labels permuted
            over documents; the p-value is that of a larger group.
        common_group: the experts of that group, bool [expert].
        common_mass: share of each label's mass that the common group holds, [label], the group being given.
        load: share of the mass of all documents with a label at each expert, [expert].
    """

    sizes: EstimateArray
    groups: NDArray[np.bool_]
    common_size: Estimate
    common_group: NDArray[np.bool_]
    common_mass: EstimateArray
    load: EstimateArray


def measure_committee(
    usage: ArrayLike,
    codes: ArrayLike,
    *,
    num_labels: int,
    share: float = 0.5,
    permutations: int = 200,
    groups: ArrayLike | None = None,
    num_blocks: int = 50,
    seed: int = 0,
) -> Committee:
    """Find the smallest groups of experts that hold a share of the mass, of each label and common to all labels.

    Each document has a mass of 1, which is spread over the experts as that of its tokens is; P(expert | label) is the
    mean over the label's documents. The group of a label consists of its most used experts. The common group is the
    smallest set S of experts with P(S | label) ≥ share for every label that occurs; of several, one with the largest
    mass over all documents, see `find_common_group`. It is at least as large as the largest group of a label, and
    equally large where labels use the same experts.

    Sizes are as counted. As they are whole numbers that jump with the data, they have no interval. For the test, equal
    sizes are ordered by their linear relaxations, in which an expert may be in a group in part. Common groups under
    the null, and that of the test, are found by a quick search: of the smallest size or, in larger layers, at times one
    above it.

    Args:
        usage: mass of each expert in each document, float64 [documents, experts], in tokens.
        codes: integers [documents], the label of each document; negative where there is none.
        num_labels: number of labels of the label set, including labels that do not occur.
        share: share of the mass that a group holds, above 0 and at most 1.
        permutations: number of permutations under the null; 0 for none.
        groups: integers [documents], documents of one group stay in one block, see `assign_blocks`; default: each
            document is a group of its own.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: seed of the null.

    Returns:
        The groups and their sizes; NaN, and no experts, for a label that does not occur.

    Raises:
        MeasurementError: the share is out of range, arrays do not match in length, values are out of range, or no
            labelled document was routed.
    """
    if not 0 < share <= 1:
        raise MeasurementError(f"share: expected a share above 0 and at most 1, got {share}: 0.5 is usual")
    seen = observe_usage(usage, codes, num_labels=num_labels, groups=groups, num_blocks=num_blocks)
    blocks = seen.tables()
    shares = _shares(blocks.sum(axis=0))
    null = np.empty((permutations, num_labels + 1))
    for batch, tables in seen.permuted(permutations=permutations, seed=seed):
        null[batch] = [_measure_quickly(each, share) for each in _shares(tables[:, 0])]
    common, least = find_common_group(shares, blocks.sum(axis=(0, 1)), share=share)
    sizes = _estimate_sizes(_measure_quickly(shares, share), null, int(common.sum()), least, seen)

    def held(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(_shares(counts)[..., common].sum(axis=-1))

    def estimate(statistic: Statistic, unit: str, note: str) -> EstimateArray:
        value, (_, error) = statistic(blocks.sum(axis=0)), jackknife_values(blocks, statistic)
        return make_estimates(
            value, error, unit=unit, num_blocks=seen.num_blocks, scale="logit", note=note, **seen.counts
        )

    return Committee(
        sizes=sizes.part(np.s_[:-1]),
        groups=_find_groups(shares, sizes.value[:-1]),
        common_size=sizes[-1],
        common_group=common,
        common_mass=estimate(held, "share of the label's mass", ", for this group"),
        load=estimate(_measure_load, "share", ""),
    )


def _estimate_sizes(
    quick: NDArray[np.float64], null: NDArray[np.float64], size: int, least: int, seen: LabelledSums
) -> EstimateArray:
    """Make the estimates of the sizes of each label's group and, last, of the common group, [label + 1].

    Args:
        quick: sizes as `_measure_quickly` returns them, float64 [label + 1].
        null: those under the null, float64 [permutation, label + 1].
        size: size of the common group that was found.
        least: size that every common group has at least.
        seen: the labelled documents.
    """
    direction = np.append(-np.ones(len(quick) - 1), 1.0)  # few experts of a label, many that are common to all
    estimates = make_estimates(
        np.append(_round_up(quick[:-1]), size),
        np.full(len(quick), np.nan),
        unit="count",
        num_blocks=seen.num_blocks,
        null=np.column_stack([_round_up(null[:, :-1]), np.floor(null[:, -1])]),
        tested=(direction * quick, direction * null),
        **seen.counts,
    )
    kinds = np.full(len(quick), NO_INTERVAL, dtype=object)
    if least < size:
        kinds[-1] = f"{NO_INTERVAL}; the smallest group has at least {least}"
    return replace(estimates, ci_kind=kinds)


def find_common_group(shares: ArrayLike, load: ArrayLike, *, share: float = 0.5) -> tuple[NDArray[np.bool_], int]:
    """Find the smallest set of experts that holds a share of the mass of every label, to within 1e-6 of the mass.

    Args:
        shares: P(expert | label), float64 [label, expert]; rows of NaN are left out.
        load: mass of each expert, float64 [expert]; of several smallest sets, one with the largest mass is taken (to
            within `MASS_GAP`).
        share: share of the mass of each label, above 0 and at most 1.

    Returns:
        Whether each expert is in the set, bool [expert], and the size that every such set has at least. It is that of
        the set, unless the search stopped after `MOST_NODES` nodes, before the set was proved to be the smallest.

    Raises:
        MeasurementError: a row does not reach the share.
    """
    rows, masses = _drop_absent(np.asarray(shares, dtype=np.float64)), np.asarray(load, dtype=np.float64)
    if (rows.sum(axis=1) < share - ROUNDING).any():
        raise MeasurementError(f"expected shares that reach {share:g} for every label, got others: divide by their sum")
    smallest, bound = _solve(np.ones(rows.shape[1]), rows, share, gap=0.0)
    if smallest is None:
        smallest = _take_greedily(rows, share)
    size = smallest.sum()
    fixed = LinearConstraint(np.ones((1, rows.shape[1])), size, size)
    largest, _ = _solve(-masses / max(masses.sum(), ROUNDING), rows, share, fixed, gap=MASS_GAP)
    return smallest if largest is None else largest, int(np.ceil(max(bound, 1.0) - ROUNDING))


def _shares(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the mass of each label by its sum, [..., label, expert]; NaN where there is none."""
    return divide(tables, np.broadcast_to(tables.sum(axis=-1, keepdims=True), tables.shape))


def _measure_load(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of each expert in all mass, [..., expert]."""
    return _shares(tables.sum(axis=-2))


def _drop_absent(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    return shares[~np.isnan(shares).any(axis=1)]


def _measure_quickly(shares: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the relaxed size of each label's group and, last, the approximate common size, [label + 1]."""
    return np.append(_relax_top(shares, share), _approximate_common(shares, share))


def _relax_top(shares: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the size of the smallest group of each label, if one expert may be in it in part, [label].

    NaN for a label without mass.
    """
    ranked = -np.sort(-shares, axis=1)
    held = np.cumsum(ranked, axis=1)
    whole = np.minimum((held < share - ROUNDING).sum(axis=1), shares.shape[1] - 1)[:, None]
    last, reached = (np.take_along_axis(each, whole, axis=1) for each in (ranked, held))
    return np.asarray((whole + (share - (reached - last)) / np.maximum(last, ROUNDING))[:, 0])


def _approximate_common(shares: NDArray[np.float64], share: float) -> float:
    """Return the size of a small common group, found in milliseconds, plus a fraction that orders equal sizes.

    Experts are taken in the order of a linear relaxation, in which an expert may be in the group in part, or in that
    of what they add to the labels' missing shares; then those that are not needed are left out. Where the relaxation
    has several solutions, the order, and with it the size, may depend on the numbers of the experts. The fraction is
    the relaxed size divided by E + 1.
    """
    rows = _drop_absent(shares)
    count = rows.shape[1]
    found = linprog(np.ones(count), A_ub=-rows, b_ub=np.full(len(rows), ROUNDING - share), bounds=(0, 1))
    sizes = [
        _take_in_order(rows, order, share)
        for order in (np.lexsort((-rows.sum(axis=0), -found.x)), _order_greedily(rows, share))
    ]
    return min(sizes) + float(found.fun) / (count + 1)


def _order_greedily(shares: NDArray[np.float64], share: float) -> NDArray[np.int64]:
    """Order experts by how much each adds to what the labels still miss."""
    missing, remaining = np.full(len(shares), share), shares.copy()
    order = []
    for _ in range(shares.shape[1]):
        best = int(np.minimum(remaining, missing[:, None]).sum(axis=0).argmax())
        missing = np.maximum(missing - remaining[:, best], 0.0)
        remaining[:, best] = -1.0  # not again
        order.append(best)
        if not (missing > ROUNDING).any():
            break
    return np.array(order)


def _take_greedily(shares: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return the experts that a greedy order takes until every label has its share, bool [expert]."""
    taken = np.zeros(shares.shape[1], dtype=bool)
    taken[_order_greedily(shares, share)] = True
    return taken


def _take_in_order(shares: NDArray[np.float64], order: NDArray[np.int64], share: float) -> int:
    """Count the first experts of an order that hold the share of every label, without those that are not needed."""
    held = np.cumsum(shares[:, order], axis=1)
    most = min(int((held.min(axis=0) < share - ROUNDING).sum()) + 1, len(order))
    total, size = held[:, most - 1], most
    for expert in order[:most][::-1]:
        if (total - shares[:, expert] >= share - ROUNDING).all():
            total, size = total - shares[:, expert], size - 1
    return size


def _round_up(relaxed: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.ceil(relaxed - ROUNDING))


def _find_groups(shares: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the most used experts of each label, bool [label, expert]; of equally used ones the first."""
    ranks = np.argsort(np.argsort(-shares, axis=1, kind="stable"), axis=1)
    return np.asarray(ranks < sizes[:, None])


def _solve(
    costs: NDArray[np.float64], shares: NDArray[np.float64], share: float, *more: LinearConstraint, gap: float
) -> tuple[NDArray[np.bool_] | None, float]:
    """Find the set of experts of the lowest cost that holds the share of every label, bool [expert], and its bound.

    The cost is the lowest up to a share ``gap`` of it. The set is None if none was found within `MOST_NODES` nodes.
    """
    with _without_output():
        found = milp(
            costs,
            constraints=[LinearConstraint(shares, lb=share - ROUNDING), *more],
            integrality=np.ones(len(costs)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": gap, "node_limit": MOST_NODES, "presolve": False},
        )
    return None if found.x is None else np.asarray(found.x > 0.5), float(found.mip_dual_bound or -np.inf)


@contextmanager
def _without_output() -> Iterator[None]:
    """Hide the lines that HiGHS may print to the standard output, which Python cannot redirect."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
