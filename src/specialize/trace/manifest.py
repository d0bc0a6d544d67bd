"""RUN/manifest.json: what a valid one holds, and reading and writing it.

A manifest carries a digest of the rest of its contents, so that a damaged value is noticed; those that earlier versions
wrote have none. File names are not taken from the manifest but from the numbers of the shards: no manifest can name a
file outside its run folder.
"""

import json
import reprlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from specialize.errors import TraceError
from specialize.manifest import digest_of, write_json
from specialize.text import clean_text, cut_name
from specialize.trace.schema import FORMAT, FORMAT_VERSION, LAYERS, MOST_EXPERTS, READABLE_VERSIONS

NAME = "manifest.json"
DEEPEST = 50  # levels of nested values; what a configuration of a model needs several times over
_UPGRADED = {"shadow": "random"}  # version 1 called a random router a shadow

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Xxh3 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Field(min_length=1, max_length=4096)]
Count = Annotated[int, Field(ge=0, le=2**48)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class RouterEntry(_Entry):
    """A router, as `specialize.trace.RouterSpec`."""

    model_config = ConfigDict(extra="forbid")

    layer: int = Field(ge=LAYERS.start, lt=LAYERS.stop)
    name: Name
    num_experts: int = Field(ge=1, le=MOST_EXPERTS)
    top_k: int = Field(ge=1)
    score_function: Name = "unknown"
    normalized: bool = False
    static: bool = False
    unit: Literal["token", "sequence"] = "token"
    routing: Literal["learned", "random", "shadow"] = "learned"
    draw: int = Field(0, ge=0)
    stack: Literal["encoder", "decoder"] = "decoder"
    identity_experts: int = Field(0, ge=0)
    found_by: Name = "experts module"

    @model_validator(mode="after")
    def _check(self) -> "RouterEntry":
        if max(self.top_k, self.identity_experts) > self.num_experts:
            raise ValueError("top_k and identity_experts should be at most num_experts")
        if self.draw and self.routing == "learned":
            raise ValueError("draw should be 0 for a learned router")
        return self


class ShardEntry(_Entry):
    """Consecutive tokens: their number, and the SHA-256 and the XXH3-128 of their files, by name."""

    tokens: Count
    batch_tokens: int | None = Field(None, ge=1)
    reduced_from: int | None = Field(None, ge=1)  # batch size for which memory did not suffice
    planned_tokens: int | None = Field(None, ge=1)  # where tokens were generated: those that there could be
    files: dict[str, Sha256]
    xxh3: dict[str, Xxh3] = {}


class DocumentsEntry(_Entry):
    """The number of documents, and the SHA-256 and the XXH3-128 of their file."""

    count: int = Field(ge=0, lt=2**31)
    sha256: Sha256
    xxh3: Xxh3 | None = None


class SampleEntry(_Entry):
    """Of how many documents those of the corpus are a random sample."""

    size: Count
    seed: int
    population: Count


class ReplayEntry(_Entry):
    """The run whose token ids were read again."""

    run: str
    digest: Sha256


class CorpusEntry(_Entry):
    """Where the documents come from."""

    source: str
    digest: str | None = None
    documents: Count | None = None
    skipped_empty: Count = 0
    labels: list[str] = []
    group: str | None = None  # the label column whose values say which documents belong together
    repeated: Count = 0  # documents whose text repeats an earlier one exactly
    sample: SampleEntry | None = None
    replay_of: ReplayEntry | None = None


class PartEntry(_Entry):
    """The first documents of a trace that was extended, and how they were traced."""

    documents: Count
    command: str | None = None
    versions: dict[str, str] | None = None


class RunManifest(_Entry):
    """A manifest. Entries that are not listed here (facts of an import) are kept as they are."""

    format: Literal["specialize-trace"]
    version: int
    complete: bool
    command: str | None = None
    versions: dict[str, str] = {}
    model: dict[str, Any] | None = None
    settings: dict[str, Any] = {}
    settings_digest: Sha256 | None = None
    routers: list[RouterEntry]
    contents: list[Literal["usage", "weights", "logits", "norms", "predictions", "roles"]] = ["weights"]
    roles: list[Name] = []  # of conversations, by their numbers in the tokens
    shards: list[ShardEntry]
    documents: DocumentsEntry | None = None
    corpus: CorpusEntry | None = None
    extended_from: list[PartEntry] = []
    digest: Sha256 | None = None

    @model_validator(mode="after")
    def _check(self) -> "RunManifest":
        if len({(router.routing, router.name, router.draw) for router in self.routers}) < len(self.routers):
            raise ValueError("routers should have different names, or be different draws of a random router")
        beside = Counter(router.name for router in self.routers if router.routing != "learned")
        if any(router.draw >= beside[router.name] for router in self.routers if router.draw):
            raise ValueError("draws of a random router should be numbered from 0 without gaps")
        if len(set(self.contents)) < len(self.contents):
            raise ValueError("contents should be named once")
        if "usage" in self.contents and len(self.contents) > 1:
            raise ValueError("contents should be usage alone, without tokens")
        if len(set(self.roles)) < len(self.roles) or bool(self.roles) != ("roles" in self.contents):
            raise ValueError("roles should be named once, and only where they are among the contents")
        for number, shard in enumerate(self.shards):
            if shard.files.keys() != set(shard_files(number)):
                raise ValueError(f"shard {number} should have the files {' and '.join(shard_files(number))}")
        if self.complete and not (self.routers and self.shards and self.documents):
            raise ValueError("a complete trace should have routers, shards and documents")
        return self


def shard_files(number: int) -> tuple[str, str]:
    """Return the names of the files of a shard: of its tokens, and of their routing."""
    return f"tokens-{number:05d}.arrow", f"routing-{number:05d}.arrow"


def read_manifest(run: Path, *, complete: bool = True) -> dict[str, Any]:
    """Read and check RUN/manifest.json.

    A manifest of an earlier format version is returned in the form of the current one.

    Args:
        run: the run folder.
        complete: whether an unfinished trace is an error.

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
