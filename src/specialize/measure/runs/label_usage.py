"""Rows of a router by labels of documents: the groups of experts that labels use, their overlap, and signatures."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specialize.annotation import NO_LABEL, Annotation
from specialize.measure.base.layer_input import LayerInput
from specialize.measure.estimators.committee import measure_committee
from specialize.measure.estimators.label_overlap import measure_label_overlap
from specialize.measure.estimators.observed import sum_usage
from specialize.measure.estimators.signatures import measure_signatures
from specialize.measure.results.rows import estimate_rows

_MOST_LABELS = 64  # of which every pair has a row
_SIGNATURES = {
    "signature_within": "within",
    "signature_between": "between",
    "signature_difference": "difference",
}


def label_usage_rows(layer: LayerInput, annotation: Annotation, settings: dict[str, int]) -> Iterator[pd.DataFrame]:
    """Yield the rows of one router and one annotation of documents; none where no labelled document was routed.

    Args:
        layer: the routing decisions of the router.
        annotation: labels of documents.
        settings: permutations, num_blocks and seed of the estimators.
    """
    usage = sum_usage(layer, len(annotation.codes))
    routed = usage.sum(axis=1) > 0
    if not (routed & (annotation.codes != NO_LABEL)).any():
        return
    how: dict[str, Any] = {"num_labels": len(annotation.labels), "groups": layer.groups, **settings}
    for rows in (
        *_committee_rows(usage, annotation, how),
        _overlap_rows(usage, annotation, routed, how),
        *_signature_rows(usage, annotation, how),
    ):
        yield rows.assign(label_set=annotation.name)


def _committee_rows(usage: NDArray[np.float64], annotation: Annotation, how: dict[str, Any]) -> Iterator[pd.DataFrame]:
    committee = measure_committee(usage, annotation.codes, **how)
    yield estimate_rows(committee.common_size, "common_committee_size")
    members = estimate_rows(committee.load, "common_committee_load")
    yield members[committee.common_group]
    for estimates, metric in ((committee.sizes, "committee_size"), (committee.common_mass, "common_committee_mass")):
        rows = estimate_rows(estimates, metric).drop(columns="expert").assign(label=list(annotation.labels))
        yield rows[rows["value"].notna()]


def _overlap_rows(
    usage: NDArray[np.float64], annotation: Annotation, routed: NDArray[np.bool_], how: dict[str, Any]
) -> pd.DataFrame:
    """Return a row for each pair of labels, of at most `_MOST_LABELS` labels, those of most documents."""
    counts = np.bincount(annotation.codes[routed & (annotation.codes != NO_LABEL)], minlength=how["num_labels"])
    kept = np.sort(np.argsort(-counts, kind="stable")[:_MOST_LABELS])
    place = np.full(how["num_labels"] + 1, NO_LABEL)  # the last entry is that of NO_LABEL
    place[kept] = np.arange(len(kept))
    overlap = measure_label_overlap(usage, place[annotation.codes], **how | {"num_labels": len(kept)})
    names = [annotation.labels[code] for code in kept]
    first, second = np.triu_indices(len(kept), 1)
    pairs = [f"{names[one]} × {names[other]}" for one, other in zip(first, second, strict=True)]
    rows = estimate_rows(overlap.part((first, second)), "label_overlap").drop(columns="expert").assign(label=pairs)
    return rows[rows["value"].notna()]


def _signature_rows(usage: NDArray[np.float64], annotation: Annotation, how: dict[str, Any]) -> Iterator[pd.DataFrame]:
    signatures = measure_signatures(usage, annotation.codes, **how)
    for metric, name in _SIGNATURES.items():
        rows = estimate_rows(getattr(signatures, name), metric)
        yield rows[rows["value"].notna()]  # none where there is no pair of that kind
