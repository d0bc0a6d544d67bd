"""A verdict in words, the same ones in HTML, Markdown and the terminal. Nothing is decided here."""

import math

from specialize.names import name_label_set, name_verdict
from specialize.reporting.formatting import ALPHA, percent, percent_range
from specialize.reporting.verdict import AgainstRandom, ExplainedByToken, Outcome, Verdict
from specialize.text import MINUS, NBSP, equate_p

_MORE_PERMUTATIONS = "p is the smallest that the permutations allow; measure with more (`--permutations`)"


def conclude(verdict: Verdict) -> str:
    """Return the verdict in a few words: ``above chance and above a random router``."""
    name = name_verdict(
        verdict.outcome, against_random=verdict.against_random, explained_by_token=verdict.explained_by_token
    )
    return f"{name} ({_name_shortage(verdict)})" if verdict.outcome is Outcome.TOO_LITTLE_DATA else name


def list_notes(verdict: Verdict) -> list[str]:
    """Return what the verdict rests on, a line each: layer and null, random router, token identity."""
    notes = [f"layer {verdict.layer}; {'; '.join(_null_and_p(verdict))}"]
    if _needs_permutations(verdict):
        notes.append(_MORE_PERMUTATIONS)
    if verdict.against_random is not AgainstRandom.NOT_RECORDED:
        notes.append(f"random router: {percent(verdict.random_value)} (layer {verdict.random_layer})")
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


def _describe_random(verdict: Verdict) -> str:
    if verdict.against_random is AgainstRandom.NOT_RECORDED:
        return ""
    said = (
        f" A random router on the same hidden states explains {percent(verdict.random_value)} "
        f"(layer {verdict.random_layer})"
    )
    if verdict.outcome is not Outcome.ABOVE_CHANCE:
        return said + "."
    if verdict.against_random is AgainstRandom.ABOVE:
        return said + f", {_points(verdict.value - verdict.random_value)} less than the learned router."
    if verdict.against_random is AgainstRandom.BELOW:
        return said + ", more than the learned router, so the association need not have been learned."
    return said + "; the learned router is not clearly above it, so the association need not have been learned."


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
