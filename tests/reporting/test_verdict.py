"""One verdict, decided in one place, and the same in HTML, Markdown and the terminal."""

import itertools
import math
import re

import pytest
from markupsafe import escape

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from reporting.records import change
from specialize.measure.base.shortage import mark_shortage
from specialize.reporting import summarise, write_report
from specialize.reporting.answers import Answer, Bar, answer_table
from specialize.reporting.findings import find_best, read_records
from specialize.reporting.markdown import escape_markdown, lay_out_table
from specialize.reporting.random_control import RandomControl
from specialize.reporting.reading import read_runs
from specialize.reporting.rendering import read_templates
from specialize.reporting.verdict import (
    AgainstRandom,
    ExplainedByToken,
    Outcome,
    TokenControl,
    decide_outcome,
    judge,
    judge_runs,
)
from specialize.reporting.wording import conclude, describe, list_notes
from specialize.text import equate_p, format_p, is_smallest_p

NBSP = "\N{NO-BREAK SPACE}"
LEARNED = {
    Outcome.TOO_LITTLE_DATA: {"ci_kind": mark_shortage(None, "12 documents, at least 30 needed")},
    Outcome.NOT_TESTED: {"p_value": math.nan},
    Outcome.AT_CHANCE: {"p_value": 0.0501, "null_mean": 0.18},
    Outcome.UNCLEAR: {"p_value": 0.0501, "null_mean": 0.17},
    Outcome.ABOVE_CHANCE: {"p_value": 0.05, "null_mean": 0.17},
}


def among(*drawn, low, high):
    """The learned router, of U 0.2, among random routers of these U; the interval of the difference from their mean."""
    mean = sum(drawn) / len(drawn)
    place_p = (1 + sum(value >= 0.2 for value in drawn)) / (1 + len(drawn))
    return RandomControl(len(drawn), 0.2, mean, min(drawn), max(drawn), place_p, 0.2 - mean, low, high, 0.012)


RANDOM = {
    AgainstRandom.NOT_RECORDED: [None],
    AgainstRandom.NOT_COMPARED: [None],
    AgainstRandom.ABOVE: [
        among(0.1, 0.09, 0.12, 0.1, 0.11, low=0.001, high=0.2),
        among(0.199, low=0.0001, high=0.002),  # one draw
        among(*[0.15] * 19, low=0.01, high=0.09),
    ],
    AgainstRandom.NOT_CLEARLY_ABOVE: [
        among(0.1, 0.09, 0.12, 0.1, 0.11, low=-0.001, high=0.2),  # above each, but the interval holds 0
        among(0.1, 0.09, 0.12, 0.1, 0.201, low=0.01, high=0.2),  # above their mean, but not above each
        among(0.1, 0.09, 0.12, 0.1, 0.2, low=0.01, high=0.2),  # one is as large
        among(0.3, 0.29, 0.25, low=-0.2, high=0.001),
        among(0.3, 0.29, 0.199, low=-0.2, high=-0.01),
        among(0.1, 0.1, low=math.nan, high=math.nan),  # one block: no interval
    ],
    AgainstRandom.BELOW: [among(0.3, 0.21, 0.4, low=-0.2, high=-0.001), among(0.21, low=-0.02, high=-0.001)],
}
TOKEN = {
    ExplainedByToken.UNKNOWN: [None],
    ExplainedByToken.YES: [TokenControl(0.5, 0.25, 0.001, 0.05), TokenControl(0.5, 0.4, 0.001, 0.0501)],
    ExplainedByToken.NO: [TokenControl(0.5, 0.251, 0.001, 0.05)],
}
COMBINATIONS = [
    (outcome, against_random, explained, token)
    for outcome, against_random, (explained, tokens) in itertools.product(LEARNED, RANDOM, TOKEN.items())
    for token in tokens
]


def decide(outcome, against_random, token, random=None, **changes):
    records = [change(**LEARNED[outcome], **changes)]
    if against_random is not AgainstRandom.NOT_RECORDED:
        records.append(change(routing="random", layer=1, value=0.15))
    return judge_alone(records, token, random or RANDOM[against_random][0])


def judge_alone(records, token=None, random=None):
    """Return the verdict in a report of a single test."""
    finding = find_best(records, "toy", records[0].label_set)
    return judge(finding, token, random, q_value=finding.p_value, num_tests=1)


@pytest.mark.parametrize(("expected", "random"), [(name, each) for name, own in RANDOM.items() for each in own])
def test_random_routers_are_judged_by_the_paired_difference_and_by_the_place_among_them(expected, random):
    verdict = decide(Outcome.ABOVE_CHANCE, expected, None, random)
    assert (verdict.against_random, verdict.random) == (expected, random)
    if random is not None:
        said = describe(verdict).replace(NBSP, " ")
        limited = random.draws == 5 and random.num_below == 5
        assert ("p = 0.167, the smallest that 5 random routers allow" in said) == limited
        assert ("so the association need not have been learned" in said) == (expected is not AgainstRandom.ABOVE)
        place = {0: "less than each", random.draws: "more than each"}.get(random.num_below)
        assert f"{place or f'more than {random.num_below}'} of the {random.draws}" in said or random.draws == 1


# value, interval, null mean, q; the numbers of the first two contradicted their verdicts
RULE = [
    ((0.0019, -0.0016, 0.0055, 0.0), 0.005, Outcome.UNCLEAR),
    ((0.0014, 0.0007, 0.0022, 0.0), 0.3, Outcome.UNCLEAR),
    ((0.0019, -0.0016, 0.0055, 0.0), 0.051, Outcome.AT_CHANCE),
    ((0.0014, 0.0007, 0.0022, 0.0), 0.05, Outcome.ABOVE_CHANCE),
    ((0.0014, 0.0007, 0.0022, 0.0007), 0.05, Outcome.UNCLEAR),  # the interval reaches the null mean
    ((0.0014, 0.0007, 0.0022, 0.0007), 0.06, Outcome.AT_CHANCE),
    ((0.0014, 0.0, 0.0022, -0.001), 0.01, Outcome.UNCLEAR),  # above the null mean, but it contains 0
    ((0.0014, 0.0, 0.0022, -0.001), 0.2, Outcome.AT_CHANCE),
    ((0.0014, 0.0001, 0.0022, math.nan), 0.01, Outcome.ABOVE_CHANCE),
    ((0.02, 0.001, 0.04, 0.03), 0.01, Outcome.UNCLEAR),
    ((-0.002, -0.003, 0.0, -0.001), 0.9, Outcome.AT_CHANCE),
    ((-0.002, -0.003, -0.001, 0.0), 0.9, Outcome.TOO_LITTLE_DATA),
    ((0.2, 0.1, 0.3, 0.0), math.nan, Outcome.NOT_TESTED),
    ((0.2, math.nan, math.nan, 0.0), 0.01, Outcome.ABOVE_CHANCE),  # tables of other programs have no interval
]


@pytest.mark.parametrize(("numbers", "q_value", "expected"), RULE)
def test_test_and_interval_have_to_agree(numbers, q_value, expected):
    value, low, high, null = numbers
    record = change(value=value, ci_low=low, ci_high=high, null_mean=null)
    assert decide_outcome(record, q_value) is expected
    short = change(value=value, ci_low=low, ci_high=high, null_mean=null, ci_kind=mark_shortage(None, "3 documents"))
    assert decide_outcome(short, q_value) is Outcome.TOO_LITTLE_DATA


def report_of(folder, p_values):
    """Return the runs and verdicts of a report whose runs and label sets have these p-values."""
    paths = [
        make_run(
            folder / run,
            syntax=planted_frame(run, strengths=(0.3,), p_value=own["upos"]) if "upos" in own else None,
            topics={
                name: planted_frame(run, label_set=name, labels=("a", "b", "c"), strengths=(0.3,), p_value=p)
                for name, p in own.items()
                if name != "upos"
            },
        )
        for run, own in p_values.items()
    ]
    runs = read_runs(paths)
    return runs, judge_runs(runs, read_records(runs))


def test_tests_are_corrected_over_all_runs_and_label_sets(tmp_path):
    p_values = {
        "one": {"upos": 0.004, "bertopic": 0.03, "genre": 0.2},
        "two": {"upos": 0.6, "genre": 0.02, "field": math.nan},
    }
    runs, verdicts = report_of(tmp_path, p_values)
    keys = [(run, name) for run, own in p_values.items() for name in own]
    tested = sorted((p_values[run][name], run, name) for run, name in keys if not math.isnan(p_values[run][name]))
    expected, smallest = {}, 1.0
    for rank in range(len(tested), 0, -1):  # Benjamini & Hochberg: p × m / rank, from the largest down
        p_value, run, name = tested[rank - 1]
        expected[run, name] = smallest = min(smallest, p_value * len(tested) / rank)
    for run, name in keys:
        verdict = verdicts[run][name]
        assert verdict.q_value == pytest.approx(expected.get((run, name), math.nan), nan_ok=True)
        assert verdict.num_tests == 5
    outcomes = {(run, name): verdicts[run][name].outcome for run, name in keys}
    assert outcomes["one", "upos"] is Outcome.ABOVE_CHANCE
    assert outcomes["two", "genre"] is Outcome.ABOVE_CHANCE  # q = 5/2 × .02
    assert outcomes["one", "bertopic"] is Outcome.ABOVE_CHANCE  # q = 5/3 × .03
    assert outcomes["one", "genre"] is Outcome.UNCLEAR  # the interval lies above chance
    assert outcomes["two", "field"] is Outcome.NOT_TESTED
    # alone, the second run has three label sets, of which two are tested
    alone = judge_runs(runs[1:], read_records(runs[1:]))
    assert alone["two"]["genre"].q_value == pytest.approx(0.04)
    assert verdicts["two"]["genre"].q_value == pytest.approx(0.05)
    assert "p = 0.020; q = 0.050 over 5 tests" in list_notes(verdicts["two"]["genre"])[0].replace(NBSP, " ")


def test_label_sets_with_too_little_data_are_no_tests(tmp_path):
    p_values = {"one": {"upos": 0.005, "genre": 0.04}}
    runs, _ = report_of(tmp_path, p_values)
    runs[0].syntax["upos"]["ci_kind"] = mark_shortage(None, "12 documents, at least 30 needed")
    verdicts = judge_runs(runs, read_records(runs))["one"]
    assert verdicts["upos"].outcome is Outcome.TOO_LITTLE_DATA
    assert math.isnan(verdicts["upos"].q_value)
    assert verdicts["genre"].q_value == 0.04
    assert verdicts["genre"].num_tests == 1


@pytest.mark.parametrize("p_value", [-0.5, 1.5, math.inf])
def test_a_number_that_is_no_probability_is_no_test(tmp_path, p_value):
    _, verdicts = report_of(tmp_path, {"one": {"upos": p_value, "genre": 0.04}})
    assert verdicts["one"]["upos"].outcome is Outcome.NOT_TESTED
    assert verdicts["one"]["genre"].q_value == 0.04


@pytest.mark.parametrize(
    ("p_value", "n_permutations", "shown"),
    [
        (1 / 201, 200, "≤ 0.005"), (2 / 201, 200, "0.010"), (1 / 401, 400, "≤ 0.003"), (1 / 1001, 1000, "≤ 0.001"),
        (1 / 201, math.nan, "0.005"), (1 / 20001, 20000, "< 0.001"), (1.0, 1, "1.000"), (1.0, 0, "≤ 1.000"),
        (math.nan, 200, "–"),
    ],
)  # fmt: skip
def test_the_smallest_p_is_an_upper_bound(p_value, n_permutations, shown):
    at_most = is_smallest_p(p_value, n_permutations)
    assert format_p(p_value, at_most=at_most) == shown
    sign = "" if shown[0] in "≤<" else "= "
    assert equate_p(p_value, at_most=at_most, name="q").replace(NBSP, " ") == f"q {sign}{shown}"


def test_a_test_that_needs_more_permutations_says_so():
    record = change(ci_low=0.15)
    verdict = judge(find_best([record], "toy", "upos"), None, q_value=0.06, num_tests=12)
    assert verdict.outcome is Outcome.UNCLEAR
    asked = "p is the smallest that the permutations allow; measure with more (`--permutations`)"
    assert asked in list_notes(verdict)
    assert asked[1:] in describe(verdict)
    assert "p ≤ 0.005; q ≤ 0.060 over 12 tests" in describe(verdict).replace(NBSP, " ")
    enough = judge(find_best([record], "toy", "upos"), None, q_value=0.04, num_tests=8)
    assert "--permutations" not in describe(enough) + "".join(list_notes(enough))


def test_too_little_data_is_said_on_every_page(tmp_path):
    frame = planted_frame("run", strengths=(0.2, 0.5))
    rows = frame["metric"].isin(["uncertainty_coefficient", "mutual_information"])
    shortage = "12 documents, at least 30 needed"
    frame["n_permutations"] = 199
    frame.loc[rows, "ci_kind"] = mark_shortage("95 % jackknife", shortage)
    run = make_run(tmp_path / "run", syntax=frame)
    pages = [
        write_report([run], tmp_path / kind, formats=(), page_format=kind).read_text(encoding="utf-8")
        for kind in ("html", "md")
    ]
    summary = summarise([run])
    pages.append("\n".join(f"{row[-1].text} {row[-1].below}" for row in summary.answer_table().body))
    for page in pages:
        text = page.replace(NBSP, " ")
        assert "too little data" in text
        assert shortage in text
        assert "p ≤ 0.005" in text
        assert "above chance and" not in text
    assert "(too little data)" in pages[0]
    assert "[NaN" not in pages[0]
    assert "(too little data)" in summary.layer_table("upos").body[0][1].text


@pytest.mark.parametrize(("outcome", "against_random", "explained", "token"), COMBINATIONS)
def test_every_combination_is_decided_from_the_numbers(outcome, against_random, explained, token):
    verdict = decide(outcome, against_random, token)
    assert (verdict.outcome, verdict.against_random, verdict.explained_by_token) == (outcome, against_random, explained)
    assert (verdict.value, verdict.ci_low, verdict.ci_high, verdict.layer) == (0.2, 0.18, 0.22, 2)
    assert verdict.token is token
    assert verdict.random is RANDOM[against_random][0]


def render(verdict):
    """Return the verdict as HTML, Markdown and the lines of a terminal's table."""
    answer = Answer(verdict, Bar(50.0, None, None, None, None))
    environment = read_templates(autoescape=True)
    html = environment.from_string('{% from "parts.html.j2" import draw_answer %}{{ draw_answer(answer, ()) }}')
    table = answer_table({"toy": [answer]}, {"toy": "toy"})
    cell = table.body[0][-1]
    return html.render(answer=answer), str(lay_out_table(table)), f"{cell.text}\n{cell.below}"


@pytest.mark.parametrize(("outcome", "against_random", "explained", "token"), COMBINATIONS)
def test_every_combination_says_the_same_in_every_medium(outcome, against_random, explained, token):
    verdict = decide(outcome, against_random, token)
    html, markdown, terminal = render(verdict)
    for said in (conclude(verdict), *list_notes(verdict)):
        assert str(escape(said)) in html
        assert escape_markdown(said) in markdown
        assert said in terminal
    shown = re.search('class="verdict">(.*?)<', html)[1]
    assert str(escape(conclude(verdict))) == shown
    assert terminal.splitlines()[0] == conclude(verdict)


CLAIMS = {
    "not tested": ("not tested against chance", "no p-value"),
    "at chance": ("not distinguishable from chance",),
    "too little data": ("too little data",),
    "unclear": ("unclear",),
    "above random routers": ("and above random routers",),
    "not clearly above": ("not clearly above",),
    "below": ("below random routers",),
    "not learned": ("need not have been learned",),
    "token": ("mostly explained by token identity",),
}


def claims_in(text):
    return {claim for claim, phrases in CLAIMS.items() if any(phrase in text for phrase in phrases)}


@pytest.mark.parametrize(("outcome", "against_random", "explained", "token"), COMBINATIONS)
def test_no_combination_contradicts_itself(outcome, against_random, explained, token):
    verdict = decide(outcome, against_random, token)
    expected = set()
    if outcome is not Outcome.ABOVE_CHANCE:
        expected = {outcome.value}
    else:
        comparison = {"above": "above random routers", "not clearly above": "not clearly above", "below": "below"}
        expected |= {comparison[against_random]} if against_random in comparison else set()
        expected |= {"token"} if explained is ExplainedByToken.YES else set()
    short = claims_in("\n".join([conclude(verdict), *list_notes(verdict)]))
    assert short == expected
    # a sentence says the same of random routers in other words
    in_short = {"above random routers", "not clearly above", "below"}
    not_learned = {"not learned"} if expected & {"not clearly above", "below"} else set()
    assert claims_in(describe(verdict)) == expected - in_short | not_learned
    compared = RANDOM[against_random][0] is not None
    assert any(note.startswith("5 random routers: ") for note in list_notes(verdict)) == (
        compared and RANDOM[against_random][0].draws == 5
    )
    described = compared and outcome is not Outcome.TOO_LITTLE_DATA
    assert ("random routers explain" in describe(verdict)) == described
    again = "random router recorded, not compared: measure again" in list_notes(verdict)
    assert again == (against_random is AgainstRandom.NOT_COMPARED)


def say(*records, token=None, random=None):
    return describe(judge_alone(records, token, random)).replace(NBSP, " ")


def test_sentences_give_the_numbers_and_name_the_normaliser():
    near = among(0.1, 0.09, 0.12, 0.1, 0.09, low=0.08, high=0.12)
    assert say(change(), token=TokenControl(0.5, 0.02, 0.003, 0.02), random=near) == (
        "Routing explains 20.0 % of the entropy of part of speech at layer 2 (95 % interval 18.0 to 22.0 %; null mean "
        "0.10 %; p ≤ 0.005). At the same layer, on the same hidden states, 5 random routers explain 10.0 % on average "
        "(9.00 to 12.0 %); the learned router explains 10.0 percentage points more (95 % interval of the difference "
        "8.00 to 12.0; p = 0.012), and more than each of the 5 (p = 0.167, the smallest that 5 random routers allow). "
        "The association is mostly explained by token identity: over token ids "
        "that occur with more than one label, I(expert; label) is 0.500 bits, and I(expert; label | token id) is 0.020 "
        "bits (null mean 0.003, p = 0.020)."
    )
    assert say(change(layer=0, value=0.0014, ci_low=0.0007, ci_high=0.0022, p_value=0.3, null_mean=0.0)) == (
        "Routing explains 0.14 % of the entropy of part of speech at layer 0 (95 % interval 0.070 to 0.22 %; null mean "
        "0 %; p = 0.300). Whether this is above chance is unclear: the interval lies above the null mean and 0, but q "
        "exceeds 0.05."
    )
    assert say(change(value=0.0019, ci_low=-0.0016, ci_high=0.0055, p_value=0.02, null_mean=0.0)).endswith(
        "Whether this is above chance is unclear: q is at most 0.05, but the interval does not lie above the null mean "
        "and 0."
    )
    assert say(change(value=0.03, ci_low=math.nan, ci_high=math.nan, ci_kind=mark_shortage(None, "9 documents"))) == (
        "There is too little data to say what share of the entropy of part of speech routing explains: 9 documents. "
        "The estimate at layer 2 is 3.00 % (null mean 0.10 %; p ≤ 0.005)."
    )


def test_what_was_not_measured_is_not_claimed():
    nothing = dict.fromkeys(("p_value", "ci_low", "ci_high", "null_mean"), math.nan)
    assert say(change(**nothing)) == (
        "Routing explains 20.0 % of the entropy of part of speech at layer 2 (no null; no p-value). It was not tested "
        "against chance."
    )
