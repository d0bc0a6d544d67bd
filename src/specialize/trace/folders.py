"""Folders that are written completely or not at all."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from specialize.atomic import claim_partial
from specialize.errors import OutputError


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to write to, and rename it to `path` at the end of the block.

    If the block fails, everything written is removed and `path` is left unchanged.

    Raises:
        OutputError: `path` is a file or a non-empty folder, it cannot be created, or a file in it cannot be written.
    """
    path = path.absolute()
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        kind = "a file" if path.is_file() else "one that is not empty"
        raise OutputError(f"{path}: expected a new or empty folder to write to, got {kind}; choose another folder")
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = stack.enter_context(claim_partial(path, folder=True))
        except OSError as error:
            raise _failed(path, error) from error
        try:
            yield partial
        except OutputError as error:
            if isinstance(error.__cause__, OSError):  # its message is of files that stay, which these do not
                raise OutputError(
                    f"{path}: could not be written ({error.__cause__.strerror or error.__cause__}); nothing was kept: "
                    "make room, or choose another folder, and run the same command again"
                ) from error
            raise
        try:
            os.replace(partial, path)
        except OSError as error:
            raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path}: could not be created ({error.strerror or error}); choose another folder")
