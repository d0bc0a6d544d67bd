"""The first screen of a report: what routing tells, how sure that is, and what it is held against."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specialize.names import name_label_set
from specialize.reporting.controls import find_word_control
from specialize.reporting.findings import MOSTLY_NULL, Finding, Record, find_best, percent
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table
from specialize.text import MINUS, NBSP, equate_p

_MOST_TOPICS = 2  # fitted topics and one known label


@dataclass(frozen=True)
class Bar:
    """Where things lie on a bar, in % of its length; None for what was not measured."""

    value: float
    low: float | None
    high: float | None
    null: float | None
    control: float | None


@dataclass(frozen=True)
class Answer:
    """What one run's routing tells about one label set, for a reader of three seconds.

    Attributes:
        about: the label set, ``part of speech``.
        value: U at the clearest layer.
        interval: its 95 % interval, empty where there is none.
        verdict: what that amounts to, in a few words.
        notes: what it is held against, a line each.
        bar: the same numbers to look at, on one scale for all answers of a report.
    """

    about: str
    value: str
    interval: str
    verdict: str
    notes: tuple[str, ...]
    bar: Bar


def answer_runs(runs: Sequence[RunResults], records: Sequence[Record]) -> dict[str, list[Answer]]:
    """Return the answers of each run by its name: the first label set of tokens, fitted topics, a known label."""
    findings = {run.name: list(_find_main(run, records)) for run in runs}
    everything = [finding for own in findings.values() for finding in own]
    longest = max((_reach(finding) for finding in everything), default=0.0)
    return {run.name: [_answer(run, finding, longest or 1.0) for finding in findings[run.name]] for run in runs}


def _find_main(run: RunResults, records: Sequence[Record]) -> Iterator[Finding]:
    for label_set in [*run.main_syntax, *list(run.topics)[:_MOST_TOPICS]]:
        finding = find_best(records, run.name, label_set)
        if finding is not None:
            yield finding


def _reach(finding: Finding) -> float:
    control = finding.control.value if finding.control else 0.0
    return max(each for each in (finding.best.value, finding.best.ci_high, control, 0.0) if math.isfinite(each))


def _answer(run: RunResults, finding: Finding, longest: float) -> Answer:
    best = finding.best
    interval = ""
    if math.isfinite(best.ci_low) and math.isfinite(best.ci_high):
        interval = f"{percent(best.ci_low, unit=False)} to {percent(best.ci_high, unit=False)}"
    verdict, notes = judge(run, finding)
    control = finding.control.value if finding.control else math.nan
    places = (best.value, best.ci_low, best.ci_high, best.null_mean, control)
    value, *rest = (_place(number / longest) for number in places)
    return Answer(
        about=name_label_set(best.label_set).long,
        value=percent(best.value),
        interval=interval,
        verdict=verdict,
        notes=tuple(notes),
        bar=Bar(value or 0.0, *rest),
    )


def _place(share: float) -> float | None:
    return round(100 * min(max(share, 0.0), 1.0), 2) if math.isfinite(share) else None


def judge(run: RunResults, finding: Finding) -> tuple[str, list[str]]:
    """Return a verdict on a finding in a few words, and what it rests on."""
    best = finding.best
    words = find_word_control(run, best.label_set, best.layer) if best.level == "token" else None
    chance = f"chance {percent(best.null_mean)}" if math.isfinite(best.null_mean) else "chance not measured"
    if not math.isfinite(finding.p_value):
        return "not tested against chance", [chance]
    p_value = equate_p(finding.p_value)
    notes = [f"layer {best.layer}; {chance}, {p_value}"]
    if not finding.exceeds_null:
        return "no more than chance", notes
    if best.null_mean >= MOSTLY_NULL * best.value:
        return f"hardly more than chance: {percent(best.value - best.null_mean, unit=False)} points", notes
    verdict = "more than chance"
    if finding.control is None:
        notes.append("not held against a random router")
    else:
        notes.append(f"a random router reaches {percent(finding.control.value)}")
        verdict += _against_random(finding)
    if words is not None:
        left = f"{words.within:.3f} of {words.whole:.3f}{NBSP}bits".replace("-", MINUS)
        notes.append(f"among tokens of one id {left}, chance {words.chance:.3f}".replace("-", MINUS))
        if words.mostly_word:
            verdict += "; mostly the word itself"
    return verdict, notes


def _against_random(finding: Finding) -> str:
    if finding.exceeds_control:
        return ", and than a random router"
    return (
        ", less than a random router" if finding.falls_short_of_control else ", not clearly more than a random router"
    )


def answer_table(answers: dict[str, list[Answer]], labels: dict[str, str]) -> Table:
    """Return the answers of all runs as a table; `labels` tells how each run is called."""
    head = [[Cell(name, "number" if name == "U" else "text") for name in ("run", "labels", "U", "95 %", "verdict")]]
    body = [
        [
            Cell(labels[run], "text name"),
            Cell(answer.about, "text"),
            Cell(answer.value, "number"),
            Cell(answer.interval, "text"),
            Cell(answer.verdict, "text", below="; ".join(answer.notes)),
        ]
        for run, own in answers.items()
        for answer in own
    ]
    return Table("In short", head, body)
