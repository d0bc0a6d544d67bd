"""The first screen of a report: a verdict a label set, a bar of the same numbers, and U over the layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from specialize.names import name_label_set
from specialize.reporting.corpora import group_by_corpus, suffix_of
from specialize.reporting.findings import Record
from specialize.reporting.formatting import percent, percent_range
from specialize.reporting.runs import RunResults
from specialize.reporting.sparkline import draw_sparkline
from specialize.reporting.spec import name_profile
from specialize.reporting.tables import Cell, Table
from specialize.reporting.verdict import Verdict, Verdicts
from specialize.reporting.wording import conclude, list_notes
from specialize.text import NBSP, format_p

MOST_CARDS = 9  # of a run that are shown at once
_ENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)  # U at the end of a full bar


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
        figure: name of the figure of U over the layers, which a report need not have.
        sparkline: U over the layers, as SVG; empty with a single layer.
    """

    verdict: Verdict
    bar: Bar
    figure: str = ""
    sparkline: Markup = field(default_factory=Markup)

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


def answer_runs(
    runs: Sequence[RunResults], verdicts: Verdicts, records: Sequence[Record] = ()
) -> dict[str, list[Answer]]:
    """Return the answers of each run by its name: of every label set, the strongest association first.

    Args:
        runs: of the report.
        verdicts: on them.
        records: U at every layer, for the sparklines.
    """
    end, groups = full_bar(verdicts), group_by_corpus(runs)
    return {
        run.name: [
            Answer(
                verdict,
                _draw_bar(verdict, end),
                name_profile(verdict.label_set) + suffix_of(run, groups),
                draw_sparkline(records, run.name, verdict.label_set),
            )
            for verdict in sorted(verdicts[run.name].values(), key=lambda verdict: -verdict.value)
        ]
        for run in runs
    }


def full_bar(verdicts: Verdicts) -> float:
    """Return U at the end of a full bar, one scale for all label sets and runs of a report."""
    longest = max((_reach(verdict) for own in verdicts.values() for verdict in own.values()), default=0.0)
    return next((end for end in _ENDS if end >= longest), 1.0)


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
