"""Pseudo-values of two routers over the same blocks of documents, for paired differences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
        second: pseudo-values of the second side, float64 [block].
        unit: unit of the statistic.
        n_tokens: number of tokens routed by at least one side; for labels of documents, by the first side.
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
    sides: tuple[LayerInput, LayerInput], annotations: "Sequence[Annotation]", *, num_blocks: int, alike: bool
) -> Iterator[tuple[Key, Replicates]]:
    """Yield the pseudo-values of each statistic that both sides have, by label set and metric.

    Blocks depend on labels and tokens only, not on routing, so that they are the same for all layers and means over
    layers can be taken block by block. Annotations for which a side routed no labelled unit are skipped.

    Args:
        sides: the routing decisions of both sides.
        annotations: the labels; labels of tokens require `alike`.
        num_blocks: maximum number of document blocks.
        alike: whether both sides have the same tokens; otherwise only labels of documents are measured.

    Yields:
        ((label set, metric), pseudo-values); the label set is None for metrics without labels.
    """
    if alike:
        yield from _replicate_routing(sides, num_blocks=num_blocks)
    for annotation in annotations:
        count = _label_tokens if annotation.level == "token" else _label_documents
        tables, n_tokens, n_documents = count(sides, annotation, num_blocks)
        if not all(table.any() for table in tables):
            continue
        values = [pseudo_values(table, _of_labels) for table in tables]
        for column, (metric, unit) in enumerate(_OF_LABELS.items()):
            first, second = (each[:, column] for each in values)
            yield (annotation.name, metric), Replicates(first, second, unit, n_tokens, n_documents)


def _of_labels(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([mutual_information(counts), uncertainty_coefficient(counts)], axis=-1)


def _replicate_routing(sides: tuple[LayerInput, LayerInput], *, num_blocks: int) -> Iterator[tuple[Key, Replicates]]:
    documents = sides[0].documents
    cut = block_tokens(documents, groups=sides[0].groups, num_blocks=num_blocks)
    blocks = np.full(int(documents[-1]) + 1, -1, dtype=np.int32)
    blocks[documents] = cut.token_blocks
    entropies, repeats = [], []
    for side in sides:
        experts = side.experts
        loads = count_blocks(
            np.zeros(len(documents), dtype=np.int32),
            experts,
            blocks=cut.token_blocks,
            num_labels=1,
            num_experts=side.num_experts,
            num_blocks=cut.num_blocks,
            weights=side.weights,
            rule=side.rule,
        )
        entropies.append(pseudo_values(loads, load_entropy))
        counts = count_repeats(
            experts,
            documents,
            blocks,
            num_experts=side.num_experts,
            sequences=side.sequences,
            positions=side.positions,
        )
        repeats.append(pseudo_values(counts, repeat_shares))
    counted = _count_routed(sides, documents)
    yield (None, "load_entropy"), Replicates(entropies[0], entropies[1], "bits", *counted)
    for column, metric in enumerate(_REPEATS):
        first, second = (each[:, column] for each in repeats)
        yield (None, metric), Replicates(first, second, "share of neighbours", *counted)


def _label_tokens(
    sides: tuple[LayerInput, LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count tables float64 [block, label, expert] of both sides over the labelled tokens."""
    labelled = annotation.codes >= 0
    cut = block_tokens(sides[0].documents[labelled], groups=sides[0].groups, num_blocks=num_blocks)
    tables = []
    for side in sides:
        weights = side.weights
        tables.append(
            count_blocks(
                annotation.codes[labelled],
                side.experts[labelled],
                blocks=cut.token_blocks,
                num_labels=len(annotation.labels),
                num_experts=side.num_experts,
                num_blocks=cut.num_blocks,
                weights=None if weights is None else weights[labelled],
                rule=side.rule,
            )
        )
    return tables, *_count_routed(sides, sides[0].documents, labelled)


def _label_documents(
    sides: tuple[LayerInput, LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count tables float64 [block, label, expert] of both sides; each labelled document that both routed adds 1."""
    documents = len(annotation.codes)
    usages = []
    for side in sides:
        experts, masses = spread_mass(side.experts, side.weights, rule=side.rule)
        usage = count_usage(
            experts, masses, as_codes(side.documents), num_documents=documents, num_experts=side.num_experts
        )
        usages.append(usage)
    routed = [usage.sum(axis=1) for usage in usages]
    present = [np.bincount(side.documents, minlength=documents) > 0 for side in sides]
    labelled = np.flatnonzero((annotation.codes >= 0) & present[0] & present[1])
    blocks = assign_blocks(group_documents(labelled, sides[0].groups), num_blocks=num_blocks)
    both = (routed[0] > 0)[labelled] & (routed[1] > 0)[labelled]
    kept = labelled[both]
    tables = []
    for usage, total in zip(usages, routed, strict=True):
        table = np.zeros((int(blocks.max(initial=-1)) + 1, len(annotation.labels), usage.shape[1]))
        np.add.at(table, (blocks[both], annotation.codes[kept]), usage[kept] / total[kept, None])
        tables.append(table)
    return tables, round(float(routed[0][kept].sum())), len(kept)


def _count_routed(
    sides: tuple[LayerInput, LayerInput], documents: NDArray[np.integer], kept: NDArray[np.bool_] | bool = True
) -> tuple[int, int]:
    """Count the tokens with an expert on at least one side, and their documents."""
    routed = (sides[0].routed | sides[1].routed) & kept
    return int(routed.sum()), len(np.unique(documents[routed]))
