"""What a valid manifest of a trace holds."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from specialize.trace.schema import LAYERS, MOST_EXPERTS, shard_files

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
    number: int | None = Field(None, ge=0)  # of a part: number of the shard in the whole trace
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


class EarlierEntry(_Entry):
    """The first documents of a trace that was extended, and how they were traced."""

    documents: Count
    command: str | None = None
    versions: dict[str, str] | None = None


class PartEntry(_Entry):
    """Which of several parts of a trace the run holds, and, once it is complete, how many shards all of them have."""

    number: int = Field(ge=1)
    of: int = Field(ge=1, lt=10**6)
    shards: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> "PartEntry":
        if self.number > self.of:
            raise ValueError("number should be at most of")
        return self


class MergedEntry(_Entry):
    """A part of a trace that was merged, and how it was traced."""

    part: int = Field(ge=1)
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
    extended_from: list[EarlierEntry] = []
    part: PartEntry | None = None
    merged_from: list[MergedEntry] = []
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
        if any((shard.number is None) != (self.part is None) for shard in self.shards):
            raise ValueError("shards of a part, and no others, should have a number in the whole trace")
        if self.complete and not (self.routers and (self.shards or self.part) and self.documents):
            raise ValueError("a complete trace should have routers, shards and documents")
        if self.complete and self.part is not None and self.part.shards is None:
            raise ValueError("a complete part should have the number of shards of all parts")
        return self
