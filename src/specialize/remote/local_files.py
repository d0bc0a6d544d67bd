"""The local files of a copy."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from specialize.remote.store import Stored

Stamp = tuple[int, int, int]  # size, time, inode


@dataclass
class CopiedFile:
    """A file of the store, and what of it is here.

    Attributes:
        stored: what the store holds.
        stamp: of the local file; None if there is none.
        is_empty: whether an empty file stands for it.
    """

    stored: Stored
    stamp: Stamp | None = None
    is_empty: bool = False

    @property
    def is_here(self) -> bool:
        """Whether the local file is that of the store."""
        return self.stamp is not None and not self.is_empty


def is_plain(name: str) -> bool:
    """Return whether a name is that of a file below a folder, which is not hidden; or empty."""
    return not name or all(part and not part.startswith(".") for part in name.split("/"))


def is_of_trace(name: str) -> bool:
    """Return whether a file is one of a trace, to which no one writes in place: it may be one with what is kept."""
    return name.startswith("trace/") and name.endswith(".arrow")


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes when a file is written: its size, time and inode; None if there is no file."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def list_files(root: Path) -> Iterator[tuple[Path, Stamp]]:
    """Yield the files below a folder, without hidden ones."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            stamp = None if name.startswith(".") else stamp_of(Path(folder, name))
            if stamp is not None:
                yield Path(folder, name), stamp
