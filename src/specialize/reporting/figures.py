"""Figures on disk, each with the frame it draws and a sidecar that records how it was made."""

import fnmatch
import json
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
from matplotlib.figure import Figure

from specialize import __version__
from specialize.addresses import show
from specialize.atomic import write_text
from specialize.choices import FigureWidth
from specialize.errors import SpecializeError, did_you_mean
from specialize.events import SILENT, Reporter
from specialize.measure.results.files import write_table
from specialize.plot.fonts import cover_characters, tell_missing
from specialize.plot.sizes import check_width
from specialize.plot.style import check_formats, store_figure, use_style
from specialize.reporting.destination import check_folder
from specialize.reporting.downloads import text_columns
from specialize.reporting.findings import read_records
from specialize.reporting.plan import plan_figures
from specialize.reporting.reading import read_runs
from specialize.reporting.runs import RunResults
from specialize.reporting.sheet import write_sheet
from specialize.reporting.spec import FigureSpec


@dataclass(frozen=True)
class Look:
    """How all figures are drawn: the name of their printed width, None for that of each, and whether with titles."""

    width: FigureWidth | None = None
    titles: bool = True


AS_IT_IS = Look()


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as it was drawn: its spec, the figure, and the names of its files."""

    spec: FigureSpec
    figure: Figure
    files: tuple[str, ...]


def draw_figure(
    spec: FigureSpec, folder: Path, *, formats: Sequence[str], provenance: dict[str, Any], look: Look = AS_IT_IS
) -> DrawnFigure:
    """Draw `spec` and write its image files, NAME.csv and NAME.json into `folder`."""
    arguments = spec.arguments if look.titles else spec.arguments | {"title": None}
    with use_style(width=look.width):
        figure = cast(Figure, spec.function(spec.frame, **arguments).figure)
    how = {
        "figure": spec.name,
        "caption": spec.caption,
        "function": f"specialize.plot.{spec.function.__name__}",
        "arguments": arguments,
        "inches": [round(float(size), 3) for size in figure.get_size_inches()],
    }
    files = write_figure(figure, spec.frame, folder / spec.name, formats=formats, sidecar=provenance | how)
    return DrawnFigure(spec, figure, tuple(path.name for path in files))


def draw_all(
    specs: Sequence[FigureSpec],
    folder: Path,
    *,
    formats: Sequence[str],
    provenance: dict[str, Any],
    look: Look = AS_IT_IS,
    reporter: Reporter = SILENT,
) -> list[DrawnFigure]:
    """Draw `specs` in order, as `draw_figure` does, and report the progress, and characters that no font has."""
    drawn = []
    with reporter.progress("drawing", "figures") as update:
        for done, spec in enumerate(specs, 1):
            drawn.append(draw_figure(spec, folder, formats=formats, provenance=provenance, look=look))
            update(done, len(specs))
    missing = set().union(*(cover_characters(figure.figure) for figure in drawn))
    if missing and set(formats) != {"svg"}:
        if reporter is SILENT:
            warnings.warn(tell_missing(missing), stacklevel=2)
        else:
            reporter.say(tell_missing(missing))
    return drawn


def write_figure(
    figure: Figure, frame: pd.DataFrame, path: Path, *, formats: Sequence[str], sidecar: dict[str, Any]
) -> list[Path]:
    """Write a figure as an image of each format, the frame it draws as CSV, and a JSON sidecar.

    Args:
        figure: a drawn figure.
        frame: what it draws.
        path: of the files, without suffix.
        formats: of pdf, png and svg.
        sidecar: how the figure was made; ``data``, the name of the CSV, and ``numbers``, the frame, are added.

    Returns:
        The files: the images in the order of `formats`, CSV, JSON.
    """
    data, record = (path.with_name(f"{path.name}.{suffix}") for suffix in ("csv", "json"))
    content = sidecar | {"data": data.name, "numbers": _list_numbers(frame)}
    write_text(record, json.dumps(content, indent=1, ensure_ascii=False) + "\n")  # first: it marks the folder as ours
    write_table(frame, data, text_columns=text_columns(frame))
    images = [store_figure(figure, path.with_name(f"{path.name}.{image_format}")) for image_format in formats]
    return [*images, data, record]


def make_folder(path: Path, purpose: str) -> Path:
    """Make the folder `path` where it is missing.

    Raises:
        SpecializeError: it is a file.
    """
    if path.exists() and not path.is_dir():
        raise SpecializeError(f"{path}: expected a folder {purpose}, got a file; name another")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecializeError(
            f"{path}: expected a folder that can be made {purpose}, got: {error.strerror}; name another"
        ) from None
    return path


def provenance_of(runs: Sequence[RunResults], command: str) -> dict[str, Any]:
    """Return what every sidecar records about the origin of its numbers."""
    return {
        "command": command,
        "specialize": __version__,
        "runs": [
            {
                "name": run.name,
                "path": show(run.path),
                "manifest_sha256": run.digest,
                "causal": run.is_causal,
            }
            for run in runs
        ],
    }


def _list_numbers(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the frame as column names and rows, without columns that are empty; None for a missing value."""
    frame = frame.dropna(axis="columns", how="all")
    cells = frame.astype(object).where(frame.notna(), None)
    rows = [[cell.item() if hasattr(cell, "item") else cell for cell in row] for row in cells.itertuples(index=False)]
    return {"columns": list(map(str, frame.columns)), "rows": rows}


def draw_figures(
    runs: Sequence[Path],
    output: Path,
    *,
    only: Sequence[str] | None = None,
    formats: Sequence[str] = ("pdf", "png"),
    look: Look = AS_IT_IS,
    sheet: bool = False,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> list[Path]:
    """Draw the figures that the results of `runs` allow into the folder `output`.

    Args:
        runs: run folders, each with a manifest.json.
        output: folder to write to, made where it is missing.
        only: names of figures, or patterns in which ``*`` matches anything; by default all figures.
        formats: of pdf, png and svg.
        look: width and titles of all figures.
        sheet: write sheet.pdf and sheet.png, too, which show all of them on one page.
        command: the command to record; without, the ``specialize figures`` command that does the same.
        reporter: receives progress.

    Returns:
        The image files.

    Raises:
        SpecializeError: an unknown format or width, a name that no figure has, nothing to draw, or `output` is a file
            or holds other things than figures, a report or runs.
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    check_formats(formats)
    check_width(look.width)
    check_folder(Path(output), "the figures")
    results = read_runs(runs, reporter=reporter)
    specs = plan_figures(results, read_records(results))
    names = [spec.name for spec in specs]
    if not specs:
        raise SpecializeError("expected runs with results to draw, got none: measure first, with `specialize syntax`")
    for pattern in only or ():
        if not fnmatch.filter(names, pattern):
            raise SpecializeError(
                f"--only: expected one of {', '.join(names)}, got {pattern!r}.{did_you_mean(pattern, names)}"
            )
    output = make_folder(Path(output), "to draw into")
    options = [*(["--width", look.width] if look.width else []), *(["--no-titles"] if not look.titles else [])]
    command = command or shlex.join(
        ["specialize", "figures", *(str(run) for run in runs), "--output", str(output), *options]
    )
    provenance = provenance_of(results, command)
    if only:
        specs = [spec for spec in specs if any(fnmatch.fnmatch(spec.name, pattern) for pattern in only)]
    figures = draw_all(specs, output, formats=formats, provenance=provenance, look=look, reporter=reporter)
    names = [name for figure in figures for name in figure.files]
    images = [output / name for name in names if Path(name).suffix.lstrip(".") in formats]
    return images + (write_sheet([(each.spec.name, each.figure) for each in figures], output) if sheet else [])
