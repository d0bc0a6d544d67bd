"""Records of runs, and the layer that a report is about."""

import dataclasses
import math

import pytest

from reporting.records import BASE, change
from specialize.reporting.findings import find_best


def test_the_best_layer_is_the_one_with_the_largest_value():
    records = [change(layer=0, value=0.1), change(layer=3, value=0.3), change(layer=4, value=math.nan)]
    finding = find_best(records, "toy", "upos")
    assert finding.best.layer == 3
    assert finding.num_layers == 2
    assert find_best(records, "toy", "bertopic") is None
    assert find_best([change(value=math.nan)], "toy", "upos") is None


def test_the_p_value_is_that_of_the_maximum_over_layers():
    largest = change(layer=None, metric="max_uncertainty_coefficient", value=0.3, p_value=0.2)
    finding = find_best([change(layer=0), change(layer=1, value=0.3), largest], "toy", "upos")
    assert finding.p_value == 0.2
    assert not finding.p_is_smallest


def test_without_the_maximum_the_layers_are_corrected_for_their_number():
    p_values = (0.01, 0.012, 0.4)
    records = [change(layer=layer, value=0.3 - layer / 10, p_value=p) for layer, p in enumerate(p_values)]
    assert find_best(records, "toy", "upos").p_value == pytest.approx(0.018)  # Simes: min of 3 × .01, 3/2 × .012, .4
    alone = find_best([BASE], "toy", "upos")
    assert alone.p_value == BASE.p_value
    assert alone.p_is_smallest


def test_a_finding_is_of_the_learned_router():
    random_routers = [change(routing="random", layer=layer, value=value) for layer, value in ((0, 0.3), (1, 0.05))]
    finding = find_best([change(), *random_routers], "toy", "upos")
    assert (finding.best, finding.has_random) == (change(), True)
    assert not find_best([change()], "toy", "upos").has_random
    assert find_best(random_routers, "toy", "upos") is None


def test_a_finding_is_plain_data():
    assert dataclasses.asdict(find_best([BASE], "toy", "upos"))["best"]["value"] == 0.2


def test_records_as_json_have_no_nan():
    record = change(p_value=math.nan, n_tokens=1000.0).as_dict()
    assert record["p_value"] is None
    assert record["n_tokens"] == 1000
    assert isinstance(record["n_tokens"], int)
    assert record["value"] == 0.2
