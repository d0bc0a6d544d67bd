"""Where reports and figures may be written: beside nothing that they could be confused with or replace."""

from pathlib import Path

from specialize.errors import SpecializeError

_PAGES = ("report.html", "report.md")
_MARKS = (
    '<meta name="generator" content="specialize ',
    "<!-- written by specialize ",
    "# Expert specialization for syntax and topics",  # of earlier versions
)
_MARK_OF_A_FIGURE = '"specialize": "'  # in the record of each figure, NAME.json
_BYTES_WITH_MARK = 2000
_MOST_RECORDS = 100  # that are looked at; in a folder of figures the first is one


def check_destination(page: Path) -> None:
    """Check that a page and its figures may be written to a folder: by `check_folder` for both of their folders.

    Args:
        page: the path of the page; its figures are in ``figures`` beside it.

    Raises:
        SpecializeError: a folder holds other things, or a file of the name of a page is no report.
    """
    for name in _PAGES:
        place = page.with_name(name)
        if place.exists() and not _has_mark(place, _MARKS):
            raise SpecializeError(f"{place}: expected a report that may be replaced, got something else; {_ANOTHER}")
    check_folder(page.parent, "the report")
    check_folder(page.parent / "figures", "the figures")


def check_folder(folder: Path, purpose: str) -> None:
    """Check that something may be written to a folder.

    The folder may be missing or empty but for hidden files and ``figures``, hold a report or figures that were written
    before, be a run folder, or hold run folders.

    Args:
        folder: the folder.
        purpose: what is to be written, in the words of the message.

    Raises:
        SpecializeError: the folder holds other things.
    """
    if not folder.is_dir():  # missing; or a file, which cannot be made a folder and raises an error then
        return
    places = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "figures"]
    if places and not (_has_own(folder) or any((place / "manifest.json").is_file() for place in (folder, *places))):
        raise SpecializeError(
            f"{folder}: expected a new or empty folder for {purpose}, or one with an earlier report, figures or runs, "
            f"got one that holds other things; {_ANOTHER}, such as {folder / 'specialize'}"
        )


_ANOTHER = "name another folder"


def _has_own(folder: Path) -> bool:
    """Return whether a folder holds a report or a figure."""
    records = sorted(folder.glob("*.json"))[:_MOST_RECORDS]
    return any(_has_mark(folder / name, _MARKS) for name in _PAGES) or any(
        _has_mark(record, (_MARK_OF_A_FIGURE,)) for record in records
    )


def _has_mark(path: Path, marks: tuple[str, ...]) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(_BYTES_WITH_MARK)
    except OSError:
        return False
    return any(mark in start for mark in marks)
