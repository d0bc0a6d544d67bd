"""The run folders of the parts of a trace beside that of the whole one: found, and removed once they are merged."""

import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from specialize.errors import TraceError
from specialize.lock import locked
from specialize.text import list_names
from specialize.trace.manifest import read_manifest
from specialize.trace.parts import Part
from specialize.trace.unfinished import partial_files
from specialize.tracing.launch import part_folder


def choose_parts(run: Path, wanted: int) -> list[Part]:
    """Return the parts that a trace is divided into: as many as those that were begun, else as many as are wanted.

    Args:
        run: the run folder of the whole trace.
        wanted: number of parts.

    Raises:
        TraceError: there are parts of traces that were divided in different ways.
    """
    begun = sorted(found := _find_parts(run))
    if len(begun) > 1:
        folders = list_names((folder for each in found.values() for folder in each), longest=300)
        raise TraceError(
            f"{run}: expected parts of one number, got some of {' and some of '.join(map(str, begun))}; remove those "
            f"that are not to be resumed ({folders})"
        )
    of = begun[0] if begun else wanted
    return [Part(number, of) for number in range(1, of + 1)]


def make_room(run: Path) -> bool:
    """Remove what a trace left in its run folder that was stopped before its first shard.

    Args:
        run: the run folder of a whole trace.

    Returns:
        Whether the folder is missing or empty now, so that parts can be merged into it.

    Raises:
        TraceError: another process is writing a trace there.
    """
    if not run.is_dir():
        return True

    def refuse() -> None:
        raise TraceError(
            f"{run}: another process is writing this trace; wait for it to finish or choose another folder"
        )

    trace, manifest = run / "trace", run / "manifest.json"
    with locked(trace / ".lock", on_busy=refuse):
        if manifest.exists() and read_manifest(run, complete=False)["shards"]:
            return False
        for path in (*partial_files(run), trace / "documents.arrow", manifest):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # what holds other files stays
        trace.rmdir()
    return not any(run.iterdir())


def remove_merged(run: Path) -> None:
    """Remove the parts that a whole trace was merged from, unless they hold anything that it does not.

    Args:
        run: the run folder of the whole trace.
    """
    whole = read_manifest(run)
    held = _checksums(whole)
    for number in range(1, len(whole.get("merged_from", ())) + 1):
        folder = part_folder(run, Part(number, len(whole["merged_from"])))
        if not folder.is_dir():
            continue
        if (folder / "manifest.json").is_file():
            if not _checksums(read_manifest(folder, complete=False)) <= held:
                continue
            shutil.rmtree(folder / "trace", ignore_errors=True)  # first: what is left is known as a part until the end
            (folder / "manifest.json").unlink(missing_ok=True)
        with suppress(OSError):  # what holds other files stays
            folder.rmdir()


def _find_parts(run: Path) -> dict[int, list[Path]]:
    """Return the folders of parts that were begun, by the number of parts."""
    found: dict[int, list[Path]] = {}
    name = part_folder(run, Part(1, 1)).name.removesuffix(".part-1-of-1")
    for folder in sorted(run.parent.glob("*.part-*-of-*/manifest.json")):
        match = re.fullmatch(re.escape(name) + r"\.part-[0-9]+-of-([0-9]+)", folder.parent.name)
        if match is not None:
            found.setdefault(int(match[1]), []).append(folder.parent)
    return found


def _checksums(manifest: Mapping[str, Any]) -> set[str]:
    """Return the checksums of the files of all shards."""
    return {checksum for shard in manifest["shards"] for checksum in shard["files"].values()}
