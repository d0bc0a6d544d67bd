"""RUN/manifest.json: reading and writing it; `specialize.trace.entries` says what a valid one holds.

A manifest carries a digest of the rest of its contents, so that a damaged value is noticed; those that earlier versions
wrote have none. File names are not taken from the manifest but from the numbers of the shards: no manifest can name a
file outside its run folder.
"""

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from specialize.errors import TraceError
from specialize.manifest import digest_of, write_json
from specialize.text import clean_text, cut_name
from specialize.trace.entries import RunManifest
from specialize.trace.parts import refuse_part
from specialize.trace.schema import FORMAT, FORMAT_VERSION, READABLE_VERSIONS

NAME = "manifest.json"
DEEPEST = 50  # levels of nested values; what a configuration of a model needs several times over
_UPGRADED = {"shadow": "random"}  # version 1 called a random router a shadow


def read_manifest(run: Path, *, complete: bool = True, part: bool = False) -> dict[str, Any]:
    """Read and check RUN/manifest.json.

    A manifest of an earlier format version is returned in the form of the current one.

    Args:
        run: the run folder.
        complete: whether an unfinished trace is an error, and so is one of several parts of a trace.
        part: whether a complete part is no error.

    Raises:
        TraceError: there is no trace, it is damaged or incomplete, or a newer version of specialize wrote it.
    """
    path = run / NAME
    if not run.is_dir():
        raise TraceError(
            f"{run}: expected a run folder, found none; make one with `specialize trace MODEL CORPUS -o {run}`"
        )
    if not path.is_file():
        raise TraceError(f"{run}: expected a run folder with a {NAME}, found none in it")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"{path}: could not be read ({error.strerror or error})") from error
    manifest = parse_manifest(data, path)
    if complete and not part:
        refuse_part(run, manifest)
    if complete and not manifest["complete"]:
        raise TraceError(f"{run}: the trace was interrupted; repeat the same trace to resume it")
    return manifest


def parse_manifest(data: bytes, path: Path) -> dict[str, Any]:
    """Return the manifest in the form of the current format version.

    Args:
        data: contents of the file.
        path: of the file, for messages.

    Raises:
        TraceError: it is damaged, of something else, or of a newer version of specialize.
    """
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:  # JSON, UTF-8, a number of thousands of digits, nested too deeply
        raise TraceError(f"{path}: expected JSON, got {clean_text(error)}; {_REPLACE}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise TraceError(f"{path}: expected the manifest of a {FORMAT}, got something else")
    if manifest.get("version") not in READABLE_VERSIONS or isinstance(manifest["version"], bool):
        raise TraceError(
            f"{path}: expected format version {READABLE_VERSIONS[0]} to {READABLE_VERSIONS[-1]}, "
            f"got {_show(manifest.get('version'))}; read it with the version of specialize that wrote it"
        )
    if _is_deeper(manifest, DEEPEST):
        raise TraceError(f"{path}: expected values nested at most {DEEPEST} deep, got deeper ones; {_REPLACE}")
    try:
        RunManifest.model_validate(manifest)
    except ValidationError as error:
        raise TraceError(f"{path}: {_first_problem(error)}; {_REPLACE}") from None
    if "digest" in manifest and manifest["digest"] != _digest(manifest):
        raise TraceError(f"{path}: its contents differ from the digest that was written with them; {_REPLACE}")
    return _upgrade(manifest)


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write RUN/manifest.json with its digest, whole or not at all.

    Raises:
        TraceError: a complete trace could not be read with it.
        OutputError: the file cannot be written.
    """
    given = {key: value for key, value in manifest.items() if key != "digest"}
    stored = json.loads(json.dumps(given))  # as it will be read: keys are text, tuples lists
    if stored["complete"]:  # only then all is known, and checking every shard again and again would take its time
        parse_manifest(json.dumps(stored).encode(), run / NAME)
    write_json(run / NAME, stored | {"digest": _digest(stored)})


def digest_trace(manifest: Mapping[str, Any]) -> str:
    """Return the digest of the trace that a manifest of the current version describes, see `RoutingTrace.digest`."""
    files = [shard["files"] for shard in manifest["shards"]]
    return digest_of({"documents": manifest["documents"]["sha256"], "shards": files, "routers": manifest["routers"]})


_REPLACE = "the file is damaged or was edited: restore it from a copy, or trace into another folder"


def _digest(manifest: Mapping[str, Any]) -> str:
    return digest_of({key: value for key, value in manifest.items() if key != "digest"})


def _upgrade(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of any readable version as one of the current version, without its digest.

    Routers get no entry that they lacked, because the digest of a trace depends on them.
    """
    routers = [
        router | {"routing": _UPGRADED.get(router.get("routing"), router.get("routing", "learned"))}
        for router in manifest["routers"]
    ]
    settings = manifest.get("settings", {})
    if settings.get("control") and "control_draws" not in settings:
        settings = settings | {"control_draws": 1}
    upgraded = manifest | {"version": FORMAT_VERSION, "routers": routers, "settings": settings}
    return {key: value for key, value in upgraded.items() if key != "digest"}


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether mappings and lists are nested in more levels."""
    layer = [value]
    for _ in range(levels):
        layer = [item for each in layer for item in (each.values() if isinstance(each, dict) else each)]
        layer = [item for item in layer if isinstance(item, dict | list)]
    return bool(layer)


def _first_problem(error: ValidationError) -> str:
    """Return what is wrong first, in the words of pydantic."""
    problem = error.errors(include_url=False)[0]
    place = cut_name(clean_text(".".join(map(str, problem["loc"]))))
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if problem["type"] in ("value_error", "missing"):
        return f"{place}: {said}" if place else said
    return f"{place}: {said}, got {_show(problem['input'])}"


def _show(value: object) -> str:
    return clean_text(reprlib.repr(value))
