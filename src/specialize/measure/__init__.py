"""Measures of expert specialization: contingency tables, information, intervals and nulls.

`base` and `estimators` compute on arrays with NumPy, SciPy and Numba. `runs` measures a whole trace, usually against
an annotation, and returns a tidy frame; `results` documents its columns. Names are imported on first use, so that
functions on arrays work where pandas or pyarrow are not installed.
"""

from typing import TYPE_CHECKING

from specialize.lazy import load_on_use

if TYPE_CHECKING:
    from specialize.choices import SlotRule
    from specialize.measure.base.blocks import assign_blocks, estimate_blocks
    from specialize.measure.base.counting import count_blocks, spread_mass
    from specialize.measure.base.estimate import Estimate, EstimateArray, jackknife
    from specialize.measure.base.information import (
        entropy,
        label_entropy,
        lift,
        load,
        load_entropy,
        mutual_information,
        specific_information,
        uncertainty_coefficient,
    )
    from specialize.measure.base.layer_input import LayerInput
    from specialize.measure.base.nulls import draw_permutations, draw_shifts, p_values
    from specialize.measure.base.pairing import estimate_difference, pseudo_values
    from specialize.measure.estimators.agreement import Agreement, measure_agreement, measure_score_agreement
    from specialize.measure.estimators.balance import measure_balance
    from specialize.measure.estimators.cache import measure_cache
    from specialize.measure.estimators.coactivation import measure_coactivation
    from specialize.measure.estimators.committee import measure_committee
    from specialize.measure.estimators.composition import Composition, top_shares
    from specialize.measure.estimators.conditional import ConditionalInformation, measure_conditional_information
    from specialize.measure.estimators.domain import measure_domain_specialization
    from specialize.measure.estimators.effects import LabelEffects, count_effects, measure_effects
    from specialize.measure.estimators.flow import measure_flow
    from specialize.measure.estimators.label_means import choice_entropy, choice_margin, measure_label_means
    from specialize.measure.estimators.label_overlap import measure_label_overlap
    from specialize.measure.estimators.label_sums import shift_labels
    from specialize.measure.estimators.layer import LayerMeasurement, measure_layer
    from specialize.measure.estimators.matched_sets import MatchedSets, draw_matched_sets
    from specialize.measure.estimators.next_layer import measure_next_layer_recall
    from specialize.measure.estimators.rank_agreement import RankAgreement
    from specialize.measure.estimators.repeats import measure_repeats
    from specialize.measure.estimators.same_token import measure_same_token
    from specialize.measure.estimators.saturation import measure_saturation
    from specialize.measure.estimators.selectivity import (
        SelectivityComparison,
        compare_selectivity,
        measure_selectivity,
    )
    from specialize.measure.estimators.signatures import measure_signatures
    from specialize.measure.estimators.vocabulary import VocabularyMeasurement, measure_vocabulary, top_tokens
    from specialize.measure.results.files import read_results, write_results
    from specialize.measure.results.schema import RESULT_COLUMNS
    from specialize.measure.runs.affinity import measure_affinity
    from specialize.measure.runs.comparison import compare_traces
    from specialize.measure.runs.context import drop_positions, next_codes
    from specialize.measure.runs.contingency import count_contingency_tables
    from specialize.measure.runs.details import measure_details
    from specialize.measure.runs.probes import probe_trace
    from specialize.measure.runs.routers import iterate_layers
    from specialize.measure.runs.routing import measure_routing
    from specialize.measure.runs.specialization import measure_specialization
    from specialize.measure.runs.tagger import measure_tagger_error
    from specialize.measure.runs.vocabulary import measure_vocabulary_specialization

_HOMES = {
    "Agreement": "specialize.measure.estimators.agreement",
    "Composition": "specialize.measure.estimators.composition",
    "ConditionalInformation": "specialize.measure.estimators.conditional",
    "Estimate": "specialize.measure.base.estimate",
    "EstimateArray": "specialize.measure.base.estimate",
    "LabelEffects": "specialize.measure.estimators.effects",
    "LayerInput": "specialize.measure.base.layer_input",
    "LayerMeasurement": "specialize.measure.estimators.layer",
    "MatchedSets": "specialize.measure.estimators.matched_sets",
    "RESULT_COLUMNS": "specialize.measure.results.schema",
    "RankAgreement": "specialize.measure.estimators.rank_agreement",
    "SelectivityComparison": "specialize.measure.estimators.selectivity",
    "SlotRule": "specialize.choices",
    "VocabularyMeasurement": "specialize.measure.estimators.vocabulary",
    "assign_blocks": "specialize.measure.base.blocks",
    "choice_entropy": "specialize.measure.estimators.label_means",
    "choice_margin": "specialize.measure.estimators.label_means",
    "compare_selectivity": "specialize.measure.estimators.selectivity",
    "compare_traces": "specialize.measure.runs.comparison",
    "count_blocks": "specialize.measure.base.counting",
    "count_contingency_tables": "specialize.measure.runs.contingency",
    "count_effects": "specialize.measure.estimators.effects",
    "draw_matched_sets": "specialize.measure.estimators.matched_sets",
    "draw_permutations": "specialize.measure.base.nulls",
    "draw_shifts": "specialize.measure.base.nulls",
    "drop_positions": "specialize.measure.runs.context",
    "entropy": "specialize.measure.base.information",
    "estimate_blocks": "specialize.measure.base.blocks",
    "estimate_difference": "specialize.measure.base.pairing",
    "iterate_layers": "specialize.measure.runs.routers",
    "jackknife": "specialize.measure.base.estimate",
    "label_entropy": "specialize.measure.base.information",
    "lift": "specialize.measure.base.information",
    "load": "specialize.measure.base.information",
    "load_entropy": "specialize.measure.base.information",
    "measure_affinity": "specialize.measure.runs.affinity",
    "measure_agreement": "specialize.measure.estimators.agreement",
    "measure_balance": "specialize.measure.estimators.balance",
    "measure_cache": "specialize.measure.estimators.cache",
    "measure_coactivation": "specialize.measure.estimators.coactivation",
    "measure_committee": "specialize.measure.estimators.committee",
    "measure_conditional_information": "specialize.measure.estimators.conditional",
    "measure_details": "specialize.measure.runs.details",
    "measure_domain_specialization": "specialize.measure.estimators.domain",
    "measure_effects": "specialize.measure.estimators.effects",
    "measure_flow": "specialize.measure.estimators.flow",
    "measure_label_means": "specialize.measure.estimators.label_means",
    "measure_label_overlap": "specialize.measure.estimators.label_overlap",
    "measure_layer": "specialize.measure.estimators.layer",
    "measure_next_layer_recall": "specialize.measure.estimators.next_layer",
    "measure_repeats": "specialize.measure.estimators.repeats",
    "measure_routing": "specialize.measure.runs.routing",
    "measure_same_token": "specialize.measure.estimators.same_token",
    "measure_saturation": "specialize.measure.estimators.saturation",
    "measure_score_agreement": "specialize.measure.estimators.agreement",
    "measure_selectivity": "specialize.measure.estimators.selectivity",
    "measure_signatures": "specialize.measure.estimators.signatures",
    "measure_specialization": "specialize.measure.runs.specialization",
    "measure_tagger_error": "specialize.measure.runs.tagger",
    "measure_vocabulary": "specialize.measure.estimators.vocabulary",
    "measure_vocabulary_specialization": "specialize.measure.runs.vocabulary",
    "mutual_information": "specialize.measure.base.information",
    "next_codes": "specialize.measure.runs.context",
    "p_values": "specialize.measure.base.nulls",
    "probe_trace": "specialize.measure.runs.probes",
    "pseudo_values": "specialize.measure.base.pairing",
    "read_results": "specialize.measure.results.files",
    "shift_labels": "specialize.measure.estimators.label_sums",
    "specific_information": "specialize.measure.base.information",
    "spread_mass": "specialize.measure.base.counting",
    "top_shares": "specialize.measure.estimators.composition",
    "top_tokens": "specialize.measure.estimators.vocabulary",
    "uncertainty_coefficient": "specialize.measure.base.information",
    "write_results": "specialize.measure.results.files",
}

__all__ = [
    "RESULT_COLUMNS",
    "Agreement",
    "Composition",
    "ConditionalInformation",
    "Estimate",
    "EstimateArray",
    "LabelEffects",
    "LayerInput",
    "LayerMeasurement",
    "MatchedSets",
    "RankAgreement",
    "SelectivityComparison",
    "SlotRule",
    "VocabularyMeasurement",
    "assign_blocks",
    "choice_entropy",
    "choice_margin",
    "compare_selectivity",
    "compare_traces",
    "count_blocks",
    "count_contingency_tables",
    "count_effects",
    "draw_matched_sets",
    "draw_permutations",
    "draw_shifts",
    "drop_positions",
    "entropy",
    "estimate_blocks",
    "estimate_difference",
    "iterate_layers",
    "jackknife",
    "label_entropy",
    "lift",
    "load",
    "load_entropy",
    "measure_affinity",
    "measure_agreement",
    "measure_balance",
    "measure_cache",
    "measure_coactivation",
    "measure_committee",
    "measure_conditional_information",
    "measure_details",
    "measure_domain_specialization",
    "measure_effects",
    "measure_flow",
    "measure_label_means",
    "measure_label_overlap",
    "measure_layer",
    "measure_next_layer_recall",
    "measure_repeats",
    "measure_routing",
    "measure_same_token",
    "measure_saturation",
    "measure_score_agreement",
    "measure_selectivity",
    "measure_signatures",
    "measure_specialization",
    "measure_tagger_error",
    "measure_vocabulary",
    "measure_vocabulary_specialization",
    "mutual_information",
    "next_codes",
    "p_values",
    "probe_trace",
    "pseudo_values",
    "read_results",
    "shift_labels",
    "specific_information",
    "spread_mass",
    "top_shares",
    "top_tokens",
    "uncertainty_coefficient",
    "write_results",
]


__getattr__ = load_on_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
