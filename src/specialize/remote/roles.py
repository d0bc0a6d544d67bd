"""What functions do with the places that they are given, and which files of an address they need for it."""

from collections.abc import Callable, Collection
from typing import Literal

from specialize.errors import TraceError
from specialize.remote.address import MANIFEST
from specialize.remote.copy import Want

Role = Literal["measured", "read", "written", "ablated", "report", "files"]
"""What a function does with a place. Files of a trace are downloaded when they are read.

measured: reads a run, and writes results into it, which are stored when all are written
read: reads a run
written: writes a run, whose files are stored as they are finished
ablated: reads a run, and writes results into it, which are stored as they are finished
report: writes a report or figures, stored when all are written
files: writes other files, stored when all are written
"""
TOGETHER = ("measured", "report", "files")  # stored when all is written
_OF_PAGES = ("report.html", "report.md")


def check_run(address: str, role: Role, names: Collection[str]) -> None:
    """Raise TraceError for what is no run, before it is downloaded: a whole bucket, for instance."""
    if names and MANIFEST not in names:
        what = "a file" if "" in names else f"{len(names):,} files without a {MANIFEST}"
        wanted = "a run, or a place with nothing" if role == "written" else "a run"
        raise TraceError(f"{address}: expected the address of {wanted}, got that of {what}; give another one")


def choose_files(role: Role, below: str) -> Callable[[str], Want]:
    """Return what is done with each file of an address that a function needs in a role.

    Args:
        role: what the function does.
        below: the part of the address, with a slash at its end, that a report or other files are written to.
    """

    def want(name: str) -> Want:
        folder, _, rest = name.partition("/")
        if folder == "trace" and rest:
            return "when read"
        if below and not name.startswith(below):
            return "name"
        if role in ("report", "files"):
            first, *others = name.removeprefix(below).split("/")
            # an earlier report, the records of figures, and the manifests of runs beside it
            needed = first == "figures" or (first if not others else "").endswith((".json", *_OF_PAGES))
            if role == "report" and (needed or others == [MANIFEST]):
                return "now"
            return "name" if len(others) < 2 else "when read"
        if folder in ("parquet", "report", "figures") and rest:
            return "name"
        if name.startswith("ablation/changes/") and role != "ablated":
            return "name"
        return "now"

    return want
