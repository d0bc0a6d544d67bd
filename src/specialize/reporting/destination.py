"""Where a report may be written: beside nothing that it could be confused with or replace."""

from pathlib import Path

from specialize.errors import SpecializeError

_PAGES = ("report.html", "report.md")
_MARKS = ('<meta name="generator" content="specialize ', "# Expert specialization for syntax and topics")
_BYTES_WITH_MARK = 2000


def check_destination(page: Path) -> None:
    """Check that a page and its figures may be written to a folder.

    The folder may be missing or empty but for hidden files, hold a report that was written before, be a run folder, or
    hold run folders.

    Args:
        page: the path of the page.

    Raises:
        SpecializeError: the folder holds other things, or a file of the name of the page is no report.
    """
    folder = page.parent
    if not folder.is_dir():  # missing; or a file, which cannot be made a folder and raises an error then
        return
    for name in _PAGES:
        if (folder / name).exists() and not _is_report(folder / name):
            raise SpecializeError(
                f"{folder / name}: expected a report that may be replaced, got something else; name another folder"
            )
    places = [path for path in folder.iterdir() if not path.name.startswith(".")]
    has_page = any((folder / name).exists() for name in _PAGES)
    has_runs = any((place / "manifest.json").is_file() for place in (folder, *places))
    if places and not (has_page or has_runs):
        raise SpecializeError(
            f"{folder}: expected a new or empty folder for the report, or one with an earlier report or with runs, got "
            f"one that holds other things; name another, such as {folder / 'report'}"
        )


def _is_report(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(_BYTES_WITH_MARK)
    except OSError:
        return False
    return any(mark in start for mark in _MARKS)
