"""A report of one or several runs: an HTML page that needs nothing but itself, and its figures on disk."""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from specialize import __version__
from specialize.atomic import write_text
from specialize.errors import SpecializeError
from specialize.plot.style import check_formats, render_figure
from specialize.plot.text import name_label_set
from specialize.report import tables
from specialize.report.explorer import collect_explorer, dump_json
from specialize.report.figures import DrawnFigure, draw_figure, make_folder, provenance_of
from specialize.report.findings import Record, describe, find_best, read_records
from specialize.report.markdown import render_markdown
from specialize.report.plan import plan_figures
from specialize.report.rendering import read_templates
from specialize.report.runs import TOPICS, RunResults, read_runs
from specialize.report.svg import inline_svg
from specialize.report.words import compare, list_caveats
from specialize.text import clean_text

SECTIONS = ("profile", "plane", "heatmap", "forest", "tokens", "load", "routing")
_MARKDOWN_SECTIONS = {
    "Layer by layer": ("profile", "plane"),
    "Which experts take what": ("heatmap", "forest", "tokens"),
    "Load and routing": ("load", "routing"),
}
_MEASURE_SYNTAX = "specialize syntax"
_MEASURE_TOPICS = "specialize topics"


def write_report(
    runs: Sequence[Path],
    output: Path,
    *,
    formats: Sequence[str] = ("pdf", "png"),
    page_format: str = "html",
    command: str | None = None,
) -> Path:
    """Write a report of `runs` into the folder `output` and return the path of its page.

    Writes ``report.html``, which loads nothing (style and figures are inside it), and for each figure
    ``figures/NAME.{pdf,png}``, the frame it draws as ``NAME.csv`` and a sidecar ``NAME.json`` with the command, the
    versions, the runs' manifest digests, the plot function with its arguments, and the numbers. The same runs give the
    same bytes. Parts that were not measured are named, with the command that measures them.

    Args:
        runs: run folders, each with a manifest.json.
        output: folder to write to, made where it is missing.
        formats: image formats of the figures on disk, of pdf, png and svg.
        page_format: ``html``, or ``md``: ``report.md``, Markdown that shows the figures on disk.
        command: the command to record; without, the ``specialize report`` command that does the same.

    Raises:
        SpecializeError: an unknown format, or `output` is a file.
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    check_formats(formats)
    if page_format not in ("html", "md"):
        raise SpecializeError(f"report format: expected html or md, got {page_format!r}")
    results = read_runs(runs)
    output = make_folder(Path(output), "to write the report to")
    figures_folder = make_folder(output / "figures", "for the figures")
    command = command or shlex.join(["specialize", "report", *(str(run) for run in runs), "--output", str(output)])
    records = read_records(results)
    provenance = provenance_of(results, command)
    drawn = [
        draw_figure(spec, figures_folder, formats=formats, provenance=provenance)
        for spec in plan_figures(results, records)
    ]
    page = output / f"report.{page_format}"
    render = render_page if page_format == "html" else _render_markdown
    write_text(page, render(results, records, drawn, command=command))
    return page


def render_page(
    runs: Sequence[RunResults], records: Sequence[Record], drawn: Sequence[DrawnFigure], *, command: str
) -> str:
    """Return the page as one HTML document."""
    css, script = (
        files("specialize.report").joinpath("templates", name).read_text(encoding="utf-8")
        for name in ("report.css", "explorer.js")
    )
    explorer = collect_explorer(runs)
    return (
        read_templates(autoescape=True)
        .get_template("report.html.j2")
        .render(
            _collect_parts(runs, records, command),
            css=Markup(css),  # the package's own files
            script=Markup(script),
            # the policy of the page names the one script that may run: none that a corpus brings can
            script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            explorer=None if explorer is None else Markup(dump_json(explorer)),
            figures={
                section: [_show_figure(figure) for figure in drawn if figure.spec.section == section]
                for section in SECTIONS
            },
            missing=[hint for run in runs for hint in _missing(run)],
            load_tables=[table for run in runs if (table := tables.load_table(run))],
            models=[_model(run) for run in runs],
        )
    )


def _render_markdown(
    runs: Sequence[RunResults], records: Sequence[Record], drawn: Sequence[DrawnFigure], *, command: str
) -> str:
    figures = [
        (title, [_link_figure(figure) for figure in drawn if figure.spec.section in sections])
        for title, sections in _MARKDOWN_SECTIONS.items()
    ]
    return render_markdown(_collect_parts(runs, records, command) | {"figures": figures})


def _link_figure(figure: DrawnFigure) -> dict[str, Any]:
    kinds = {name.rsplit(".", 1)[1]: f"figures/{name}" for name in figure.files}
    image = next(kinds[kind] for kind in ("svg", "png", "pdf", "csv") if kind in kinds)
    return {"caption": figure.spec.caption, "image": image, "data": kinds["csv"]}


def _collect_parts(runs: Sequence[RunResults], records: Sequence[Record], command: str) -> dict[str, Any]:
    """What pages of every kind say."""
    return {
        "version": __version__,
        "command": clean_text(command),
        "names": [run.label for run in runs],
        "non_causal": [run.name for run in runs if not run.is_causal],
        "summaries": [_summarise(run, records) for run in runs],
        "comparisons": compare(runs, records),
        "caveats": list_caveats(runs, records),
        "comparison": tables.compare_runs(runs, records),
        "layer_tables": [_part(run, tables.layer_table(run, records), _missing(run)) for run in runs],
        "topics": _topics(runs),
        "provenance": [_provenance(run) for run in runs],
    }


def _summarise(run: RunResults, records: Sequence[Record]) -> dict[str, Any]:
    findings = [find_best(records, run.name, name) for name in run.label_sets]
    return {
        "name": run.label,
        "unit": run.routing_unit,
        "sentences": [describe(finding) for finding in findings if finding is not None],
        "missing": _missing(run),
    }


def _missing(run: RunResults) -> list[dict[str, str]]:
    """Return what was not measured on `run`, with the command that measures it."""
    hints = []
    folder = shlex.quote(clean_text(run.path))
    if not run.syntax:
        hints.append({"run": run.label, "what": "part of speech", "command": f"{_MEASURE_SYNTAX} {folder}"})
    if not run.topics:
        hints.append({"run": run.label, "what": "topics", "command": f"{_MEASURE_TOPICS} {folder}"})
    return hints


def _part(run: RunResults, table: tables.Table | None, missing: list[dict[str, str]]) -> dict[str, Any]:
    return {"name": run.label, "table": table, "missing": missing}


def _topics(runs: Sequence[RunResults]) -> list[dict[str, Any]]:
    """Return the topic fits; runs of one corpus with the same fit share an entry."""
    fits: dict[str, dict[str, Any]] = {}
    for run in runs:
        known = [name_label_set(name).long for name in run.topics if name != TOPICS]
        parts = [run.name] if run.topic_info is None else [run.topic_info.to_csv()]
        key = "\0".join([*parts, "" if run.topic_quality is None else run.topic_quality.to_csv()])
        if key in fits:
            fits[key]["names"].append(run.label)
            continue
        fits[key] = {
            "names": [run.label],
            "table": tables.topic_table(run),
            "quality": tables.quality_table(run),
            "known": known,
            "command": f"{_MEASURE_TOPICS} {shlex.quote(clean_text(run.path))}",
        }
    return list(fits.values())


def _show_figure(figure: DrawnFigure) -> dict[str, Any]:
    spec, width = figure.spec, figure.figure.get_figwidth()
    svg = render_figure(figure.figure, "svg", transparent=True).decode("utf-8")
    return {
        "svg": Markup(inline_svg(svg, name=spec.name, title=spec.caption, width=width)),
        "caption": spec.caption,
        "wide": width > 4.2,
        "files": [{"href": f"figures/{name}", "kind": name.rsplit(".", 1)[1].upper()} for name in figure.files],
    }


def _model(run: RunResults) -> dict[str, Any]:
    manifest = run.manifest
    model = manifest.get("model")
    facts = tables.flatten(model) if isinstance(model, dict) else [("model", model)] if model else []
    return {
        "name": run.label,
        "causal": run.is_causal,
        "facts": tables.facts_table("Model", facts),
        "routers": tables.router_table(run),
    }


def _provenance(run: RunResults) -> dict[str, Any]:
    shown = {"model", "routers", "layers", "shards", "files", "checksums"}
    facts = [("folder", run.path.as_posix()), ("SHA-256 of manifest.json", run.digest)]
    facts += tables.flatten({key: value for key, value in run.manifest.items() if key not in shown})
    return {"name": run.label, "facts": tables.facts_table("Trace", facts)}
