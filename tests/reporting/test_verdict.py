"""One verdict, decided in one place, and the same in HTML, Markdown and the terminal."""

import itertools
import math
import re

import pytest
from markupsafe import escape

from reporting.records import change
from specialize.reporting.answers import Answer, Bar, answer_table
from specialize.reporting.findings import find_best
from specialize.reporting.markdown import escape_markdown, lay_out_table
from specialize.reporting.random_control import RandomControl
from specialize.reporting.rendering import read_templates
from specialize.reporting.verdict import AgainstRandom, ExplainedByToken, Outcome, TokenControl, judge
from specialize.reporting.wording import conclude, describe, list_notes

NBSP = "\N{NO-BREAK SPACE}"
LEARNED = {
    Outcome.NOT_TESTED: {"p_value": math.nan},
    Outcome.AT_CHANCE: {"p_value": 0.0501},
    Outcome.BARELY_ABOVE_CHANCE: {"p_value": 0.05, "null_mean": 0.1},
    Outcome.ABOVE_CHANCE: {"p_value": 0.05, "null_mean": 0.0999},
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
    return judge(find_best(records, "toy", records[0].label_set), token, random or RANDOM[against_random][0])


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
    html = environment.from_string('{% from "parts.html.j2" import draw_answer %}{{ draw_answer(answer) }}')
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
    "barely": ("barely above chance",),
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
        expected = {{"not tested": "not tested", "at chance": "at chance", "barely above chance": "barely"}[outcome]}
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
    assert ("random routers explain" in describe(verdict)) == compared
    again = "random router recorded, not compared: measure again" in list_notes(verdict)
    assert again == (against_random is AgainstRandom.NOT_COMPARED)


def say(*records, token=None, random=None):
    return describe(judge(find_best(records, "toy", "upos"), token, random)).replace(NBSP, " ")


def test_sentences_give_the_numbers_and_name_the_normaliser():
    near = among(0.1, 0.09, 0.12, 0.1, 0.09, low=0.08, high=0.12)
    assert say(change(), token=TokenControl(0.5, 0.02, 0.003, 0.02), random=near) == (
        "Routing explains 20.0 % of the entropy of part of speech at layer 2 (95 % interval 18.0 to 22.0 %; null mean "
        "0.10 %; p = 0.005). At the same layer, on the same hidden states, 5 random routers explain 10.0 % on average "
        "(9.00 to 12.0 %); the learned router explains 10.0 percentage points more (95 % interval of the difference "
        "8.00 to 12.0; p = 0.012), and more than each of the 5 (p = 0.167, the smallest that 5 random routers allow). "
        "The association is mostly explained by token identity: over token ids "
        "that occur with more than one label, I(expert; label) is 0.500 bits, and I(expert; label | token id) is 0.020 "
        "bits (null mean 0.003, p = 0.020)."
    )
    assert say(change(layer=0, value=0.008, ci_low=0.007, ci_high=0.009, null_mean=0.0075)) == (
        "Routing explains 0.80 % of the entropy of part of speech at layer 0 (95 % interval 0.70 to 0.90 %; null mean "
        "0.75 %; p = 0.005). This is barely above chance: the null-corrected value (value − null mean) is 0.050 "
        "percentage points."
    )


def test_what_was_not_measured_is_not_claimed():
    nothing = dict.fromkeys(("p_value", "ci_low", "ci_high", "null_mean"), math.nan)
    assert say(change(**nothing)) == (
        "Routing explains 20.0 % of the entropy of part of speech at layer 2 (no null; no p-value). It was not tested "
        "against chance."
    )


def test_a_p_value_that_ignores_the_choice_of_the_layer_says_so_everywhere():
    finding = find_best([change(layer=0, value=0.1), change(layer=1)], "toy", "upos")
    verdict = judge(finding, None)
    for text in (describe(verdict), list_notes(verdict)[0]):
        assert "p = 0.005, not corrected for the choice among 2 layers" in text.replace(NBSP, " ")
    assert "not corrected" not in say(change())
