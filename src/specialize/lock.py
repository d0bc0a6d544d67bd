"""A lock between processes that write to the same folder."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from specialize.errors import OutputError


@contextmanager
def locked(path: Path, *, on_busy: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` during the block; a process that is killed holds it no longer.

    Afterwards the file is removed, and so are the folders that were made for it, if nothing was written to them. Where
    the file system has no locks, the block runs without one.

    Args:
        path: the lock file.
        on_busy: called if another process holds the lock. It raises an error, or the lock is waited for.

    Raises:
        OutputError: the file cannot be created.
    """
    try:
        missing = [folder for folder in path.parents if not folder.exists()]
        lock = _acquire(path, on_busy)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: could not be created ({error.strerror or error}); choose another folder"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is still locked
        os.close(lock)
        with suppress(OSError):  # what holds files stays
            for folder in missing:
                folder.rmdir()


def _acquire(path: Path, on_busy: Callable[[], None]) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the process that held the lock removed the file, or its folder
            opened = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o666)
            try:
                _wait(opened, on_busy)
                if os.path.samestat(os.fstat(opened), path.stat()):
                    return opened
            except BaseException:
                os.close(opened)
                raise
            os.close(opened)


def _wait(opened: int, on_busy: Callable[[], None]) -> None:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_busy()
        fcntl.flock(opened, fcntl.LOCK_EX)
    except OSError:  # no locks here
        return
