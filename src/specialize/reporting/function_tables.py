"""Tables of what happens to the loss when experts are switched off, in bits."""

from collections.abc import Iterator, Sequence

import pandas as pd

from specialize.names import name_label_set, shorten
from specialize.reporting.ablations import Ablation, Number, find_number, layers_with, list_ablations, of_sets
from specialize.reporting.formatting import ALPHA, percent
from specialize.reporting.runs import RunResults
from specialize.reporting.tables import Cell, Table
from specialize.text import NBSP, NO_VALUE, format_number, format_p, is_smallest_p

_PARTS = ("effect", "exposure", "per_use_effect", "indirect_effect")
_KINDS = {"per_use": "per-use", "total": "total"}
_SCORES = {"saliency": "saliency", "output_norm": "output norm", "load": "load"}
_MEAN = "mean"


def function_tables(run: RunResults) -> list[Table]:
    """Return for each mode the effects by layer, the agreements and the leading sets of a run."""
    return [table for ablation in list_ablations(run) for table in _tables_of(run, ablation)]


def _tables_of(run: RunResults, ablation: Ablation) -> Iterator[Table]:
    mode = f"mode {ablation.mode}"
    if ablation.experts is not None and _is_measured(ablation.experts, _PARTS):
        title = (
            f"{run.label}: effect of switching off one expert, mean over the experts of each layer, in bits ({mode})"
        )
        yield _tabulate_layers(ablation.experts, title)
    for label_set, frame in ablation.label_sets.items():
        noun = name_label_set(label_set).long
        if _is_measured(frame, [f"{kind}_agreement" for kind in _KINDS]):
            yield _tabulate_agreement(frame, f"{run.label}: rank correlation of lift and effect, {noun} ({mode})")
    if ablation.experts is not None and (ablation.experts["label_set"] == "score").any():
        title = f"{run.label}: rank correlation of scores of experts and their effect over all tokens ({mode})"
        yield _tabulate_scores(ablation.experts[ablation.experts["label_set"] == "score"], title)
    for label_set, frame in ablation.label_sets.items():
        if len(of_sets(frame)):
            noun = name_label_set(label_set).long
            yield _tabulate_sets(
                frame, f"{run.label}: selectivity of the experts that lead each label, {noun}, in bits ({mode})"
            )


def _is_measured(frame: pd.DataFrame, metrics: Sequence[str]) -> bool:
    return bool(frame.loc[frame["metric"].isin(metrics), "value"].notna().any())


def _tabulate_layers(frame: pd.DataFrame, title: str) -> Table:
    head = ("layer", "experts", "effect", "exposure", "per-use effect", "indirect effect", "largest effect (expert)")
    body = []
    own = frame[frame["metric"].isin(_PARTS) & frame["expert"].notna()]
    for layer, rows in own.groupby("layer"):
        mean = rows.groupby("metric")["value"].mean().reindex(list(_PARTS))
        effects = rows[rows["metric"] == "effect"].set_index("expert")["value"]
        largest = f"{_bits(effects.max())} ({effects.idxmax():g})" if effects.notna().any() else NO_VALUE
        cells = [percent(mean[part]) if part == "exposure" else _bits(mean[part]) for part in _PARTS]
        numbers = [str(rows["expert"].nunique()), *cells, largest]
        body.append([Cell(f"{layer:g}", "text"), *(Cell(each, "number") for each in numbers)])
    return Table(title, [[Cell(name, "number" if place else "text") for place, name in enumerate(head)]], body)


def _tabulate_agreement(frame: pd.DataFrame, title: str) -> Table:
    metrics = [f"{kind}_agreement" for kind in _KINDS]
    columns = (f"value [95{NBSP}%]", "p", "corrected for noise")
    head = [
        [Cell("", "text"), *(Cell(f"lift and {name} effect", "group", len(columns)) for name in _KINDS.values())],
        [Cell("layer", "text"), *(Cell(name, "number") for _ in _KINDS for name in columns)],
    ]
    body = []
    for layer in layers_with(frame, metrics):
        row = [Cell(_MEAN if layer is None else f"{layer:g}", "text")]
        for metric in metrics:
            found = find_number(frame, metric, layer=layer)
            corrected = find_number(frame, f"corrected_{metric}", layer=layer)
            row += [_correlation(found), Cell(_p_value(found), "number"), _correlation(corrected)]
        body.append(row)
    return Table(title, head, body)


def _tabulate_scores(frame: pd.DataFrame, title: str) -> Table:
    scores = [name for name in _SCORES if (frame["label"] == name).any()]
    head = [
        [Cell("", "text"), *(Cell(_SCORES[score], "group", len(_KINDS)) for score in scores)],
        [Cell("layer", "text"), *(Cell(f"{name} effect", "number") for _ in scores for name in _KINDS.values())],
    ]
    metrics = [f"{kind}_agreement" for kind in _KINDS]
    body = [
        [
            Cell(_MEAN if layer is None else f"{layer:g}", "text"),
            *(
                _correlation(find_number(frame, metric, layer=layer, label=score))
                for score in scores
                for metric in metrics
            ),
        ]
        for layer in layers_with(frame, metrics)
    ]
    return Table(title, head, body)


def _tabulate_sets(frame: pd.DataFrame, title: str) -> Table:
    columns = (f"selectivity [95{NBSP}%]", "random sets", f"− their mean [95{NBSP}%]", "p")
    body = []
    for row in of_sets(frame).to_dict("records"):
        above = find_number(frame, "effect_selectivity_above_random_sets", label=row["label"])
        p_value = format_p(row["p_value"], at_most=is_smallest_p(row["p_value"], row["n_permutations"]))
        span = f"{_bits(row['null_low'])} to {_bits(row['null_high'])}" if row["null_low"] == row["null_low"] else ""
        look = "number strong" if row["p_value"] <= ALPHA else "number"
        body.append(
            [
                Cell(shorten(row["label"], width=60), "text name"),
                Cell(_bits(row["value"]), look, below=_interval(row["ci_low"], row["ci_high"])),
                Cell(_bits(row["null_mean"]), "number", below=span),
                Cell(_bits(above.value), "number", below=_interval(above.ci_low, above.ci_high)),
                Cell(p_value, "number"),
            ]
        )
    return Table(title, [[Cell("label", "text"), *(Cell(name, "number") for name in columns)]], body)


def _correlation(found: Number) -> Cell:
    look = "number strong" if found.p_value <= ALPHA else "number"
    interval = _interval(found.ci_low, found.ci_high, digits=2)
    return Cell(format_number(found.value, digits=2), look if found.is_measured else "number faint", below=interval)


def _p_value(found: Number) -> str:
    return format_p(found.p_value, at_most=found.p_is_smallest)


def _bits(value: float) -> str:
    """Return bits with three decimals, exactly 0 as ``0``: nothing changed at all."""
    return "0" if value == 0 else format_number(value)


def _interval(low: float, high: float, *, digits: int = 3) -> str:
    if low != low or high != high:
        return ""
    return f"[{format_number(low, digits=digits)}, {format_number(high, digits=digits)}]"
