"""Figures and reports of what was measured."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.choices import FigureWidth, PageFormat
from specialize.events import SILENT, Reporter
from specialize.remote.places import at_addresses

if TYPE_CHECKING:
    from specialize.trace import RoutingTrace


@at_addresses(runs="read", folder="report")
def report(
    runs: "Sequence[str | PathLike[str] | RoutingTrace] | str | PathLike[str] | RoutingTrace",
    folder: str | PathLike[str],
    *,
    page_format: PageFormat = "html",
    formats: Sequence[str] = ("pdf", "png"),
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> Path:
    """Draw the figures and write ``report.html``, or ``report.md``; several runs are shown side by side.

    Args:
        runs: run folders or their addresses, or open traces.
        folder: where the page and ``figures/`` go, made where it is missing; it may hold an earlier report, or runs,
            but nothing else.
        page_format: html, one file that loads nothing; or md, for a repository.
        formats: image formats of the figures on disk, of pdf, png and svg.
        command: the command line to record; by default the ``specialize report`` command that does the same.
        reporter: receives messages and progress.

    Returns:
        The path of the page.

    Raises:
        SpecializeError: an unknown format, or `folder` is a file or holds other things.
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    from specialize.reporting import write_report

    return write_report(
        list_runs(runs), Path(folder), formats=formats, page_format=page_format, command=command, reporter=reporter
    )


@at_addresses(runs="read", folder="report")
def figures(
    runs: "Sequence[str | PathLike[str] | RoutingTrace] | str | PathLike[str] | RoutingTrace",
    folder: str | PathLike[str],
    *,
    only: Sequence[str] | None = None,
    formats: Sequence[str] = ("pdf", "png"),
    width: FigureWidth | None = None,
    titles: bool = True,
    sheet: bool = False,
    command: str | None = None,
    reporter: Reporter = SILENT,
) -> list[Path]:
    """Draw the figures of what was measured, each with its data (CSV) and its provenance (JSON).

    Args:
        runs: run folders or their addresses, or open traces; several are drawn side by side.
        folder: where the figures go, made where it is missing; it may hold earlier figures, a report, or runs, but
            nothing else.
        only: names of figures, in which ``*`` stands for anything; all by default.
        formats: image formats, of pdf, png and svg.
        width: where the figures are printed, which sets their width: ``single`` (a column, 3.35 inches), ``double`` (a
            page, 6.9), ``neurips`` (5.5), ``icml`` (a column, 3.25) or ``acl`` (a column, 3.03). By default each has a
            width that fits its content, 3.35 to 6.9 inches. Text is 6 points high or more at every width.
        titles: draw titles; without them a caption says what is drawn.
        sheet: write ``sheet.pdf`` and ``sheet.png``, too: all figures on one page, each with its name.
        command: the command line to record.
        reporter: receives messages and progress.

    Returns:
        The files that were written.

    Raises:
        SpecializeError: an unknown format or width, no figure of a name, or `folder` is a file or holds other things.
        TraceError: a folder is no run folder.
        MeasurementError: a result file is damaged.
    """
    from specialize.reporting.figures import Look, draw_figures

    return draw_figures(
        list_runs(runs),
        Path(folder),
        only=only or (),
        formats=formats,
        look=Look(width, titles),
        sheet=sheet,
        command=command,
        reporter=reporter,
    )


def list_runs(
    runs: "Sequence[str | PathLike[str] | RoutingTrace] | str | PathLike[str] | RoutingTrace",
) -> list[Path]:
    """Return the folders of one or several runs."""
    from specialize.trace import RoutingTrace

    several = [runs] if isinstance(runs, str | PathLike | RoutingTrace) else runs
    return [run.path if isinstance(run, RoutingTrace) else Path(run) for run in several]
