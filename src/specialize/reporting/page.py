"""A report of one or several runs: a self-contained HTML page, or Markdown, with its figures on disk."""

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from specialize import __version__
from specialize.addresses import show
from specialize.atomic import write_text
from specialize.errors import SpecializeError
from specialize.events import SILENT, Reporter
from specialize.names import name_label_set
from specialize.plot.style import check_formats, render_figure
from specialize.reporting import tables
from specialize.reporting.answers import MOST_CARDS, Answer, answer_runs, answer_table, full_bar
from specialize.reporting.assets import hash_source, read_asset, read_script, read_style
from specialize.reporting.caveats import list_caveats
from specialize.reporting.citing import cite
from specialize.reporting.controls import control_tables
from specialize.reporting.destination import check_destination
from specialize.reporting.differences import compare_in_words, difference_tables
from specialize.reporting.downloads import collect_downloads, pack_table
from specialize.reporting.expert_table import collect_expert_tables
from specialize.reporting.explorer import collect_explorer, list_views
from specialize.reporting.figures import DrawnFigure, draw_all, make_folder, provenance_of
from specialize.reporting.findings import Record, read_records
from specialize.reporting.formatting import percent
from specialize.reporting.function_tables import function_tables
from specialize.reporting.function_words import describe_function
from specialize.reporting.integrity import describe_provenance, interval_table
from specialize.reporting.markdown import render_markdown
from specialize.reporting.packing import pack_json
from specialize.reporting.plan import plan_figures
from specialize.reporting.reading import read_runs
from specialize.reporting.rendering import read_templates
from specialize.reporting.routing_tables import routing_tables
from specialize.reporting.runs import TOPICS, RunResults
from specialize.reporting.studied import describe_studied, name_model
from specialize.reporting.svg import inline_svg
from specialize.reporting.verdict import judge_runs
from specialize.reporting.wording import describe
from specialize.text import clean_text, list_names

_SECTION_TITLES = {
    "together": "Syntax against topics",
    "syntax": "Syntax",
    "topics": "Topics",
    "routing": "Routing",
    "function": "Function",
    "training": "Training",
}
_KINDS = {
    "together": ("plane",),
    "syntax": ("profile", "heatmap", "forest", "tokens"),
    "topics": ("profile", "heatmap", "forest"),
    "routing": ("load", "profile", "pairs", "repeats"),
    "function": ("effects", "agreement", "sets", "removal"),
    "training": ("curves",),
}
_EXPERTS_NOTE = (
    "Each figure shows one run at the layer with the largest U. Experts are sorted by specific information, largest "
    "first; labels are sorted by the expert with their largest lift."
)


def write_report(
    runs: Sequence[Path],
    output: Path,
    *,
    formats: Sequence[str] = ("pdf", "png"),
    page_format: str = "html",
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> Path:
    """Write a report of `runs` into the folder `output` and return the path of its page.

    Writes ``report.html``, which is self-contained (style, figures and tables are embedded), and for each figure
    ``figures/NAME.{pdf,png}``, the frame it draws as ``NAME.csv`` and a sidecar ``NAME.json`` with the command, the
    versions, the runs' manifest digests, the plot function with its arguments, and the numbers. The same runs give the
    same bytes. For parts that were not measured, the page names the command that measures them.

    Args:
        runs: run folders, each with a manifest.json.
        output: folder to write to, made where it is missing.
        formats: image formats of the figures on disk, of pdf, png and svg.
        page_format: ``html``, or ``md``: ``report.md``, Markdown that shows the figures on disk.
        command: the command to record; without, the ``specialize report`` command that does the same.
        reporter: receives progress.

    Raises:
        SpecializeError: an unknown format, `output` is a file, or it holds other things than a report or runs.
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    check_formats(formats)
    if page_format not in ("html", "md"):
        raise SpecializeError(f"report format: expected html or md, got {page_format!r}")
    page = Path(output) / f"report.{page_format}"
    check_destination(page)
    results = read_runs(runs, reporter=reporter)
    # before anything is written: this reads the traces, whose files may be damaged
    explorer = collect_explorer(results) if page_format == "html" else None
    output = make_folder(Path(output), "to write the report to")
    figures_folder = make_folder(output / "figures", "for the figures")
    command = command or shlex.join(["specialize", "report", *map(show, runs), "--output", show(output)])
    records = read_records(results)
    provenance = provenance_of(results, command)
    specs = plan_figures(results, records)
    drawn = draw_all(specs, figures_folder, formats=formats, provenance=provenance, reporter=reporter)
    if page_format == "html":
        write_text(page, render_page(results, records, drawn, explorer=explorer, command=command))
    else:
        write_text(page, _render_markdown(results, records, drawn, command=command))
    return page


def render_page(
    runs: Sequence[RunResults],
    records: Sequence[Record],
    drawn: Sequence[DrawnFigure],
    *,
    explorer: dict[str, Any] | None,
    command: str,
) -> str:
    """Return the page as one HTML document."""
    experts = collect_expert_tables(runs)
    scripts = [read_asset(name) for name in ("packed.js", *(["explorer.js"] if explorer else []))]
    if experts:
        scripts += [read_script("tabulator"), read_asset("experts.js")]
    styles = [read_style("tabulator"), read_asset("experts.css")] if experts else []
    template = read_templates(autoescape=True).get_template("report.html.j2")
    return template.render(
        _collect_parts(runs, records, command, compared=list_views(explorer)),
        css=Markup("\n".join([*styles, read_asset("report.css")])),  # the package's own files, and those of libraries
        scripts=list(map(Markup, scripts)),
        # the content security policy lists the scripts that may run, so none that a corpus contains can
        script_sources=" ".join(map(hash_source, scripts)),
        experts=experts and pack_json(experts),
        explorer=explorer and pack_json(explorer),
        figures=_group_figures(drawn),
        figure_names={figure.spec.name for figure in drawn},
        experts_note=_EXPERTS_NOTE,
        missing=[hint for run in runs for hint in _missing(run)],
        routing_missing=[
            _hint(run, "repeats, co-activation and flow between layers", "routing")
            for run in runs
            if run.routing is None
        ],
        function_missing=[
            _hint(run, "what happens when experts are switched off", "ablate MODEL")
            for run in runs
            if run.can_be_ablated and not run.ablation
        ],
        downloads=collect_downloads(runs),
        models=[_model(run) for run in runs],
    )


def _render_markdown(
    runs: Sequence[RunResults], records: Sequence[Record], drawn: Sequence[DrawnFigure], *, command: str
) -> str:
    figures = [
        (title, [_link_figure(figure) for figure in drawn if figure.spec.section == section])
        for section, title in _SECTION_TITLES.items()
    ]
    return render_markdown(_collect_parts(runs, records, command) | {"figures": figures})


def _group_figures(drawn: Sequence[DrawnFigure]) -> dict[str, dict[str, Any]]:
    """Return the figures as the page shows them, by section and kind, and those that are folded by title."""
    figures: dict[str, dict[str, Any]] = {
        section: {**{kind: [] for kind in kinds}, "folds": {}} for section, kinds in _KINDS.items()
    }
    for figure in drawn:
        section, spec = figures[figure.spec.section], figure.spec
        shown = section["folds"].setdefault(spec.fold, []) if spec.fold else section[spec.kind]
        shown.append(_show_figure(figure))
    return figures


def _link_figure(figure: DrawnFigure) -> dict[str, Any]:
    kinds = {name.rsplit(".", 1)[1]: f"figures/{name}" for name in figure.files}
    image = next(kinds[kind] for kind in ("svg", "png", "pdf", "csv") if kind in kinds)
    return {"caption": figure.spec.caption, "image": image, "data": kinds["csv"]}


def _collect_parts(
    runs: Sequence[RunResults], records: Sequence[Record], command: str, *, compared: Collection[str] = ()
) -> dict[str, Any]:
    """Return the parts that are common to all page formats; `compared` names the runs whose traces were read."""
    verdicts = judge_runs(runs, records)
    answers = answer_runs(runs, verdicts, records)
    models = list(dict.fromkeys(name for run in runs if (name := name_model(run))))
    return {
        "title": "Expert specialization" + (f" in {list_names(models)}" if models else ""),
        "full_bar": percent(full_bar(verdicts)),
        "most_cards": MOST_CARDS,
        "any_curve": any(answer.sparkline for own in answers.values() for answer in own),
        "citation": cite(runs),
        "version": __version__,
        "command": clean_text(command),
        "names": [run.label for run in runs],
        "any_control": any(answer.bar.control is not None for own in answers.values() for answer in own),
        "answers": answer_table(answers, {run.name: run.label for run in runs}),
        "summaries": [_summarise(run, answers[run.name]) for run in runs],
        "comparisons": compare_in_words(runs, records),
        "caveats": list_caveats(runs, records, verdicts),
        "comparison": tables.compare_runs(runs, records, verdicts),
        "differences": difference_tables(runs),
        "routing_tables": [table for run in runs for table in routing_tables(run)],
        "functions": [
            {"name": run.label, "sentences": describe_function(run), "tables": function_tables(run)}
            for run in runs
            if run.ablation
        ],
        "controls": [table for run in runs for table in control_tables(run, verdicts[run.name])],
        "intervals": [table for run in runs if (table := interval_table(run)) is not None],
        "layer_tables": [{"name": run.label, "table": tables.layer_table(run, records)} for run in runs],
        "topics": _topics(runs),
        "provenance": [describe_provenance(run, is_compared=run.label in compared) for run in runs],
    }


def _summarise(run: RunResults, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "name": run.label,
        "studied": describe_studied(run),
        "answers": answers,
        "sentences": [describe(answer.verdict) for answer in answers],
        "missing": _missing(run),
    }


def _missing(run: RunResults) -> list[dict[str, str]]:
    """Return what was not measured on `run`, with the command that measures it."""
    hints = [] if run.syntax or not run.has_tokens else [_hint(run, "part of speech", "syntax")]
    return hints + ([] if run.topics else [_hint(run, "topics", "topics")])


def _hint(run: RunResults, what: str, command: str) -> dict[str, str]:
    place = shlex.quote(clean_text(show(run.path)))
    return {"run": run.label, "what": what, "command": f"specialize {command} {place}"}


def _topics(runs: Sequence[RunResults]) -> list[dict[str, Any]]:
    """Return the topic fits; runs with the same fit share an entry."""
    fits: dict[str, dict[str, Any]] = {}
    for run in runs:
        known = [name_label_set(name).long for name in run.topics if name != TOPICS]
        taken = TOPICS in run.topics
        # all that were fitted on other runs have one sentence
        parts = ["taken" if taken else run.name] if run.topic_info is None else [run.topic_info.to_csv()]
        key = "\0".join([*parts, "" if run.topic_quality is None else run.topic_quality.to_csv()])
        if key in fits:
            fits[key]["names"].append(run.label)
            continue
        fits[key] = {
            "names": [run.label],
            "table": tables.topic_table(run),
            "quality": tables.quality_table(run),
            "taken": taken,
            "known": known,
            "command": _hint(run, "topics", "topics")["command"],
        }
    return list(fits.values())


def _show_figure(figure: DrawnFigure) -> dict[str, Any]:
    spec, width = figure.spec, figure.figure.get_figwidth()
    svg = render_figure(figure.figure, "svg", transparent=True).decode("utf-8")
    return {
        "name": spec.name,
        "svg": Markup(inline_svg(svg, name=spec.name, title=spec.caption, width=width)),
        "caption": spec.caption,
        "wide": width > 4.2,
        "data": pack_table(spec.frame),
        "file": f"{spec.name}.csv",
    }


def _model(run: RunResults) -> dict[str, Any]:
    model = run.manifest.get("model")
    facts = tables.flatten(model) if isinstance(model, dict) else [("model", model)] if model else []
    return {
        "name": run.label,
        "causal": run.is_causal,
        "facts": tables.facts_table(f"{run.label}: configuration", facts),
        "routers": tables.router_table(run),
    }
