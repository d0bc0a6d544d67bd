"""Every quantity of the result schema that has an interval or a p-value, measured on a data set, and its true value."""

from collections.abc import Collection, Iterator
from typing import Any, TypeAlias

import numpy as np
from analyses.calibration.populations import Floats, Integers, Population, Sample
from analyses.calibration.routing_quantities import (
    EXPECTED_PREDICTIONS,
    measure_label_usage,
    measure_mean,
    measure_predictions,
    true_mean,
    true_overlap,
    true_signatures,
)
from scipy import sparse

from specialize.measure import (
    Estimate,
    EstimateArray,
    entropy,
    estimate_difference,
    measure_balance,
    measure_coactivation,
    measure_conditional_information,
    measure_domain_specialization,
    measure_flow,
    measure_layer,
    measure_repeats,
    measure_saturation,
    measure_vocabulary,
    pseudo_values,
)
from specialize.measure.base.blocks import block_tokens, divide
from specialize.measure.base.counting import count_blocks
from specialize.measure.base.information import (
    lift,
    load_entropy,
    mutual_information,
    specific_information,
    uncertainty_coefficient,
)
from specialize.measure.estimators.probes import PathProbe, probe_paths
from specialize.measure.estimators.word_baseline import Baseline
from specialize.measure.runs.specialization import largest_uncertainty

Measured: TypeAlias = Estimate | EstimateArray
LARGE = (
    50  # times as many documents in the data set that replaces a closed form, whose error is a seventh of a data set's
)
PROBE_PERMUTATIONS = 19
PARTS = ("association", "prediction")  # whose rows can be measured apart, on the same data sets
_PROBES = {
    "linear": "probe_accuracy",
    "majority": "baseline_accuracy, majority",
    "word_form": "baseline_accuracy, word form",
    "control": "control_accuracy",
    "selectivity": "selectivity",
    "beyond_word_form": "probe_beyond_word_form",
}
# Their true value is the mean over the data sets: the expected accuracy of probes that are fitted on as many documents.
EXPECTED = EXPECTED_PREDICTIONS.union(_PROBES.values())


def true_values(population: Population, *, repeats: bool = True) -> dict[str, Any]:
    """Return the true value of each quantity, an array of the shape of its estimates.

    Values are those of the exact joint distribution, but for repeats and similarities of documents, which are those of
    a data set `LARGE` times as large; without ``repeats`` these are left out.
    """
    design, mass = population.design, population.mass()
    k, joint = design.top_k, mass.sum(axis=1)
    load, by_label = joint.sum(axis=0), joint.sum(axis=1)
    transitions, second = population.transitions(), population.mass(second=True).sum(axis=1)
    members, words = population.membership(), population.pairs.sum(axis=0)
    by_word = np.einsum("yw,ywe->we", population.pairs, members) / words[:, None]
    chosen = words @ by_word
    squares = words @ by_word**2
    truth: dict[str, Any] = {
        "mutual_information": mutual_information(joint),
        "uncertainty_coefficient": uncertainty_coefficient(joint),
        "label_entropy": entropy(by_label),
        "load_entropy": entropy(load),
        "load": load,
        "load_variation": load.std() / load.mean(),
        "load_peak": load.max() / load.mean(),
        "specific_information": specific_information(joint),
        "lift": lift(joint),
        "ambiguous_mutual_information": mutual_information(joint),
        "ambiguous_word_information": mutual_information(mass.sum(axis=0)),
        # I(E; Y, W) - I(E; W)
        "conditional_information": mutual_information(mass.reshape(-1, design.experts))
        - mutual_information(mass.sum(axis=0)),
        "flow_mutual_information": mutual_information(transitions),
        "flow_uncertainty_coefficient": uncertainty_coefficient(transitions.T),
        "transition": divide(transitions, np.broadcast_to(transitions.sum(axis=1, keepdims=True), transitions.shape)).T,
        "saturation": population.saturation(),
        "coactivation": population.coactivation(),
        "vocabulary_specialization": squares.sum() / chosen.sum(),
        "vocabulary_specialization_above_load": squares.sum() / chosen.sum() - (chosen**2).sum() / chosen.sum(),
        "vocabulary_specialization, expert": squares / chosen,
        "vocabulary_specialization_above_load, expert": squares / chosen - chosen,
        "domain_specialization": np.einsum("yw,ywe->ye", population.pairs, members) / by_label[:, None],
        "label_overlap": true_overlap(joint),
        "mean by label": true_mean(population),
        "difference of mutual_information": mutual_information(joint) - mutual_information(second),
        "difference of uncertainty_coefficient": uncertainty_coefficient(joint) - uncertainty_coefficient(second),
        "difference of load_entropy": entropy(load) - entropy(second.sum(axis=0)),
    }
    truth["equivalence of uncertainty_coefficient"] = truth["difference of uncertainty_coefficient"]
    shares = np.sort(joint / by_label[:, None], axis=1)[:, -k:].sum(axis=1)
    excess = np.sort(joint / by_label[:, None] - load, axis=1)[:, -k:].sum(axis=1)
    for name, each in (("", shares), ("_above_uniform", shares - k / design.experts), ("_above_load", excess)):
        truth[f"top_expert_share{name}"], truth[f"top_expert_share{name}, all labels"] = each, by_label @ each
    if repeats:
        truth |= true_signatures(population, LARGE * design.documents)
    if repeats and design.level == "token":
        large = population.draw(2**31, LARGE * design.documents)
        (found_repeats,) = measure_repeats(large.experts, large.documents, num_experts=design.experts, permutations=0)
        for name, found in _repeats(found_repeats):
            truth[name] = found.value
    return truth


def measure(
    population: Population,
    sample: Sample,
    *,
    permutations: int,
    seed: int,
    probes: bool = True,
    parts: Collection[str] = PARTS,
) -> Iterator[tuple[str, Measured]]:
    """Yield the estimates of each quantity of some parts, with or without those of probes, which take most of the time.

    Without permutations, these include the differences from another layer.
    """
    options = {"permutations": permutations, "seed": seed}
    if "association" in parts:
        yield from _measure_association(population, sample, options)
        if not permutations:
            yield from differences(population, sample)
        if population.design.probes and probes:
            yield from _probe(population, sample, null=permutations > 0, seed=seed)
    if "prediction" in parts:
        yield "mean by label", measure_mean(population, sample, options)
        if population.design.level == "document":
            yield from measure_label_usage(population, sample, options)
        else:
            yield from measure_predictions(population, sample, _in_order(sample, options), options)


def _measure_association(
    population: Population, sample: Sample, options: dict[str, Any]
) -> Iterator[tuple[str, Measured]]:
    design, permutations = population.design, options["permutations"]
    sizes = {"num_labels": design.labels, "num_experts": design.experts}
    weighted = {"weights": sample.weights, "rule": design.rule}
    layer = measure_layer(
        sample.codes, sample.experts, sample.documents, level=design.level, **sizes, **weighted, **options
    )
    for name in ("mutual_information", "uncertainty_coefficient", "label_entropy", "load_entropy", "load",
                 "specific_information", "lift"):  # fmt: skip
        yield name, getattr(layer, name)
    if layer.composition is not None:
        for part in ("top_share", "above_uniform", "above_load"):
            name, found = f"top_expert_share_{part}".replace("_top_share", ""), getattr(layer.composition, part)
            yield name, found.part(np.s_[:-1])
            yield f"{name}, all labels", found[-1]
    if permutations:
        other = measure_layer(sample.codes, sample.following, sample.documents, level=design.level, **sizes, **options)
        yield "max_uncertainty_coefficient", largest_uncertainty([layer, other])
    conditional = measure_conditional_information(
        sample.codes, sample.words, sample.experts, sample.documents, level=design.level, **sizes, **weighted, **options
    )
    yield "conditional_information", conditional.conditional_information
    yield "ambiguous_mutual_information", conditional.mutual_information
    yield "ambiguous_word_information", conditional.word_information
    if design.level == "document":
        yield (
            "domain_specialization",
            measure_domain_specialization(sample.codes, sample.experts, sample.documents, **sizes, **options),
        )
    else:
        yield from _measure_routing(population, sample, weighted, options)


def _measure_routing(
    population: Population, sample: Sample, weighted: dict[str, Any], options: dict[str, Any]
) -> Iterator[tuple[str, Measured]]:
    size, documents = population.design.experts, sample.documents
    words = measure_vocabulary(sample.words, sample.experts, documents, num_experts=size, **options)
    yield "vocabulary_specialization", words.specialization
    yield "vocabulary_specialization_above_load", words.above_load
    yield "vocabulary_specialization, expert", words.expert_specialization
    yield "vocabulary_specialization_above_load, expert", words.expert_above_load
    flow = measure_flow(sample.experts, sample.following, documents, num_experts=size, num_following=size, **options)
    yield "flow_mutual_information", flow.mutual_information
    yield "flow_uncertainty_coefficient", flow.uncertainty_coefficient
    yield "transition", flow.transitions
    (repeats,) = measure_repeats(_in_order(sample, options), documents, num_experts=size, **options)
    yield from _repeats(repeats)
    balance = measure_balance(sample.experts, documents, num_experts=size, **weighted)
    yield "load_variation", balance.variation
    yield "load_peak", balance.peak
    yield "saturation", measure_saturation(sample.experts, sample.later, documents, num_experts=size)
    if population.design.top_k > 1:
        yield "coactivation", measure_coactivation(sample.experts, documents, num_experts=size)


def _in_order(sample: Sample, options: dict[str, Any]) -> Integers:
    """Return the experts of the tokens; under the null, in random order within their documents."""
    if not options["permutations"]:
        return sample.experts
    order = np.random.default_rng(options["seed"]).random(len(sample.documents))
    return sample.experts[np.lexsort((order, sample.documents))]


def _repeats(repeats: Any) -> Iterator[tuple[str, Measured]]:
    yield "first_expert_repeats", repeats.first
    yield "any_expert_repeats", repeats.shared
    yield "first_expert_repeats_chance", repeats.first_chance
    yield "any_expert_repeats_chance", repeats.shared_chance


def equivalence(population: Population, sample: Sample) -> Estimate:
    """Test the equivalence of both layers with their true difference as the margin: the edge of the null hypothesis."""
    sides = (
        _pseudo_values(population, sample, each, uncertainty_coefficient) for each in (sample.experts, sample.following)
    )
    tested = estimate_difference(*sides, unit="share of H(label)", margin=abs(float(population.margin))).equivalence
    assert tested is not None
    return tested


def differences(population: Population, sample: Sample, *, twin: bool = False) -> Iterator[tuple[str, Measured]]:
    """Compare the layer with the second layer or, where there must be no difference, with its twin."""
    statistics = {
        "mutual_information": mutual_information,
        "uncertainty_coefficient": uncertainty_coefficient,
        "load_entropy": load_entropy,
    }
    for name, statistic in statistics.items():
        layer = _pseudo_values(population, sample, sample.experts, statistic)
        other = _pseudo_values(population, sample, sample.twin if twin else sample.following, statistic)
        yield f"difference of {name}", estimate_difference(layer, other, unit="").difference
    if not twin:
        yield "equivalence of uncertainty_coefficient", equivalence(population, sample)


def _pseudo_values(population: Population, sample: Sample, experts: Integers, statistic: Any) -> Floats:
    design, cut = population.design, block_tokens(sample.documents)
    tables = count_blocks(
        sample.codes if design.level == "token" else sample.codes[sample.documents], experts, blocks=cut.token_blocks,
        num_labels=design.labels, num_experts=design.experts, num_blocks=cut.num_blocks, weights=sample.weights,
        rule=design.rule,
    )  # fmt: skip
    return pseudo_values(tables / design.tokens if design.level == "document" else tables, statistic)


def _probe(population: Population, sample: Sample, *, null: bool, seed: int) -> Iterator[tuple[str, Measured]]:
    design, tokens = population.design, len(sample.words)
    sides = [
        np.where(side < 0, -1, side + first)
        for side, first in ((sample.experts, 0), (sample.following, design.experts))
    ]
    paths = np.concatenate(sides, axis=1)
    rows, slots = np.nonzero(paths >= 0)
    features = sparse.csr_array((np.ones(len(rows)), (rows, paths[rows, slots])), shape=(tokens, 2 * design.experts))
    if design.level == "document":
        usage = features.toarray().reshape(design.documents, design.tokens, -1).mean(axis=1)
        usage = (usage - usage.mean(axis=0)) / np.maximum(usage.std(axis=0), 1e-9)
        permutations = PROBE_PERMUTATIONS if null else 0
        found = probe_paths(
            sample.codes, usage, np.arange(design.documents), mlp=False, permutations=permutations, seed=seed
        )
    elif null:
        return
    else:
        words = Baseline(sample.words.astype(np.int64), sample.codes, sample.documents, np.arange(tokens))
        found = probe_paths(sample.codes, features, sample.documents, baseline=words, mlp=False, seed=seed)
    yield from _probe_rows(found)


def _probe_rows(found: PathProbe) -> Iterator[tuple[str, Measured]]:
    for attribute, name in _PROBES.items():
        if getattr(found, attribute) is not None:
            yield name, getattr(found, attribute)
