"""Tables of the controls of a run: chance, random routers, token identity, tagger."""

import math
from collections.abc import Mapping, Sequence

from specialize.names import name_label_set
from specialize.reporting.formatting import format_interval, format_share
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table
from specialize.reporting.verdict import Verdict, layer_rows
from specialize.text import MINUS, NBSP, NO_VALUE, clean_text, format_number, format_p

_MORE = {
    "next_token_uncertainty_coefficient": "next token’s label",
    "uncertainty_coefficient_without_first": "no first tokens",
}


def control_tables(run: RunResults, verdicts: Mapping[str, Verdict]) -> list[Table]:
    """Return the tables of a run's controls, those that were measured.

    Args:
        run: what was measured.
        verdicts: those on the run, by label set.
    """
    own = list(verdicts.values())
    tables = [_chance_table(run, own), _random_table(run, own), _token_table(run, own), *_tagger_tables(run)]
    return [table for table in tables if table is not None]


def _chance_table(run: RunResults, verdicts: Sequence[Verdict]) -> Table | None:
    if not verdicts:
        return None
    body = []
    for verdict in verdicts:
        rows = layer_rows(run, verdict.label_set, verdict.layer)
        numbers = [
            str(verdict.layer),
            *(format_share(share) for share in (verdict.value, verdict.null_mean)),
            format_p(verdict.p_value, at_most=verdict.p_is_smallest),
            format_p(verdict.q_value, at_most=verdict.p_is_smallest),
            *(format_share(float(rows.loc[name, "value"])) if name in rows.index else NO_VALUE for name in _MORE),
        ]
        body.append([_name_row(verdict), *(Cell(each, "number") for each in numbers)])
    names = ("labels", "layer", "U", "null mean", "p", "q", *_MORE.values())
    return Table(
        f"{run.label}: U and its controls, in % of H(label), at the layer with the largest U", _head(names), body
    )


def _random_table(run: RunResults, verdicts: Sequence[Verdict]) -> Table | None:
    body = []
    for verdict in verdicts:
        random = verdict.random
        if random is None:
            continue
        spread = f"{format_share(random.low)} to {format_share(random.high)}"
        numbers = [
            Cell(str(verdict.layer), "number"),
            Cell(format_share(random.value), "number"),
            Cell(format_share(random.mean), "number", below=spread if random.draws > 1 else ""),
            Cell(f"{random.num_below} of {random.draws}", "number"),
            Cell(format_p(random.place_p), "number", below="smallest possible" if random.is_p_limited else ""),
            Cell(format_share(random.difference), "number", below=format_interval(random.ci_low, random.ci_high)),
            Cell(format_p(random.difference_p), "number"),
        ]
        body.append([_name_row(verdict), *numbers])
    if not body:
        return None
    names = (
        "labels",
        "layer",
        "learned",
        "random, mean",
        "random below learned",
        "p of the place",
        f"learned {MINUS} mean [95{NBSP}%]",
        "p of the difference",
    )
    title = f"{run.label}: U of the learned router among random routers, in % of H(label)"
    return Table(title, _head(names), body)


def _token_table(run: RunResults, verdicts: Sequence[Verdict]) -> Table | None:
    body = []
    for verdict in verdicts:
        token = verdict.token
        if token is None:
            continue
        share = (token.within - token.null_mean) / token.whole if token.whole > 0 else math.nan
        numbers = [
            str(verdict.layer),
            *(format_number(bits) for bits in (token.whole, token.within, token.null_mean)),
            format_p(token.p_value, at_most=token.p_is_smallest),
            f"{100 * share:.0f}{NBSP}%" if 0 <= share <= 1 else NO_VALUE,
        ]
        body.append([_name_row(verdict), *(Cell(each, "number") for each in numbers)])
    if not body:
        return None
    names = (
        "labels",
        "layer",
        "I(expert; label)",
        "I(expert; label | token id)",
        "null mean",
        "p",
        "share left, null-corrected",
    )
    title = f"{run.label}: control for token identity, in bits, over token ids that occur with more than one label"
    return Table(title, _head(names), body)


def _tagger_tables(run: RunResults) -> list[Table]:
    """A table a tag: how accurate the tagger is, and how much U changes with its tags instead of gold tags."""
    tables = []
    for name, frame in run.taggers.items():
        body = []
        for row in frame[frame["metric"] == "tagger_accuracy"].itertuples():
            body.append([Cell("tagging accuracy", "text"), *_shares(row)])
        moved = frame[(frame["metric"] == "difference of uncertainty_coefficient") & (frame["routing"] == "learned")]
        for row in moved.itertuples():
            quantity = f"U(predicted tags) {MINUS} U(gold tags), layer {row.layer:g}"
            body.append([Cell(quantity, "text"), *_shares(row)])
        if body:
            head = _head(("quantity", "%", f"95{NBSP}%"))
            tables.append(Table(f"{run.label}: tagger error, {clean_text(name)}", head, body))
    return tables


def _head(names: Sequence[str]) -> list[list[Cell]]:
    return [[Cell(name, "number" if place else "text") for place, name in enumerate(names)]]


def _name_row(verdict: Verdict) -> Cell:
    return Cell(name_label_set(verdict.label_set).long, "text name")


def _shares(row: object) -> list[Cell]:
    value, low, high = (float(getattr(row, name)) for name in ("value", "ci_low", "ci_high"))
    return [Cell(format_share(value), "number"), Cell(format_interval(low, high), "number faint")]
