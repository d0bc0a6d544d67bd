"""What the numbers of a report are held against: chance, a random router, the word, the tagger, the topic fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from specialize.names import name_label_set
from specialize.reporting.findings import LEVEL, Finding, Record, find_best
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table, format_interval, format_share
from specialize.text import NBSP, NO_VALUE, clean_text, format_number, format_p


@dataclass(frozen=True)
class WordControl:
    """What routing tells of a label where the token's id leaves it open, in bits.

    Attributes:
        whole: I(expert; label) over tokens of ambiguous ids.
        within: I(expert; label | token id) over the same tokens.
        chance: mean of `within` with the labels shuffled inside each id.
        p_value: of `within` against that.
    """

    whole: float
    within: float
    chance: float
    p_value: float

    @property
    def mostly_word(self) -> bool:
        """Whether what is left within an id is no more than chance, or less than half of the information."""
        return not self.p_value <= LEVEL or self.within - self.chance < self.whole / 2


def find_word_control(run: RunResults, label_set: str, layer: int | None) -> WordControl | None:
    """Return the control of the model's own router at `layer`, or None where it was not measured."""
    rows = _layer_rows(run, label_set, layer)
    needed = ["conditional_information", "ambiguous_mutual_information"]
    if not set(needed) <= set(rows.index) or rows.loc[needed, "value"].isna().any():
        return None
    within, whole = (float(rows.loc[metric, "value"]) for metric in needed)
    chance, p_value = (float(rows.loc[needed[0], column]) for column in ("null_mean", "p_value"))
    return WordControl(whole, within, chance, p_value)


def control_tables(run: RunResults, records: Sequence[Record]) -> list[Table]:
    """Return the tables of a run's controls, those that were measured."""
    findings = [finding for name in run.label_sets if (finding := find_best(records, run.name, name)) is not None]
    tables = [_chance_table(run, findings), _word_table(run, findings), *_tagger_tables(run)]
    return [table for table in tables if table is not None]


def _chance_table(run: RunResults, findings: Sequence[Finding]) -> Table | None:
    if not findings:
        return None
    columns = ["layer", "U", "null", "p", "random router", "next token’s label", "without first tokens"]
    body = []
    for finding in findings:
        best = finding.best
        rows = _layer_rows(run, best.label_set, best.layer)
        other = [
            format_share(float(rows.loc[metric, "value"])) if metric in rows.index else NO_VALUE
            for metric in ("next_token_uncertainty_coefficient", "uncertainty_coefficient_without_first")
        ]
        cells = [
            str(best.layer),
            format_share(best.value),
            format_share(best.null_mean),
            format_p(finding.p_value),
            format_share(finding.control.value) if finding.control else NO_VALUE,
            *other,
        ]
        body.append([Cell(name_label_set(best.label_set).long, "text name"), *(Cell(cell, "number") for cell in cells)])
    head = [[Cell("labels", "text"), *(Cell(name, "number") for name in columns)]]
    return Table(f"{run.label}: U beside its controls, % of H(label), at the clearest layer", head, body)


def _layer_rows(run: RunResults, label_set: str, layer: int | None) -> pd.DataFrame:
    frame = run.frames[label_set]
    rows = frame[(frame["routing"] == "learned") & (frame["layer"] == layer) & frame["expert"].isna()]
    return rows.drop_duplicates("metric").set_index("metric")


def _word_table(run: RunResults, findings: Sequence[Finding]) -> Table | None:
    body = []
    for finding in findings:
        label_set, layer = finding.best.label_set, finding.best.layer
        control = find_word_control(run, label_set, layer)
        if control is None:
            continue
        share = (control.within - control.chance) / control.whole if control.whole > 0 else math.nan
        numbers = [
            str(layer),
            format_number(control.whole),
            format_number(control.within),
            format_number(control.chance),
            format_p(control.p_value),
            f"{100 * share:.0f}{NBSP}%" if 0 <= share <= 1 else NO_VALUE,
        ]
        body.append([Cell(name_label_set(label_set).long, "text name"), *(Cell(each, "number") for each in numbers)])
    if not body:
        return None
    names = ("layer", "I(E;Y)", "I(E;Y | token id)", "null", "p", "left within an id, less null")
    head = [[Cell("labels", "text"), *(Cell(name, "number") for name in names)]]
    return Table(f"{run.label}: label or word? Bits, over token ids whose label is open", head, body)


def _tagger_tables(run: RunResults) -> list[Table]:
    """A table a tag: how often the tagger is right, and by how much U moves with its tags instead of gold ones."""
    tables = []
    for name, frame in run.taggers.items():
        body = []
        for row in frame[frame["metric"] == "tagger_accuracy"].itertuples():
            body.append([Cell("tokens tagged as in gold", "text"), *_shares(row)])
        moved = frame[(frame["metric"] == "difference of uncertainty_coefficient") & (frame["routing"] == "learned")]
        for row in moved.itertuples():
            body.append([Cell(f"U by predicted less U by gold tags, layer {row.layer:g}", "text"), *_shares(row)])
        if body:
            head = [[Cell("quantity", "text"), Cell("%", "number"), Cell(f"95{NBSP}%", "number")]]
            tables.append(Table(f"{run.label}: the tagger’s mistakes, {clean_text(name)}", head, body))
    return tables


def _shares(row: object) -> list[Cell]:
    value, low, high = (float(getattr(row, name)) for name in ("value", "ci_low", "ci_high"))
    return [Cell(format_share(value), "number"), Cell(format_interval(low, high), "number faint")]
