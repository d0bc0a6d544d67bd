"""Counts into numbers: contingency tables, information, nulls and intervals. NumPy, SciPy and Numba only."""

from specialize.measure.balance import measure_balance
from specialize.measure.coactivation import measure_coactivation
from specialize.measure.compare import compare
from specialize.measure.composition import Composition, top_shares
from specialize.measure.conditional import ConditionalInformation, conditional_information
from specialize.measure.context import drop_positions, next_codes
from specialize.measure.contingency import contingency_tables
from specialize.measure.counting import SlotRule, assign_blocks, count_blocks, spread_mass
from specialize.measure.details import specialization_details
from specialize.measure.domain import domain_specialization
from specialize.measure.estimate import Estimate, EstimateArray, jackknife
from specialize.measure.flow import measure_flow
from specialize.measure.information import (
    entropy,
    label_entropy,
    lift,
    load,
    load_entropy,
    mutual_information,
    specific_information,
    uncertainty_coefficient,
)
from specialize.measure.layer import LayerMeasurement, measure_layer
from specialize.measure.nulls import draw_permutations, draw_shifts, p_values
from specialize.measure.pairing import estimate_difference, pseudo_values
from specialize.measure.repeats import measure_repeats
from specialize.measure.results import read_results, write_results
from specialize.measure.routing import routing
from specialize.measure.saturation import measure_saturation
from specialize.measure.schema import RESULT_COLUMNS
from specialize.measure.specialization import specialization
from specialize.measure.tagger import tagger_error
from specialize.measure.vocabulary import VocabularyMeasurement, measure_vocabulary, top_tokens
from specialize.measure.vocabulary_rows import vocabulary_specialization

__all__ = [
    "RESULT_COLUMNS",
    "Composition",
    "ConditionalInformation",
    "Estimate",
    "EstimateArray",
    "LayerMeasurement",
    "SlotRule",
    "VocabularyMeasurement",
    "assign_blocks",
    "compare",
    "conditional_information",
    "contingency_tables",
    "count_blocks",
    "domain_specialization",
    "draw_permutations",
    "draw_shifts",
    "drop_positions",
    "entropy",
    "estimate_difference",
    "jackknife",
    "label_entropy",
    "lift",
    "load",
    "load_entropy",
    "measure_balance",
    "measure_coactivation",
    "measure_flow",
    "measure_layer",
    "measure_repeats",
    "measure_saturation",
    "measure_vocabulary",
    "mutual_information",
    "next_codes",
    "p_values",
    "pseudo_values",
    "read_results",
    "routing",
    "specialization",
    "specialization_details",
    "specific_information",
    "spread_mass",
    "tagger_error",
    "top_shares",
    "top_tokens",
    "uncertainty_coefficient",
    "vocabulary_specialization",
    "write_results",
]
