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
RANDOM = {  # value and interval; those of the learned router are 0.2, 0.18 to 0.22
    AgainstRandom.NOT_RECORDED: None,
    AgainstRandom.ABOVE: (0.1, 0.09, 0.179),
    AgainstRandom.NOT_CLEARLY_ABOVE: (0.17, 0.16, 0.18),
    AgainstRandom.BELOW: (0.3, 0.221, 0.4),
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


def decide(outcome, against_random, token, **changes):
    records = [change(**LEARNED[outcome], **changes)]
    if RANDOM[against_random] is not None:
        value, low, high = RANDOM[against_random]
        records.append(change(routing="random", layer=1, value=value, ci_low=low, ci_high=high))
    return judge(find_best(records, "toy", records[0].label_set), token)


@pytest.mark.parametrize(("outcome", "against_random", "explained", "token"), COMBINATIONS)
def test_every_combination_is_decided_from_the_numbers(outcome, against_random, explained, token):
    verdict = decide(outcome, against_random, token)
    assert (verdict.outcome, verdict.against_random, verdict.explained_by_token) == (outcome, against_random, explained)
    assert (verdict.value, verdict.ci_low, verdict.ci_high, verdict.layer) == (0.2, 0.18, 0.22, 2)
    assert verdict.token is token
    if RANDOM[against_random] is None:
        assert math.isnan(verdict.random_value)
        assert verdict.random_layer is None
    else:
        assert (verdict.random_value, verdict.random_layer) == (RANDOM[against_random][0], 1)


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
    "above a random router": ("and above a random router", "less than the learned router"),
    "not clearly above": ("not clearly above",),
    "below": ("below a random router", "more than the learned router"),
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
        comparison = {"above": "above a random router", "not clearly above": "not clearly above", "below": "below"}
        expected |= {comparison[against_random]} if against_random in comparison else set()
        expected |= {"token"} if explained is ExplainedByToken.YES else set()
    short = claims_in("\n".join([conclude(verdict), *list_notes(verdict)]))
    assert short == expected
    assert claims_in(describe(verdict)) == expected
    recorded = against_random is not AgainstRandom.NOT_RECORDED
    assert any(note.startswith("random router: ") for note in list_notes(verdict)) == recorded
    assert ("A random router on the same hidden states explains" in describe(verdict)) == recorded


def say(*records, token=None):
    return describe(judge(find_best(records, "toy", "upos"), token)).replace(NBSP, " ")


def test_sentences_give_the_numbers_and_name_the_normaliser():
    near = change(routing="random", layer=0, value=0.1, ci_low=0.09, ci_high=0.11)
    assert say(change(), near, token=TokenControl(0.5, 0.02, 0.003, 0.02)) == (
        "Routing explains 20.0 % of the entropy of part of speech at layer 2 (95 % interval 18.0 to 22.0 %; null mean "
        "0.10 %; p = 0.005). A random router on the same hidden states explains 10.0 % (layer 0), 10.0 percentage "
        "points less than the learned router. The association is mostly explained by token identity: over token ids "
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


def test_the_decision_on_random_routers_needs_no_interval():
    bare = {"ci_low": math.nan, "ci_high": math.nan}
    for value, expected in (
        (0.1, AgainstRandom.ABOVE),
        (0.2, AgainstRandom.NOT_CLEARLY_ABOVE),
        (0.3, AgainstRandom.BELOW),
    ):
        records = [change(**bare), change(routing="random", value=value, **bare)]
        assert judge(find_best(records, "toy", "upos"), None).against_random is expected
