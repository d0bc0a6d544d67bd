"""The first screen of a report: a verdict a label set, and a bar of the same numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from specialize.names import name_label_set
from specialize.reporting.formatting import percent, percent_range
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table
from specialize.reporting.verdict import Verdict, Verdicts
from specialize.reporting.wording import conclude, list_notes
from specialize.text import NBSP, format_p

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
    """A verdict as the first screen shows it.

    Attributes:
        verdict: the conclusion and its numbers.
        bar: the same numbers drawn, on one scale for all answers of a report.
    """

    verdict: Verdict
    bar: Bar

    @property
    def about(self) -> str:
        """The label set: ``part of speech``."""
        return name_label_set(self.verdict.label_set).long

    @property
    def value(self) -> str:
        """U at the layer where it is largest, in %."""
        return percent(self.verdict.value)

    @property
    def interval(self) -> str:
        """Its 95 % interval without the unit, ``1.2 to 3.4``; empty where there is none."""
        return percent_range(self.verdict.ci_low, self.verdict.ci_high)

    @property
    def conclusion(self) -> str:
        """The verdict in a few words."""
        return conclude(self.verdict)

    @property
    def notes(self) -> list[str]:
        """What the verdict rests on, a line each."""
        return list_notes(self.verdict)


def answer_runs(runs: Sequence[RunResults], verdicts: Verdicts) -> dict[str, list[Answer]]:
    """Return the answers of each run by its name: the first label set of tokens, fitted topics, a known label."""
    main = {
        run.name: [
            verdicts[run.name][label_set]
            for label_set in [*run.main_syntax, *list(run.topics)[:_MOST_TOPICS]]
            if label_set in verdicts[run.name]
        ]
        for run in runs
    }
    everything = [verdict for own in main.values() for verdict in own]
    longest = max(map(_reach, everything), default=0.0) or 1.0
    return {name: [Answer(verdict, _draw_bar(verdict, longest)) for verdict in own] for name, own in main.items()}


def _reach(verdict: Verdict) -> float:
    ends = (verdict.value, verdict.ci_high, _random_mean(verdict), 0.0)
    return max(each for each in ends if math.isfinite(each))


def _draw_bar(verdict: Verdict, longest: float) -> Bar:
    numbers = (verdict.value, verdict.ci_low, verdict.ci_high, verdict.null_mean, _random_mean(verdict))
    value, *rest = (_place(number / longest) for number in numbers)
    return Bar(value or 0.0, *rest)


def _random_mean(verdict: Verdict) -> float:
    return math.nan if verdict.random is None else verdict.random.mean


def _place(share: float) -> float | None:
    return round(100 * min(max(share, 0.0), 1.0), 2) if math.isfinite(share) else None


def answer_table(answers: dict[str, list[Answer]], labels: dict[str, str]) -> Table:
    """Return the answers of all runs as a table, for Markdown and the terminal.

    Args:
        answers: by the name of the run.
        labels: what each run is called, by its name.
    """
    names = ("run", "labels", "U", f"95{NBSP}%", "q", "verdict")
    head = [[Cell(name, "number" if name in ("U", "q") else "text") for name in names]]
    body = [
        [
            Cell(labels[run], "text name"),
            Cell(answer.about, "text"),
            Cell(answer.value, "number"),
            Cell(answer.interval, "text"),
            Cell(format_p(answer.verdict.q_value, at_most=answer.verdict.p_is_smallest), "number"),
            Cell(answer.conclusion, "text", below="; ".join(answer.notes)),
        ]
        for run, own in answers.items()
        for answer in own
    ]
    return Table("Summary: U at the layer where it is largest, in % of H(label)", head, body)
