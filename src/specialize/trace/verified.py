"""Files of a trace, compared with the checksums of its manifest when a process first reads them.

A verified file is read again without another comparison for as long as its size, its times and its inode stay the same.
"""

import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from specialize.addresses import fetched, fetched_again
from specialize.errors import TraceError
from specialize.manifest import sha256_of
from specialize.trace.files import xxh3_of
from specialize.trace.schema import shard_files

Kind = Literal["documents", "tokens", "routing"]
_Stamp = tuple[int, int, int, int, int]
_verified: dict[str, tuple[_Stamp, "Checksums"]] = {}
_locks: defaultdict[str, Lock] = defaultdict(Lock)  # layers are read in parallel, each file is compared once


@dataclass(frozen=True)
class Checksums:
    """What the manifest says of a file.

    Attributes:
        sha256: SHA-256 (hexadecimal).
        xxh3: XXH3-128 (hexadecimal), which is compared where there is one; earlier versions wrote none.
    """

    sha256: str
    xxh3: str | None = None

    def fit(self, path: Path) -> bool:
        """Return whether they are those of a file."""
        return sha256_of(path) == self.sha256 if self.xxh3 is None else xxh3_of(path) == self.xxh3


def list_files(run: Path, manifest: Mapping[str, Any], *kinds: Kind) -> Iterator[tuple[Path, Checksums]]:
    """Yield the path and the checksums of each file of a trace.

    Args:
        run: the run folder.
        manifest: of the trace, complete or not.
        kinds: which files, in this order: documents, tokens, routing.
    """
    folder, documents = run / "trace", manifest.get("documents")
    for kind in kinds:
        if kind == "documents":
            if documents is not None:
                yield folder / "documents.arrow", Checksums(documents["sha256"], documents.get("xxh3"))
            continue
        for number in range(len(manifest["shards"])):
            shard, name = manifest["shards"][number], shard_files(number)[kind == "routing"]
            yield folder / name, Checksums(shard["files"][name], shard.get("xxh3", {}).get(name))


def verify(path: Path, checksums: Checksums) -> Path:
    """Return the path of a file whose checksum is right.

    Args:
        path: the file.
        checksums: those in the manifest.

    Raises:
        TraceError: the file is missing, cannot be read, or has another checksum.
    """
    key = os.path.abspath(path)
    try:
        with _locks[key]:
            before = _stamp(fetched(path))
            if _verified.get(key) != (before, checksums):
                if not path.is_file():
                    raise TraceError(f"{path}: expected a file of the trace, got something else; {REPAIR}")
                if not checksums.fit(path):
                    if not fetched_again(path) or not checksums.fit(path):
                        raise TraceError(f"{path}: damaged: its checksum differs from the manifest's; {REPAIR}")
                    before = _stamp(path)
                _verified[key] = before, checksums
    except FileNotFoundError as error:
        raise TraceError(f"{path}: expected a file of the trace, found none; {REPAIR}") from error
    except OSError as error:
        raise TraceError(f"{path}: could not be read ({error.strerror or error}); {REPAIR}") from error
    return path


def verify_ahead(files: Iterable[tuple[Path, Checksums]]) -> Iterator[Path]:
    """Yield the paths of files in order; while one is used, the next ones are compared with their checksums.

    Args:
        files: paths and checksums.

    Raises:
        TraceError: as `verify`.
    """
    ahead = min(4, os.cpu_count() or 1)
    waiting: deque[Future[Path]] = deque()
    with ThreadPoolExecutor(ahead, thread_name_prefix="verify") as threads:
        for path, checksums in files:
            waiting.append(threads.submit(verify, path, checksums))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


REPAIR = "repeat the same trace with --repair, or restore the file from a copy"


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def forget() -> None:
    """Compare every file again when it is next read, as a new process would."""
    _verified.clear()
