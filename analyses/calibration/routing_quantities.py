"""Quantities of `specialize routing` beside load, repeats, co-activation and flow, measured on a data set."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from analyses.calibration.populations import Floats, Integers, Population, Sample

from specialize.measure import (
    Estimate,
    EstimateArray,
    measure_cache,
    measure_committee,
    measure_label_means,
    measure_label_overlap,
    measure_next_layer_recall,
    measure_same_token,
    measure_signatures,
)

Measured: TypeAlias = Estimate | EstimateArray
_CACHES = {"lru_hit_rate": "recent", "optimal_hit_rate": "optimal", "segment_coverage": "segments"}
_SAME = {"same_token_overlap": "same", "any_token_overlap": "any", "same_token_overlap_above_any": "difference"}
_SIGNATURES = {"signature_within": "within", "signature_between": "between", "signature_difference": "difference"}
_RECALLS = ("next_layer_recall", "next_layer_recall_above_load")
SEGMENT = 16  # tokens; documents of some designs have 20
# Their true value is the mean over the data sets: of caches that start empty in documents of one length, and of scores
# that are fitted on as many documents.
EXPECTED_PREDICTIONS = frozenset({*_CACHES, *_SAME, *_RECALLS})


def measure_predictions(
    population: Population, sample: Sample, shuffled: Integers, options: dict[str, Any]
) -> Iterator[tuple[str, Measured]]:
    """Yield what predicts the experts of a token; ``shuffled`` are its experts or, under the null, in random order."""
    size, documents = population.design.experts, sample.documents
    cached = measure_cache(shuffled, documents, num_experts=size, segment=SEGMENT, **options)
    for name, part in _CACHES.items():
        yield name, getattr(cached, part)
    same = measure_same_token(sample.words, sample.experts, documents, num_experts=size, **options)
    for name, part in _SAME.items():
        yield name, getattr(same, part)
    recall = measure_next_layer_recall(
        sample.experts, sample.following, documents, num_experts=size, num_following=size
    )
    yield from zip(_RECALLS, (recall.recall, recall.above_load), strict=True)


def measure_label_usage(
    population: Population, sample: Sample, options: dict[str, Any]
) -> Iterator[tuple[str, Measured]]:
    """Yield the quantities of labels of documents that need no more than the usage of each document."""
    usage, how = _count(population, sample), {"num_labels": population.design.labels, **options}
    committee = measure_committee(usage, sample.codes, **how | {"permutations": min(options["permutations"], 19)})
    yield "committee_size", committee.sizes
    yield "common_committee_size", committee.common_size
    yield "label_overlap", measure_label_overlap(usage, sample.codes, **how)
    signatures = measure_signatures(usage, sample.codes, **how)
    for name, part in _SIGNATURES.items():
        yield name, getattr(signatures, part)


def measure_mean(population: Population, sample: Sample, options: dict[str, Any]) -> EstimateArray:
    """Measure a mean by label, of whether a token's first expert has an even number."""
    first = sample.experts[:, 0]
    values = np.where(first >= 0, (first % 2 == 0).astype(float), np.nan)
    design = population.design
    return measure_label_means(
        values, sample.codes, sample.documents, level=design.level, num_labels=design.labels, **options
    )


def true_mean(population: Population) -> Floats:
    """Return the share of the tokens of each label whose first expert has an even number."""
    even = (population.sets[:, 0] % 2 == 0).astype(float)
    return (population.pairs * (population.set_given_pair @ even)).sum(axis=1) / population.pairs.sum(axis=1)


def true_overlap(joint: Floats) -> Floats:
    """Return the overlap of labels, [label, label], from P(label, expert)."""
    shares = joint / joint.sum(axis=1, keepdims=True)
    least, most = (change(shares[:, None], shares[None]).sum(axis=-1) for change in (np.minimum, np.maximum))
    return np.where(np.eye(len(shares), dtype=bool), np.nan, least / most)


def true_signatures(population: Population, documents: int) -> dict[str, float]:
    """Return the similarities of a large data set; NaN where labels are of tokens."""
    if population.design.level == "token":
        return dict.fromkeys(_SIGNATURES, np.nan)
    large = population.draw(2**31, documents)
    found = measure_signatures(
        _count(population, large), large.codes, num_labels=population.design.labels, permutations=0
    )
    return {name: getattr(found, part).value for name, part in _SIGNATURES.items()}


def _count(population: Population, sample: Sample) -> Floats:
    """Count the slots of each document at each expert, [documents, experts]."""
    usage = np.zeros((len(sample.codes), population.design.experts))
    rows, slots = np.nonzero(sample.experts >= 0)
    np.add.at(usage, (sample.documents[rows], sample.experts[rows, slots]), 1.0)
    return usage
