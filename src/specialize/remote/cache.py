"""The folder of downloads, and the folder in which a process has its copies.

    CACHE/objects/…     what was downloaded or stored, by a digest of its address and of the store's identity for it
    CACHE/work/…        a folder for each process that uses addresses; removed when it ends, or by a later process

A downloaded file is never changed: a copy is a second name of it (a hard link) where no one writes to it in place.
"""

import atexit
import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from specialize.addresses import show_below
from specialize.errors import OutputError
from specialize.lock import locked
from specialize.remote.address import Address
from specialize.remote.store import Stored

VARIABLE = "SPECIALIZE_CACHE"


def cache_folder() -> Path:
    """Return the folder of downloads: that of the variable SPECIALIZE_CACHE, else one in the user's cache."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "specialize"


@cache
def process_folder() -> Path:
    """Return the folder of this process's copies, which is removed when it ends; those of killed ones are removed.

    Raises:
        OutputError: it cannot be made.
    """
    work = cache_folder() / "work"
    try:
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()
        with locked(work / ".lock", on_busy=lambda: None):  # what another process is making is not taken for dead
            _remove_dead(work)
            folder = Path(tempfile.mkdtemp(prefix="process-", dir=work))
            opened = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)  # until the process ends
            with suppress(OSError):  # no locks here: then nothing is taken for dead
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise OutputError(
            f"{work}: could not be written ({error.strerror or error}); set {VARIABLE} to a folder that can hold what "
            "is downloaded"
        ) from error
    for name in ("runs", "corpora"):
        show_below(folder / name)
    atexit.register(_remove_own, folder, os.getpid())
    return folder


_KEPT = ".kept"  # a file that says that a folder is not to be removed


def keep_folder() -> Path:
    """Let the folder of this process stay when it ends, because it holds what could not be stored; return it."""
    (process_folder() / _KEPT).touch()
    return process_folder()


def _remove_own(folder: Path, process: int) -> None:
    if os.getpid() == process and not (folder / _KEPT).exists():  # not in a fork
        shutil.rmtree(folder, ignore_errors=True)


def _remove_dead(work: Path) -> None:
    for folder in work.glob("process-*"):
        with suppress(OSError):
            opened = os.open(folder / ".lock", os.O_RDWR)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (folder / _KEPT).exists():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(opened)


def find_object(address: Address, stored: Stored) -> Path:
    """Return where an object is kept, whether or not it is there."""
    key = hashlib.sha256(f"{address}\n{stored.kind} {stored.identity}\n{stored.size}".encode()).hexdigest()
    if not stored.kind or address.protocol == "memory":  # nothing tells it from what another process finds there
        return process_folder() / "objects" / key
    return cache_folder() / "objects" / key[:2] / key


def link_or_copy(source: Path, target: Path, *, link: bool) -> None:
    """Give a file a second name, or copy it, whole or not at all.

    Args:
        source: the file.
        target: its second name.
        link: whether both may be one file.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        try:
            if not link:
                raise OSError
            os.link(source, partial)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, partial)
        os.replace(partial, target)
        partial.unlink(missing_ok=True)  # it stays where both are names of one file
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"{target}: could not be written ({error.strerror or error}); make room") from error
