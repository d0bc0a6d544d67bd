import dataclasses
import math

import pytest

from specialize.reporting.findings import Finding, Record, describe, find_best, percent
from specialize.text import format_p

NBSP = "\N{NO-BREAK SPACE}"
BASE = Record(
    run="toy", routing_unit="token", causal=True, routing="learned", label_set="upos", level="token", layer=2,
    metric="uncertainty_coefficient", value=0.2, ci_low=0.18, ci_high=0.22, null_mean=0.001, null_low=0.0005,
    null_high=0.002, p_value=0.005, n_tokens=1000, n_documents=20,
)  # fmt: skip


def change(**changes):
    return dataclasses.replace(BASE, **changes)


def say(*records):
    return describe(find_best(records, "toy", "upos")).replace(NBSP, " ")


def test_the_clearest_layer_is_the_one_with_the_largest_value():
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
    assert finding.corrected
    assert not finding.exceeds_null


def test_without_the_maximum_the_choice_of_layer_is_owned_up_to():
    said = say(change(layer=0, value=0.1), change(layer=1))
    assert "p = 0.005, not corrected for choosing among 2 layers" in said
    assert "not corrected" not in say(change())


@pytest.mark.parametrize(("p_value", "exceeds"), [(0.001, True), (0.05, True), (0.0501, False), (0.9, False)])
def test_significance_decides_the_wording(p_value, exceeds):
    said = say(change(p_value=p_value))
    assert said.startswith("At layer 2, one routing decision removes 20.0 %") is exceeds
    assert ("tells no more about the part of speech of a token than the null does" in said) is not exceeds


def test_a_value_that_is_mostly_null_is_told_as_that():
    said = say(change(value=0.008, ci_low=0.007, ci_high=0.009, null_mean=0.0075))
    assert "removes 0.80 % of the uncertainty about the part of speech of a token" in said
    assert "but most of that, 0.75 %, is there under the null too: only 0.050 points are more than the null" in said


def test_a_random_router_router_that_reaches_the_interval_takes_the_claim_back():
    near = say(change(), change(routing="random", value=0.17, ci_low=0.15, ci_high=0.19))
    assert "reaches 17.0 % (layer 2): the learned router tells no clearly larger share" in near
    far = say(change(), change(routing="random", value=0.1, ci_low=0.09, ci_high=0.11))
    assert "reaches 10.0 % (layer 2); the learned router exceeds that by 10.0 points" in far


def test_without_p_nothing_is_claimed():
    assert "no p-value was computed" in say(change(p_value=math.nan))
    bare = say(change(p_value=math.nan, ci_low=math.nan, ci_high=math.nan, null_mean=math.nan))
    assert bare == (
        "At layer 2, one routing decision removes 20.0 % of the uncertainty about the part of speech of a token, "
        "but no p-value was computed, so chance is not ruled out."
    )


def test_random_router_alone_is_no_finding():
    assert find_best([change(routing="random")], "toy", "upos") is None


def test_a_finding_is_plain_data():
    finding = find_best([change()], "toy", "upos")
    assert isinstance(finding, Finding)
    assert dataclasses.asdict(finding)["best"]["value"] == 0.2


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.2013, "20.1 %"), (0.0213, "2.13 %"), (0.00213, "0.21 %"), (0.000213, "0.021 %"), (0.0, "0 %"),
        (-0.0004, "\N{MINUS SIGN}0.040 %"), (1.0, "100.0 %"), (math.nan, "\N{EN DASH}"), (-1e-9, "0 %"),
    ],
)  # fmt: skip
def test_percentages(share, text):
    assert percent(share).replace(NBSP, " ") == text


def test_p_values():
    assert [format_p(p) for p in (0.00498, 0.0001, 0.34, math.nan)] == ["0.005", "< 0.001", "0.340", "\N{EN DASH}"]


def test_records_as_json_have_no_nan():
    record = change(p_value=math.nan, n_tokens=1000.0).as_dict()
    assert record["p_value"] is None
    assert record["n_tokens"] == 1000
    assert isinstance(record["n_tokens"], int)
    assert record["value"] == 0.2
