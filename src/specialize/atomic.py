"""Files that are whole or absent: a reader sees the old one or the new one, never a part.

What is being written is named .NAME.partial and locked until it gets its name. A killed process holds no lock, so the
next one that writes NAME overwrites what it left; while another process is writing NAME, or where the file system has
no locks, .NAME.PROCESS.partial is used instead.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from specialize.addresses import announce
from specialize.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on leaving, what was written there is synced to disk and renamed to `path`.

    The folder of `path` is made when it is missing. When anything fails, `path` is as it was before. In a copy of what
    an address holds, the file is stored there, too.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
        StoreError: the file could not be stored at its address.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with claim_partial(path) as partial:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
    except OSError as error:
        raise OutputError(
            f"{path}: could not be written ({error.strerror or error}); what was written before is kept: "
            "make room and run the same command again to resume"
        ) from error
    announce(path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def claim_partial(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield the path of an empty file or folder beside `path` that no other process uses during the block.

    If the block fails, it is removed.

    Args:
        path: what it will be renamed to; the folder of `path` exists.
        folder: make a folder.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        lock = _lock(partial, folder)
    except OSError:
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        lock = _open(partial, folder)
    try:
        _empty(lock, partial, folder)
        yield partial
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            _remove(partial)
        raise
    finally:
        os.close(lock)  # closing releases the lock


def _lock(partial: Path, folder: bool) -> int:
    """Open and lock a file or folder; raise OSError if another process holds the lock, or locks are unavailable."""
    while True:
        opened = _open(partial, folder)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(opened), partial.stat()):
                    return opened
        except BaseException:
            os.close(opened)
            raise
        os.close(opened)  # after it was opened here, it got its name


def _open(partial: Path, folder: bool) -> int:
    """Open a file or folder, which is made if it is missing, without following links."""
    if folder:
        partial.mkdir(exist_ok=True)
    return os.open(partial, os.O_NOFOLLOW | (os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT), 0o666)


def _empty(opened: int, partial: Path, folder: bool) -> None:
    """Remove what a killed process left."""
    if folder:
        for path in partial.iterdir():
            _remove(path)
    else:
        os.ftruncate(opened, 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
