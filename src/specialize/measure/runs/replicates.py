"""Pseudo-values of two routers over the same blocks of documents, for paired differences."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.blocks import assign_blocks, block_tokens, group_documents
from specialize.measure.base.counting import as_codes, count_blocks, count_usage, spread_mass
from specialize.measure.base.information import load_entropy, mutual_information, uncertainty_coefficient
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.base.pairing import Difference, estimate_difference, pseudo_values
from specialize.measure.estimators.repeats import count_repeats, repeat_shares

if TYPE_CHECKING:
    from specialize.annotation import Annotation

Key = tuple[str | None, str]
_REPEATS = ("first_expert_repeats", "any_expert_repeats")
_OF_LABELS = {"mutual_information": "bits", "uncertainty_coefficient": "share of H(label)"}


@dataclass(frozen=True)
class Replicates:
    """Jackknife pseudo-values of one statistic on two sides, over the same blocks of documents.

    Attributes:
        first: pseudo-values of the first side, float64 [block].
        second: pseudo-values of the second side, float64 [block]; of several routers their mean.
        unit: unit of the statistic.
        n_tokens: number of tokens routed by at least one router; for labels of documents, by the first side.
        n_documents: number of documents with such tokens.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    unit: str
    n_tokens: int
    n_documents: int

    def difference(self, margin: float | None) -> Difference:
        """Estimate and test the difference, first minus second; see `estimate_difference`."""
        return estimate_difference(
            self.first,
            self.second,
            unit=self.unit,
            margin=margin,
            n_tokens=self.n_tokens,
            n_documents=self.n_documents,
        )


def replicate(
    routers: Sequence[LayerInput], annotations: "Sequence[Annotation]", *, num_blocks: int, alike: bool
) -> Iterator[tuple[Key, Replicates]]:
    """Yield the pseudo-values of each statistic that both sides have, by label set and metric.

    Blocks depend on labels and tokens only, not on routing, so that they are the same for all layers and means over
    layers can be taken block by block. Annotations for which a router routed no labelled unit are skipped.

    Args:
        routers: the routing decisions of the first side, then those of the second side's router, or of its several
            routers, of whose pseudo-values the mean is taken.
        annotations: the labels; labels of tokens require `alike`.
        num_blocks: maximum number of document blocks.
        alike: whether both sides have the same tokens; otherwise only labels of documents are measured.

    Yields:
        ((label set, metric), pseudo-values); the label set is None for metrics without labels.
    """
    if alike:
        yield from _replicate_routing(routers, num_blocks=num_blocks)
    for annotation in annotations:
        tables, n_tokens, n_documents = count_labels(routers, annotation, num_blocks=num_blocks)
        if not all(table.any() for table in tables):
            continue
        values = np.stack([pseudo_values(table, _of_labels) for table in tables])
        for column, (metric, unit) in enumerate(_OF_LABELS.items()):
            yield (annotation.name, metric), _sides(values[..., column], unit, n_tokens, n_documents)


def count_labels(
    routers: Iterable[LayerInput], annotation: "Annotation", *, num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count the labels at the experts of several routers, over the same blocks of documents.

    Args:
        routers: their routing decisions, of the same tokens if the labels are of tokens; one at a time is in use.
        annotation: the labels.
        num_blocks: maximum number of document blocks.

    Returns:
        A table float64 [block, label, expert] for each router; the numbers of tokens and of documents counted.
    """
    count = _label_tokens if annotation.level == "token" else _label_documents
    return count(routers, annotation, num_blocks)


def _sides(values: NDArray[np.float64], unit: str, n_tokens: int, n_documents: int) -> Replicates:
    """Return the pseudo-values [router, block] of the first router, and the mean of those of the others."""
    return Replicates(values[0], values[1:].mean(axis=0), unit, n_tokens, n_documents)


def _of_labels(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([mutual_information(counts), uncertainty_coefficient(counts)], axis=-1)


def _replicate_routing(routers: Sequence[LayerInput], *, num_blocks: int) -> Iterator[tuple[Key, Replicates]]:
    documents = routers[0].documents
    cut = block_tokens(documents, groups=routers[0].groups, num_blocks=num_blocks)
    blocks = np.full(int(documents[-1]) + 1, -1, dtype=np.int32)
    blocks[documents] = cut.token_blocks
    entropies, repeats = [], []
    for router in routers:
        experts = router.experts
        loads = count_blocks(
            np.zeros(len(documents), dtype=np.int32),
            experts,
            blocks=cut.token_blocks,
            num_labels=1,
            num_experts=router.num_experts,
            num_blocks=cut.num_blocks,
            weights=router.weights,
            rule=router.rule,
        )
        entropies.append(pseudo_values(loads, load_entropy))
        if not router.has_tokens:
            continue
        counts = count_repeats(
            experts,
            documents,
            blocks,
            num_experts=router.num_experts,
            sequences=router.sequences,
            positions=router.positions,
        )
        repeats.append(pseudo_values(counts, repeat_shares))
    routed = np.logical_or.reduce([router.routed for router in routers])
    n_tokens = int(routed.sum())
    if not routers[0].has_tokens and routers[0].weights is not None:
        n_tokens = round(float(routers[0].weights.sum()))
    counted = n_tokens, len(np.unique(documents[routed]))
    yield (None, "load_entropy"), _sides(np.stack(entropies), "bits", *counted)
    if not repeats:  # there are no tokens
        return
    for column, metric in enumerate(_REPEATS):
        yield (None, metric), _sides(np.stack(repeats)[..., column], "share of neighbours", *counted)


def _label_tokens(
    routers: Iterable[LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count tables float64 [block, label, expert] of all routers over the labelled tokens."""
    labelled = annotation.codes >= 0
    remaining = iter(routers)
    first = next(remaining)
    documents = first.documents[labelled]
    cut = block_tokens(documents, groups=first.groups, num_blocks=num_blocks)
    codes, routed, tables = annotation.codes[labelled], np.zeros(len(documents), dtype=bool), []
    for router in chain([first], remaining):
        experts, weights = router.experts[labelled], router.weights
        tables.append(
            count_blocks(
                codes,
                experts,
                blocks=cut.token_blocks,
                num_labels=len(annotation.labels),
                num_experts=router.num_experts,
                num_blocks=cut.num_blocks,
                weights=None if weights is None else weights[labelled],
                rule=router.rule,
            )
        )
        routed |= (experts >= 0).any(axis=1)
    return tables, int(routed.sum()), len(np.unique(documents[routed]))


def _label_documents(
    routers: Iterable[LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count tables float64 [block, label, expert] of all routers; each labelled document that all routed adds 1."""
    documents = len(annotation.codes)
    usages, present, groups = [], np.ones(documents, dtype=bool), None
    for router in routers:
        groups = router.groups
        experts, masses = spread_mass(router.experts, router.weights, rule=router.rule)
        usage = count_usage(
            experts, masses, as_codes(router.documents), num_documents=documents, num_experts=router.num_experts
        )
        usages.append(usage)
        present &= np.bincount(router.documents, minlength=documents) > 0
    routed = [usage.sum(axis=1) for usage in usages]
    labelled = np.flatnonzero((annotation.codes >= 0) & present)
    blocks = assign_blocks(group_documents(labelled, groups), num_blocks=num_blocks)
    by_all = np.all([total[labelled] > 0 for total in routed], axis=0)
    kept = labelled[by_all]
    tables = []
    for usage, total in zip(usages, routed, strict=True):
        table = np.zeros((int(blocks.max(initial=-1)) + 1, len(annotation.labels), usage.shape[1]))
        np.add.at(table, (blocks[by_all], annotation.codes[kept]), usage[kept] / total[kept, None])
        tables.append(table)
    return tables, round(float(routed[0][kept].sum())), len(kept)
