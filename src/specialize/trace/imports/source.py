"""The common form of all importers: an input that can be read from the start, block by block."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from specialize.errors import TraceError, first_line
from specialize.text import format_bytes
from specialize.trace.schema import LAYERS

BLOCK_TOKENS = 2**17
_LONGEST_LINE = 2**30

Key = int | str


@dataclass(frozen=True)
class ModelFacts:
    """What the configuration of a model says about its routers.

    Attributes:
        name: the folder or hub id.
        num_experts: E, with experts that return their input unchanged.
        top_k: k; None if the configuration does not say.
        num_layers: layers of the model, dense ones included.
        moe_layers: numbers of the layers with routers.
        config: the whole configuration.
    """

    name: str
    num_experts: int
    top_k: int | None
    num_layers: int
    moe_layers: tuple[int, ...]
    config: Mapping[str, Any]

    @property
    def dense_layers(self) -> tuple[int, ...]:
        """Numbers of the layers without a router."""
        return tuple(sorted(set(range(self.num_layers)) - set(self.moe_layers)))


@dataclass(frozen=True)
class ImportOptions:
    """What the user states about an input, see `import_trace`.

    Attributes:
        num_experts: E.
        top_k: k, the number of slots of a token.
        layers: numbers of the MoE layers, as the model numbers them.
        num_layers: layers per token in the input, dense ones included.
        documents: a table of the documents, in a format of `open_corpus`.
        model: what the configuration of the model says.
    """

    num_experts: int | None = None
    top_k: int | None = None
    layers: tuple[int, ...] | None = None
    num_layers: int | None = None
    documents: Path | None = None
    model: ModelFacts | None = None

    @property
    def expected_top_k(self) -> int | None:
        """K of a format that does not state it, as given or as in the model's configuration."""
        return self.top_k or (self.model.top_k if self.model else None)

    @property
    def expected_num_layers(self) -> int | None:
        """Layers per token of a format that does not state it, as given or as in the model's configuration."""
        return self.num_layers or (self.model.num_layers if self.model else None)


@dataclass(frozen=True)
class Block:
    """Consecutive tokens of an input.

    Attributes:
        document: int [tokens], running number of each token's document over the whole input, from 0.
        keys: ids (str) or numbers (int) in the input of the documents that begin in this block.
        experts: integers [tokens, layers, k], in rank order; or usage, see `Source`.
        weights: gate weights [tokens, layers, k], if the input has them.
        tokens: columns of the token schema that the input has, each [tokens].
        where: returns the place of a row of this block in the input, for messages.
        bytes_read: bytes of the input read up to the end of this block.
        part: which of several inputs it is from, by their order.
        texts: of the documents that begin in this block, if they are decoded from token ids; None for one without.
    """

    document: NDArray[np.integer]
    keys: Sequence[Key]
    experts: NDArray[Any]
    where: Callable[[int], str]
    weights: NDArray[np.floating] | None = None
    tokens: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    bytes_read: int = 0
    part: int = 0
    texts: Sequence[str | None] = ()

    def cut(self, start: int, end: int) -> "Block":
        """Return some of the tokens; keys are those of the part that reaches to the end of the block."""
        rows = slice(start, end)
        return replace(
            self,
            document=self.document[rows],
            keys=self.keys if end == len(self.document) else (),
            experts=self.experts[rows],
            where=lambda row: self.where(start + row),
            weights=None if self.weights is None else self.weights[rows],
            tokens={name: column[rows] for name, column in self.tokens.items()},
        )


@dataclass(frozen=True)
class Findings:
    """What is known of an input once it was read to its end.

    Attributes:
        notes: messages.
        facts: entries of the manifest.
    """

    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """An opened input.

    Attributes:
        path: the input, for messages.
        read: reads it from the start; may be called repeatedly.
        size: bytes to read.
        layers: number of each layer on the layers' axis, as the model numbers them; None if not known.
        num_experts: E, if the input states it.
        is_usage: whether rows are documents and not tokens, and `Block.experts` is usage [documents, layers, E].
        top_k: k of an input of usage.
        marks_absent: whether the format marks a slot without an expert by -1 (65535 in unsigned 16-bit integers).
        documents: a table of the documents beside the input.
        names: of the routers, by the number of the layer; default: ``layers.N``.
        notes: messages about what was inferred.
        facts: the same as entries of the manifest.
        findings: returns what the last reading to the end has found.
    """

    path: Path | str
    read: Callable[[], Iterator[Block]]
    size: int
    layers: tuple[int, ...] | None = None
    num_experts: int | None = None
    is_usage: bool = False
    top_k: int = 1
    marks_absent: bool = False
    documents: Path | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    findings: Callable[[], Findings] = Findings


class Numbering:
    """Numbers documents in order of appearance; a document may extend over several blocks."""

    def __init__(self) -> None:
        self._count = 0
        self._last: Key | None = None

    def take(self, values: NDArray[Any]) -> tuple[NDArray[np.int64], list[Key]]:
        """Return the running number of each token's document [tokens], and the keys of the documents that begin."""
        begins = np.append(bool(self._last != values[0]), values[1:] != values[:-1])
        rows = self._count - 1 + np.cumsum(begins)
        self._last = values[-1]
        self._count += int(begins.sum())
        return rows, values[begins].tolist()


def list_files(path: Path, patterns: Sequence[str], *, what: str) -> list[Path]:
    """Return the file itself, or the matching files of a folder in the order of the numbers in their names.

    Raises:
        TraceError: the folder has no such file, or `path` is a file of another kind.
    """
    if path.is_file():
        if not any(path.match(pattern) for pattern in patterns):
            raise TraceError(f"{path}: expected {what} ({', '.join(patterns)}), got a file of another kind")
        return [path]
    found = {file for pattern in patterns for file in path.glob(pattern) if file.is_file()}
    if not found:
        raise TraceError(f"{path}: expected a folder with {what} ({', '.join(patterns)}), found none in it")
    return sorted(found, key=lambda file: natural_key(file.name))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders 9 before 10; numbers may have any length."""
    parts = re.split(r"([0-9]+)", name)
    numbers = [part.lstrip("0") for part in parts]
    return [
        (len(number), number) if place % 2 else (-1, part)
        for place, (part, number) in enumerate(zip(parts, numbers, strict=True))
    ]


def check_layers(layers: Sequence[int] | None, where: str) -> None:
    """Raise TraceError if numbers of layers are out of range or not distinct; None is no number at all."""
    seen: set[int] = set()
    for layer in layers or ():
        if not LAYERS.start <= layer < LAYERS.stop:
            raise TraceError(f"{where}: expected numbers from 0 to {LAYERS[-1]}, got {layer}")
        if layer in seen:
            raise TraceError(f"{where}: expected every layer once, got {layer} twice")
        seen.add(layer)


@contextmanager
def guard_parser(where: object, expected: str) -> Iterator[None]:
    """Raise TraceError in place of whatever a parser of another package raises for damaged input.

    Args:
        where: the place, for the message.
        expected: what was expected there.
    """
    try:
        yield
    except TraceError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise TraceError(f"{where}: expected {expected}, got {reason:.300}") from None


def check_file(path: Path) -> None:
    """Raise TraceError if a file is empty or cannot be read."""
    try:
        if path.stat().st_size == 0:
            raise TraceError(f"{path}: expected routing, got an empty file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_lines(paths: Sequence[Path]) -> Iterator[tuple[Path, int, bytes, int]]:
    """Yield file, line number from 1, line, and bytes read so far; blank lines are skipped.

    Raises:
        TraceError: as `cut_lines`.
    """
    done = 0
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(cut_lines(file, path), start=1):
                done += len(line)
                if line.strip():
                    yield path, number, line, done


def cut_lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Yield the lines of a file.

    Raises:
        TraceError: a line has more than 1 GiB.
    """
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            raise TraceError(
                f"{path}, line {number}: expected at most {format_bytes(_LONGEST_LINE)}, got a longer line"
            )
        yield line


def read_layers(text: str) -> tuple[int, ...]:
    """Read numbers of layers as a user writes them: 1-26, or 0,2,4.

    Raises:
        TraceError: it is not that, or a number comes twice.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None:
            raise TraceError(f"layers: expected numbers such as 1-26 or 0,2,4, got {text!r}")
        numbers += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not numbers or len(set(numbers)) < len(numbers):
        raise TraceError(f"layers: expected every layer once, got {text!r}")
    return tuple(numbers)
