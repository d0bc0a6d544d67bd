"""Addresses such as ``s3://bucket/runs/x``, and the local copies of what they hold.

Everything in this package reads and writes local files. What lies at an address is copied into a local folder, and what
is finished there is stored at the address, see `specialize.remote`. This module knows which strings are addresses and
which folders are copies; it opens no connection, and costs nothing where there is no copy.
"""

import os
import re
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeGuard

_FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.:-]+)?://")  # a single letter is a drive
_WEB = ("http://", "https://")


class Copy(Protocol):
    """A local folder with some of the files of an address."""

    def fetch(self, path: Path) -> None:
        """Download a file that the folder lacks, if the address has it."""

    def prefetch(self) -> None:
        """Download all files of the trace that the folder lacks."""

    def fetch_again(self, path: Path) -> bool:
        """Download a file although the folder has it; return whether the address has it."""

    def finished(self, path: Path) -> None:
        """Learn that a file was written or removed."""

    def size_of(self, path: Path) -> int | None:
        """Return the bytes of a file, here or at the address; None if there is none."""


def is_address(value: object) -> TypeGuard[str]:
    """Return whether a value is the address of an object store, and no path."""
    return isinstance(value, str) and _FORM.match(value) is not None


def are_addresses(values: Any) -> bool:
    """Return whether a sequence names files by paths and addresses, of which there is one at least, and holds no texts.

    Links to pages are texts.
    """
    found = [each for each in values if is_address(each) and not each.startswith(_WEB)]
    return bool(found) and len(found) + sum(isinstance(each, PathLike) for each in values) == len(values)


_copies: dict[Path, Copy] = {}
_folders: list[tuple[re.Pattern[str], str]] = []  # of copies, as they are in messages


def register(folder: Path, copy: Copy) -> None:
    """Make a folder known as the copy of an address."""
    _copies[folder] = copy


def forget_inside(folder: Path) -> None:
    """Let the copies inside a folder be copies no longer: what they hold is that of a copy of the folder."""
    for inner in [each for each in _copies if each.is_relative_to(folder) and each != folder]:
        del _copies[inner]


def show_below(folder: Path) -> None:
    """Let messages name addresses in place of the copies below a folder: PROTOCOL/PATH is PROTOCOL://PATH."""
    _folders.append((re.compile(re.escape(str(folder)) + r"/([a-z0-9+.-]+)/"), r"\1://"))


def copy_of(path: Path) -> Copy | None:
    """Return the copy that a path is in, the innermost one; None if it is in none."""
    if not _copies:
        return None
    place = Path(os.path.abspath(path))
    return next((_copies[folder] for folder in (place, *place.parents) if folder in _copies), None)


def fetched(path: Path) -> Path:
    """Return a path; a file that its copy lacks is downloaded.

    Raises:
        SpecializeError: the store cannot be read.
    """
    copy = copy_of(path)
    if copy is not None:
        copy.fetch(path)
    return path


def prefetch(run: Path) -> None:
    """Download all files of a run's trace, where the run is a copy that lacks some: it is about to be read.

    Raises:
        SpecializeError: the store cannot be read.
    """
    copy = copy_of(run)
    if copy is not None:
        copy.prefetch()


def fetched_again(path: Path) -> bool:
    """Download a file of a copy anew, whatever it holds; return whether there was one to download.

    Raises:
        SpecializeError: the store cannot be read.
    """
    copy = copy_of(path)
    return copy is not None and copy.fetch_again(path)


def announce(path: Path) -> None:
    """Tell the copy that a path is in, if any, that the file was written or removed.

    Raises:
        SpecializeError: the file could not be stored.
    """
    copy = copy_of(path)
    if copy is not None:
        copy.finished(path)


def is_elsewhere(path: Path) -> bool:
    """Return whether a file is at an address and was not downloaded yet."""
    copy = copy_of(path)
    return copy is not None and not path.exists() and copy.size_of(path) is not None


def size_of(path: Path) -> int:
    """Return the bytes of a file, wherever it is."""
    copy = copy_of(path)
    found = None if copy is None else copy.size_of(path)
    return path.stat().st_size if found is None else found


def show(path: str | PathLike[str]) -> str:
    """Return a path as a user knows it: the address of what is in a copy."""
    return show_text(os.fspath(path))


def show_text(text: str) -> str:
    """Return a text with addresses in place of the paths of copies."""
    for pattern, address in _folders:
        text = pattern.sub(address, text)
    return text
