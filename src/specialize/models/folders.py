"""Folders that are replaced whole, with the checksums of their files."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specialize.atomic import claim_partial
from specialize.errors import OutputError, SpecializeError, TrainingError, first_line
from specialize.manifest import sha256_of

CHECKSUMS = "SHA256SUMS"  # in the format of sha256sum, which can verify it
_FREE = ("README.md", CHECKSUMS)  # a model card may be edited


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` to write to, which takes the place of `path` at the end of the block.

    Checksums of its files are added. A process that is killed leaves `path` as it was, or none.

    Raises:
        OutputError: the folder cannot be written; `path` is as it was before.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.with_name(f"{path.name}.before")
        with claim_partial(path, folder=True) as partial, claim_partial(before, folder=True) as emptied:
            yield partial
            _write_checksums(partial)
            if path.exists():
                os.replace(path, emptied)
            os.replace(partial, path)
            shutil.rmtree(emptied)
    except SpecializeError:
        raise
    except Exception as error:  # of the libraries that write weights and tokenizers, which have classes of their own
        raise OutputError(
            f"{path}: could not be written ({first_line(error)}); what was written before is kept: make room and run "
            "the same command again to resume"
        ) from error


def check_checksums(folder: Path, *, remedy: str) -> None:
    """Compare the files of a folder with its checksums; a folder of an earlier version, without them, is not checked.

    Args:
        folder: the folder.
        remedy: what to do about a damaged file, for the message.

    Raises:
        TrainingError: a file is missing or has changed, or the checksums cannot be read.
    """
    path = folder / CHECKSUMS
    try:
        if not path.exists():
            return
        lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        expected = {name: checksum for checksum, name in lines}
        if not expected or any(Path(name).name != name for name in expected):
            raise ValueError("other names than those of its files")
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path}: expected the checksums of the files beside it, got: {first_line(error)}; {remedy}"
        ) from error
    for name, checksum in expected.items():
        try:
            changed = sha256_of(folder / name) != checksum
        except OSError as error:
            raise TrainingError(f"{folder / name}: could not be read ({error.strerror or error}); {remedy}") from error
        if changed:
            raise TrainingError(f"{folder / name}: the file is damaged (its checksum is another); {remedy}")


def _write_checksums(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    lines = [f"{sha256_of(path)}  {path.name}\n" for path in files if path.name not in _FREE]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")
    for path in (*files, folder / CHECKSUMS):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
