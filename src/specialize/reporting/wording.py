"""A verdict in words, the same ones in HTML, Markdown and the terminal. Nothing is decided here."""

import math

from specialize.names import name_label_set, name_verdict
from specialize.reporting.formatting import ALPHA, percent, percent_range
from specialize.reporting.random_control import RandomControl
from specialize.reporting.verdict import AgainstRandom, ExplainedByToken, Outcome, Verdict
from specialize.text import MINUS, NBSP, equate_p

_MORE_PERMUTATIONS = "p is the smallest that the permutations allow; measure with more (`--permutations`)"


def conclude(verdict: Verdict) -> str:
    """Return the verdict in a few words: ``above chance and above random routers``."""
    name = name_verdict(
        verdict.outcome, against_random=verdict.against_random, explained_by_token=verdict.explained_by_token
    )
    return f"{name} ({_name_shortage(verdict)})" if verdict.outcome is Outcome.TOO_LITTLE_DATA else name


def list_notes(verdict: Verdict) -> list[str]:
    """Return what the verdict rests on, a line each: layer and null, random routers, token identity."""
    notes = [f"layer {verdict.layer}; {'; '.join(_null_and_p(verdict))}"]
    if _needs_permutations(verdict):
        notes.append(_MORE_PERMUTATIONS)
    if verdict.random is not None:
        notes += _note_random(verdict.random)
    elif verdict.against_random is AgainstRandom.NOT_COMPARED:
        notes.append("random router recorded, not compared: measure again")
    elif verdict.outcome is Outcome.ABOVE_CHANCE:
        notes.append("no random router recorded")
    if verdict.outcome is Outcome.ABOVE_CHANCE and verdict.token is not None:
        within, whole, null = map(_bits, (verdict.token.within, verdict.token.whole, verdict.token.null_mean))
        notes.append(f"given the token id: {within} of {whole}{NBSP}bits (null mean {null})")
    return notes


def describe(verdict: Verdict) -> str:
    """Return the verdict in one to three sentences."""
    noun = name_label_set(verdict.label_set).noun
    several = verdict.num_layers > 1
    interval = percent_range(verdict.ci_low, verdict.ci_high)
    numbers = [f"95{NBSP}% interval {interval}{NBSP}%"] if interval else []
    numbers += _null_and_p(verdict)
    basis = f" ({'; '.join(numbers)})"
    if verdict.outcome is Outcome.TOO_LITTLE_DATA:
        return (
            f"There is too little data to say what share of the entropy of {noun} routing explains: "
            f"{_name_shortage(verdict)}. The estimate at layer {verdict.layer} is {percent(verdict.value)}{basis}."
        )
    if verdict.outcome is Outcome.AT_CHANCE:
        place = f"even at layer {verdict.layer}, where it is largest," if several else f"at layer {verdict.layer}"
        said = (
            f"The association of routing with {noun} is {conclude(verdict)}: {place} routing explains "
            f"{percent(verdict.value)} of the entropy{basis}."
        )
        return said + _ask_permutations(verdict) + _describe_random(verdict)
    maximum = f", the maximum over {verdict.num_layers} layers" if several else ""
    said = (
        f"Routing explains {percent(verdict.value)} of the entropy of {noun} at layer {verdict.layer}{maximum}{basis}"
    )
    if verdict.outcome is Outcome.NOT_TESTED:
        said += ". It was not tested against chance."
    elif verdict.outcome is Outcome.UNCLEAR:
        against = (
            "q is at most 0.05, but the interval does not lie above the null mean and 0"
            if verdict.q_value <= ALPHA
            else "the interval lies above the null mean and 0, but q exceeds 0.05"
        )
        said += f". Whether this is above chance is unclear: {against}.{_ask_permutations(verdict)}"
    else:
        said += "."
    return said + _describe_random(verdict) + _describe_token(verdict)


def _null_and_p(verdict: Verdict) -> list[str]:
    parts = [f"null mean {percent(verdict.null_mean)}" if math.isfinite(verdict.null_mean) else "no null"]
    if math.isfinite(verdict.p_value):
        parts.append(equate_p(verdict.p_value, at_most=verdict.p_is_smallest))
        if verdict.num_tests > 1 and math.isfinite(verdict.q_value):
            adjusted = equate_p(verdict.q_value, at_most=verdict.p_is_smallest, name="q")
            parts.append(f"{adjusted} over {verdict.num_tests} tests")
    else:
        parts.append("no p-value")
    return parts


def _name_shortage(verdict: Verdict) -> str:
    return verdict.shortage or "the interval lies below 0, where the true value cannot be"


def _needs_permutations(verdict: Verdict) -> bool:
    """Return whether more permutations alone could make the value significant."""
    tested = verdict.outcome in (Outcome.AT_CHANCE, Outcome.UNCLEAR)
    return tested and verdict.p_is_smallest and verdict.q_value > ALPHA


def _ask_permutations(verdict: Verdict) -> str:
    return f" {_MORE_PERMUTATIONS[:1].upper()}{_MORE_PERMUTATIONS[1:]}." if _needs_permutations(verdict) else ""


def _note_random(random: RandomControl) -> list[str]:
    difference = f"learned {MINUS} random: {_points(random.difference)}"
    interval = percent_range(random.ci_low, random.ci_high)
    if interval:
        difference += f" (95{NBSP}% interval {interval})"
    if random.draws == 1:
        return [f"one random router: {percent(random.mean)}", difference]
    spread = (
        f"{random.draws} random routers: mean {percent(random.mean)}, {percent_range(random.low, random.high)}{NBSP}%"
    )
    return [spread, f"{difference}; above {random.num_below} of {random.draws} ({_place_p(random)})"]


def _describe_random(verdict: Verdict) -> str:
    random = verdict.random
    if random is None:
        return ""
    several = random.draws > 1
    spread = f" on average ({percent_range(random.low, random.high)}{NBSP}%)" if several else ""
    routers = f"{random.draws} random routers explain" if several else "one random router explains"
    said = f" At the same layer, on the same hidden states, {routers} {percent(random.mean)}{spread}"
    if verdict.outcome is not Outcome.ABOVE_CHANCE:
        return said + "."
    interval = percent_range(random.ci_low, random.ci_high)
    basis = [f"95{NBSP}% interval of the difference {interval}"] if interval else []
    basis += [equate_p(random.difference_p)] if math.isfinite(random.difference_p) else []
    said += (
        f"; the learned router explains {_points(abs(random.difference))} {'more' if random.difference > 0 else 'less'}"
        + (f" ({'; '.join(basis)})" if basis else "")
    )
    if several:
        said += f", and {_count_below(random)} of the {random.draws} ({_place_p(random)})"
    if verdict.against_random is not AgainstRandom.ABOVE:
        said += ", so the association need not have been learned"
    return said + "."


def _count_below(random: RandomControl) -> str:
    if random.is_below_all:
        return "less than each"
    return "more than " + {0: "none", random.draws: "each"}.get(random.num_below, str(random.num_below))


def _place_p(random: RandomControl) -> str:
    """Return the p-value of the place among the random routers, and say where it cannot be smaller."""
    limit = f", the smallest that {random.draws} random routers allow" if random.is_p_limited else ""
    return equate_p(random.place_p) + limit


def _describe_token(verdict: Verdict) -> str:
    token = verdict.token
    if verdict.outcome is not Outcome.ABOVE_CHANCE or token is None:
        return ""
    within, whole, null = map(_bits, (token.within, token.whole, token.null_mean))
    start = (
        "The association is mostly explained by token identity"
        if verdict.explained_by_token is ExplainedByToken.YES
        else "Token identity does not explain most of the association"
    )
    return (
        f" {start}: over token ids that occur with more than one label, I(expert; label) is {whole}{NBSP}bits, and "
        f"I(expert; label | token id) is {within}{NBSP}bits (null mean {null}, "
        f"{equate_p(token.p_value, at_most=token.p_is_smallest)})."
    )


def _bits(value: float) -> str:
    return f"{value:.3f}".replace("-", MINUS)


def _points(share: float) -> str:
    return f"{percent(share, unit=False)} percentage points"
