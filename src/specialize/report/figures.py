"""The figures of a report, each with the frame it draws and a sidecar that says how it came about."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from specialize import __version__, plot
from specialize.atomic import write_text
from specialize.measure.results import write_table
from specialize.plot.frames import select_rows
from specialize.plot.style import render_figure, save_figure
from specialize.plot.text import NBSP, name_label_set
from specialize.report.findings import METRIC, Record, find_best
from specialize.report.runs import GOLD, SYNTAX, TOPICS, RunResults

_TEXT_COLUMNS = ("run", "label_set", "label")


@dataclass(frozen=True)
class FigureSpec:
    """A figure to draw.

    Attributes:
        name: file name without suffix.
        section: part of the report it belongs to: ``profile``, ``plane``, ``heatmap`` or ``load``.
        caption: what it shows and how to read it, in one or two sentences.
        function: the function of `specialize.plot` that draws it.
        frame: the rows it draws.
        arguments: the keyword arguments of `function`, JSON-serialisable.
    """

    name: str
    section: str
    caption: str
    function: Callable[..., Axes]
    frame: pd.DataFrame
    arguments: dict[str, Any]


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as it is shown: its spec, its SVG source and the files written beside the report."""

    spec: FigureSpec
    svg: str
    width: float
    files: tuple[str, ...]


def plan_figures(runs: Sequence[RunResults], records: Sequence[Record]) -> list[FigureSpec]:
    """Return the figures that the results of `runs` allow, in the order of the report."""
    frames = [frame for run in runs for frame in run.frames.values()]
    if not frames:
        return []
    everything = pd.concat(frames, ignore_index=True)
    label_sets = list(dict.fromkeys(name for run in runs for name in run.label_sets))
    label_sets.sort(key=lambda name: (name != SYNTAX, name != GOLD, name != TOPICS))
    return [
        *_plan_profiles(everything, label_sets),
        *_plan_planes(everything, list(dict.fromkeys(name for run in runs for name in run.topics))),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_heatmaps(run, number, records)),
        *(spec for number, run in enumerate(runs, 1) for spec in _plan_loads(run, number)),
    ]


def _plan_profiles(frame: pd.DataFrame, label_sets: Iterable[str]) -> Iterable[FigureSpec]:
    for label_set in label_sets:
        rows = _rows(frame, METRIC, label_set)
        if rows["layer"].notna().any():
            names = name_label_set(label_set)
            yield FigureSpec(
                f"profile-{slugify(label_set)}",
                "profile",
                f"What one routing decision tells about the {names.long}, as a share of H({names.short}). "
                f"Bars are 95{NBSP}% intervals; the band is where 95{NBSP}% of the draws of the null fall.",
                plot.layer_profile,
                rows,
                {"metric": METRIC, "label_set": label_set},
            )


def _plan_planes(frame: pd.DataFrame, label_sets: Sequence[str]) -> Iterable[FigureSpec]:
    for label_set in label_sets:
        rows = pd.concat([_rows(frame, METRIC, SYNTAX), _rows(frame, METRIC, label_set)], ignore_index=True)
        keys = ["run", "routing", "layer"]
        both = rows.dropna(subset=["layer"]).groupby(keys)["label_set"].nunique()
        if (both == 2).any():
            long = name_label_set(label_set).long
            yield FigureSpec(
                f"plane-{slugify(label_set)}",
                "plane",
                f"Part of speech (across) against {long} (up). Layers far to the right tell of syntax, layers high "
                "up of topics. The first and last layer of each run are numbered.",
                plot.syntax_topic_plane,
                rows,
                {"syntax": SYNTAX, "topic": label_set},
            )


def _plan_heatmaps(run: RunResults, number: int, records: Sequence[Record]) -> Iterable[FigureSpec]:
    chosen = list(run.syntax)[:1]
    chosen += list(run.topics)[:1]
    for label_set in chosen:
        finding = find_best(records, run.name, label_set)
        frame = run.frames[label_set]
        if finding is None or finding.best.layer is None:
            continue
        layer = finding.best.layer
        rows = frame[(frame["layer"] == layer) & frame["metric"].isin(["lift", "specific_information"])]
        rows = rows[rows["routing"] == "learned"]
        if not (rows["metric"] == "lift").any():
            continue
        names = name_label_set(label_set)
        yield FigureSpec(
            f"heatmap-{number}-{slugify(run.name)}-{slugify(label_set)}",
            "heatmap",
            f"{run.label}: how much more often than overall an expert meets each {names.long}, at layer {layer}, where "
            "routing tells most about it. 1 means no difference.",
            plot.expert_label_heatmap,
            rows,
            {"layer": layer, "metric": "lift", "label_set": label_set},
        )


def _plan_loads(run: RunResults, number: int) -> Iterable[FigureSpec]:
    for frame in run.frames.values():
        rows = frame[(frame["metric"] == "load") & (frame["routing"] == "learned") & frame["value"].notna()]
        if not rows.empty:
            yield FigureSpec(
                f"load-{number}-{slugify(run.name)}",
                "load",
                f"{run.label}: the share of the routed mass that each expert gets, divided by an even share. The "
                "dashed line is an even spread; crosses at the foot mark experts that get almost nothing.",
                plot.expert_load,
                rows,
                {},
            )
            return


def _rows(frame: pd.DataFrame, metric: str, label_set: str) -> pd.DataFrame:
    rows = frame[(frame["metric"] == metric) & (frame["label_set"] == label_set)]
    return select_rows(rows, metric=metric) if len(rows) else rows


def draw_figure(spec: FigureSpec, folder: Path, *, formats: Sequence[str], provenance: dict[str, Any]) -> DrawnFigure:
    """Draw `spec`, write its image files, NAME.csv and NAME.json into `folder`, and return it with its SVG source."""
    figure = cast(Figure, spec.function(spec.frame, **spec.arguments).figure)
    files = [save_figure(figure, folder / f"{spec.name}.{image_format}").name for image_format in formats]
    sidecar = provenance | {
        "figure": spec.name,
        "caption": spec.caption,
        "function": f"specialize.plot.{spec.function.__name__}",
        "arguments": spec.arguments,
        "data": f"{spec.name}.csv",
        "numbers": _list_numbers(spec.frame),
    }
    texts = [column for column in _TEXT_COLUMNS if column in spec.frame]
    write_table(spec.frame, folder / f"{spec.name}.csv", text_columns=texts)
    write_text(folder / f"{spec.name}.json", json.dumps(sidecar, indent=1, ensure_ascii=False) + "\n")
    svg = render_figure(figure, "svg", transparent=True).decode("utf-8")
    return DrawnFigure(spec, svg, figure.get_figwidth(), (*files, f"{spec.name}.csv", f"{spec.name}.json"))


def provenance_of(runs: Sequence[RunResults], command: str) -> dict[str, Any]:
    """Return what every sidecar says of where its numbers come from."""
    return {
        "command": command,
        "specialize": __version__,
        "runs": [
            {"name": run.name, "path": run.path.as_posix(), "manifest_sha256": run.digest, "causal": run.is_causal}
            for run in runs
        ],
    }


def _list_numbers(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the frame as column names and rows, without columns that are empty; None for a missing value."""
    frame = frame.dropna(axis="columns", how="all")
    cells = frame.astype(object).where(frame.notna(), None)
    rows = [[cell.item() if hasattr(cell, "item") else cell for cell in row] for row in cells.itertuples(index=False)]
    return {"columns": list(map(str, frame.columns)), "rows": rows}


def slugify(text: str) -> str:
    """Return `text` as part of a file name: ASCII letters, digits and hyphens, at most 40, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40].strip("-") or "x"
