"""The trace that is in a run folder already, and whether another command may go on writing it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from specialize.errors import TraceError
from specialize.trace.manifest import read_manifest
from specialize.trace.parts import Part, part_of

# How much of which corpus is read is compared by its digest; batches of another size are recorded shard by shard.
_MAY_CHANGE = {"corpus", "limit", "batch_tokens"}
# Earlier versions identified a model by its name instead.
_NAMES, _DIGESTS = {"model", "revision"}, {"weights_digest", "tokenizer_digest"}


def read_unfinished(
    run: Path, settings: Mapping[str, Any], *, part: Part | None = None, partial: bool = False
) -> dict[str, Any] | None:
    """Return the manifest of the trace in a run folder, complete or not; None if there is no trace yet.

    Args:
        run: the run folder.
        settings: those that a trace in the folder must have, apart from names of what has a digest.
        part: which part of a trace it must be; None for a whole one.
        partial: whether `settings` holds only some of them.

    Raises:
        TraceError: the folder holds something else, another part, or a trace with other settings.
    """
    if run.is_file():
        raise TraceError(f"{run}: expected a folder to write the run to, got a file; choose another folder")
    if (run / "manifest.json").exists():
        manifest = read_manifest(run, complete=False)
        held = part_of(manifest)
        if held != part:
            there, now = (f"{each} of a trace" if each else "a whole trace" for each in (held, part))
            raise TraceError(f"{run}: expected {now}, got {there}; choose another folder")
        stored, asked = manifest.get("settings", {}), json.loads(json.dumps(dict(settings)))  # lists for tuples
        details = describe_changes(stored, asked, where=("there", "now"), part=part, partial=partial)
        if details:
            raise TraceError(f"{run} holds a trace with other settings ({details}); choose another folder")
        return manifest
    ours = {"trace", ".lock", *(path.name for path in partial_files(run))}
    folders = [folder for folder in (run, run / "trace") if folder.exists()]
    if any(path.name not in ours for folder in folders for path in folder.iterdir()):
        raise TraceError(
            f"{run}: expected an empty folder or one with a trace, got one that is not empty and holds no trace; "
            "choose another folder"
        )
    return None


def partial_files(run: Path) -> list[Path]:
    """Return the files of a trace that a killed process left half-written."""
    found = [*run.glob(".manifest.json*.partial"), *(run / "trace").glob(".*.partial")]
    return [path for path in found if path.is_symlink() or not path.is_dir()]


def describe_changes(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    where: tuple[object, object],
    part: Part | None = None,
    partial: bool = False,
) -> str:
    """Return which settings of two traces differ, one after the other; an empty string if none do.

    Args:
        before: settings of the first.
        now: settings of the second.
        where: what the message calls the two.
        part: which part of a trace they are; all parts have batches of one size, because shards grow from it.
        partial: whether `now` holds only some settings, which are compared.
    """
    changed = _list_changes(before, now, is_part=part is not None, partial=partial)
    first, second = where
    return "; ".join(f"{key}: {_show(before.get(key))} {first}, {_show(now.get(key))} {second}" for key in changed)


def _list_changes(before: Mapping[str, Any], now: Mapping[str, Any], *, is_part: bool, partial: bool) -> list[str]:
    compared = {*now} if partial else {*before, *now}
    compared -= _MAY_CHANGE - ({"batch_tokens"} if is_part else set())
    compared -= _NAMES if "weights_digest" in before else _DIGESTS
    changed = {key for key in compared if not _is_same(key, before.get(key), now.get(key))}
    if changed & {"config_digest", "weights_digest"} and before.get("model") != now.get("model"):
        changed.add("model")
    return sorted(changed)


def _is_same(key: str, before: Any, now: Any) -> bool:
    if key == "model" and isinstance(before, str) and isinstance(now, str):
        return os.path.realpath(before) == os.path.realpath(now)
    return bool(before == now)


def _show(value: Any) -> str:
    is_digest = isinstance(value, str) and len(value) == 64
    return repr(value[:12] + "…" if is_digest else value)
