"""Counts into numbers: contingency tables, information, nulls and intervals. NumPy, SciPy and Numba only."""

from specialize.measure.counting import SlotRule, assign_blocks, count_blocks, spread_mass
from specialize.measure.estimate import Estimate, EstimateArray, jackknife
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
from specialize.measure.results import read_results, write_results
from specialize.measure.schema import RESULT_COLUMNS
from specialize.measure.specialization import specialization

__all__ = [
    "RESULT_COLUMNS",
    "Estimate",
    "EstimateArray",
    "LayerMeasurement",
    "SlotRule",
    "assign_blocks",
    "count_blocks",
    "draw_permutations",
    "draw_shifts",
    "entropy",
    "jackknife",
    "label_entropy",
    "lift",
    "load",
    "load_entropy",
    "measure_layer",
    "mutual_information",
    "p_values",
    "read_results",
    "specialization",
    "specific_information",
    "spread_mass",
    "uncertainty_coefficient",
    "write_results",
]
