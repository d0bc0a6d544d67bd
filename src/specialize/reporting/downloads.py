"""The result tables that are embedded in a page, to be saved from there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from specialize.measure.results.files import format_csv
from specialize.reporting.packing import pack
from specialize.reporting.runs import RunResults
from specialize.reporting.spec import slugify

_TEXT_COLUMNS = ("run", "router", "label_set", "label", "text", "cell", "topic", "top_words", "example", "quantity")
MOST_ROWS = 20_000  # of a table; a longer one is embedded without its rows of single experts


@dataclass(frozen=True)
class Download:
    """A table embedded in the page.

    Attributes:
        run: the run that it belongs to.
        name: the file to save, CSV.
        rows: rows of the table.
        href: the table, compressed, as a data URL.
        left_out: rows of single experts that were left out.
    """

    run: str
    name: str
    rows: int
    href: str
    left_out: int = 0


def text_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns of a table whose texts come from people, models or corpora."""
    return [column for column in _TEXT_COLUMNS if column in frame]


def pack_table(frame: pd.DataFrame) -> str:
    """Return a frame as gzipped CSV in a data URL: texts guarded against spreadsheet formulas, 6 significant digits."""
    frame = frame.dropna(axis="columns", how="all")
    csv = format_csv(frame, text_columns=text_columns(frame), float_format="%.6g")
    return f"data:application/gzip;base64,{pack(csv)}"


def collect_downloads(runs: Sequence[RunResults]) -> list[Download]:
    """Return every result table of `runs`."""
    downloads = []
    for number, run in enumerate(runs, 1):
        for name, frame in _name_tables(run):
            kept = frame if len(frame) <= MOST_ROWS or "expert" not in frame else frame[frame["expert"].isna()]
            left_out = len(frame) - len(kept)
            file = f"{number}-{slugify(run.name)}-{slugify(name)}.csv"
            downloads.append(Download(run.label, file, len(kept), pack_table(kept), left_out))
    return downloads


def _name_tables(run: RunResults) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from run.frames.items()
    if run.routing is not None:
        yield "routing", run.routing
    yield from run.others.items()
    yield from ((f"ablation-{name}", frame) for name, frame in run.ablation.items())
    yield from ((f"tagger-{name}", frame) for name, frame in run.taggers.items())
    tables = {"top-tokens": run.top_tokens, "topic-info": run.topic_info, "topic-quality": run.topic_quality}
    yield from ((name, table) for name, table in tables.items() if table is not None)
