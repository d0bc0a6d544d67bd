"""Pseudo-values of two routers over the same blocks of documents, for paired differences."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specialize.measure.base.blocks import assign_blocks, group_documents
from specialize.measure.base.counting import add_to, as_codes, check_range, spread_mass
from specialize.measure.base.information import mutual_information, uncertainty_coefficient
from specialize.measure.base.layer_input import LayerInput, block_documents
from specialize.measure.base.pairing import Difference, estimate_difference, pseudo_values
from specialize.measure.base.routed import RoutedCount
from specialize.measure.estimators.observed import count_labelled, sum_usage
from specialize.measure.estimators.signatures import count_similarities, mean_similarities

if TYPE_CHECKING:
    from specialize.annotation import Annotation

Key = tuple[str | None, str]
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
        note: appended to the description of intervals.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    unit: str
    n_tokens: int
    n_documents: int
    note: str = ""

    @classmethod
    def of(
        cls, values: NDArray[np.float64], unit: str, n_tokens: int, n_documents: int, note: str = ""
    ) -> "Replicates":
        """Take pseudo-values [router, block] of the first side's router, and the mean of those of the others."""
        return cls(values[0], values[1:].mean(axis=0), unit, n_tokens, n_documents, note)

    def difference(self, margin: float | None) -> Difference:
        """Estimate and test the difference, first minus second; see `estimate_difference`."""
        return estimate_difference(
            self.first,
            self.second,
            unit=self.unit,
            margin=margin,
            n_tokens=self.n_tokens,
            n_documents=self.n_documents,
            note=self.note,
        )


def replicate(
    routers: Sequence[LayerInput], annotations: "Sequence[Annotation]", *, num_blocks: int
) -> Iterator[tuple[Key, Replicates]]:
    """Yield the pseudo-values of each statistic of labels that both sides have, by label set and metric.

    Blocks depend on labels and tokens only, not on routing, so that they are the same for all layers and means over
    layers can be taken block by block. Annotations for which a router routed no labelled unit are skipped.

    Args:
        routers: the routing decisions of the first side, then those of the second side's router, or of its several
            routers, of whose pseudo-values the mean is taken.
        annotations: the labels; labels of tokens require that both sides have the same tokens.
        num_blocks: maximum number of document blocks.

    Yields:
        ((label set, metric), pseudo-values).
    """
    for annotation in annotations:
        tables, n_tokens, n_documents = count_labels(routers, annotation, num_blocks=num_blocks)
        if not all(table.any() for table in tables):
            continue
        values = np.stack([pseudo_values(table, _of_labels) for table in tables])
        for column, (metric, unit) in enumerate(_OF_LABELS.items()):
            yield (annotation.name, metric), Replicates.of(values[..., column], unit, n_tokens, n_documents)
        if annotation.level == "document":
            values = _replicate_similarity(routers, annotation, num_blocks)
            if np.isfinite(values).all():
                key = annotation.name, "signature_difference"
                yield key, Replicates.of(values, "cosine", n_tokens, n_documents)


def count_labels(
    routers: Iterable[LayerInput], annotation: "Annotation", *, num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count the labels at the experts of several routers, over the same blocks of documents.

    Args:
        routers: their routing decisions, of the same tokens if the labels are of tokens.
        annotation: the labels.
        num_blocks: maximum number of document blocks.

    Returns:
        A table float64 [block, label, expert] for each router; the numbers of tokens and of documents counted.
    """
    count = _label_tokens if annotation.level == "token" else _label_documents
    return count(routers, annotation, num_blocks)


def _of_labels(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([mutual_information(counts), uncertainty_coefficient(counts)], axis=-1)


def _label_tokens(
    routers: Iterable[LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count tables float64 [block, label, expert] of all routers over the labelled tokens."""
    everyone = list(routers)
    first, num_labels = everyone[0], len(annotation.labels)
    labelled = count_labelled(annotation.codes, first.counts, num_labels=num_labels)
    blocks = block_documents(labelled > 0, first.groups, num_blocks=num_blocks)
    size = int(blocks.max(initial=-1)) + 1
    tables = [np.zeros((size, num_labels, router.num_experts)) for router in everyone]
    counted = RoutedCount(len(first.counts))
    for parts in zip(*(router.parts() for router in everyone), strict=True):
        codes, documents = as_codes(annotation.codes[parts[0].rows]), parts[0].documents
        routed = np.zeros(len(codes), dtype=bool)
        for part, table in zip(parts, tables, strict=True):
            experts, masses = spread_mass(part.experts, part.weights, rule=part.rule)
            check_range("experts", experts, part.num_experts)
            add_to(table, codes, experts, masses, blocks[documents])
            routed |= part.routed
        counted.add(routed & (codes >= 0), documents)
    return tables, counted.tokens, counted.num_documents


def _label_documents(
    routers: Iterable[LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], int, int]:
    """Count tables float64 [block, label, expert] of all routers; each labelled document that all routed adds 1."""
    usages, kept, blocks, size = _use_by_document(routers, annotation, num_blocks)
    tables = []
    for usage in usages:
        table = np.zeros((size, len(annotation.labels), usage.shape[1]))
        np.add.at(table, (blocks, annotation.codes[kept]), usage / usage.sum(axis=1, keepdims=True))
        tables.append(table)
    return tables, round(float(usages[0].sum())), len(kept)


def _use_by_document(
    routers: Iterable[LayerInput], annotation: "Annotation", num_blocks: int
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64], NDArray[np.int32], int]:
    """Count the mass of each expert in the labelled documents that all routers routed.

    Returns:
        Usage float64 [document, expert] of each router, the numbers of the documents, the block of each, and the number
        of blocks, which are those of all labelled documents.
    """
    documents = len(annotation.codes)
    usages, present, groups = [], np.ones(documents, dtype=bool), None
    for router in routers:
        groups = router.groups
        usages.append(sum_usage(router, documents))
        present &= np.pad(router.counts, (0, documents - len(router.counts))) > 0
    labelled = np.flatnonzero((annotation.codes >= 0) & present)
    blocks = assign_blocks(group_documents(labelled, groups), num_blocks=num_blocks)
    by_all = np.all([usage[labelled].sum(axis=1) > 0 for usage in usages], axis=0)
    kept = labelled[by_all]
    return [usage[kept] for usage in usages], kept, blocks[by_all], int(blocks.max(initial=-1)) + 1


def _replicate_similarity(
    routers: Sequence[LayerInput], annotation: "Annotation", num_blocks: int
) -> NDArray[np.float64]:
    """Return the pseudo-values of the similarity of documents within − between labels, float64 [router, block]."""
    usages, kept, blocks, size = _use_by_document(routers, annotation, num_blocks)
    groups = routers[0].groups
    values = []
    for usage in usages:
        sums = np.zeros((size, len(annotation.labels), usage.shape[1] + 5))
        found = count_similarities(
            usage,
            annotation.codes[kept],
            num_labels=len(annotation.labels),
            groups=None if groups is None else groups[kept],
            blocks=blocks,
        )
        sums[: len(found)] = found  # the last blocks may have no document
        values.append(pseudo_values(sums, mean_similarities)[:, 2])
    return np.stack(values)
