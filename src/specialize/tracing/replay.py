"""A run as a corpus: the token ids of its sequences are read again, as they are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specialize.addresses import show
from specialize.corpus import Corpus, Document
from specialize.corpus.document import ReadingNotes, Record
from specialize.errors import TraceError
from specialize.trace import RoutingTrace
from specialize.trace.schema import UNKNOWN

Columns = Mapping[str, NDArray[Any]]
_COLUMNS = ("document", "sequence", "position", "token_id", "char_start", "char_end", "phase")


@dataclass(frozen=True, eq=False)
class TracedDocument(Document):
    """A document of a run, with its tokens.

    Attributes:
        tokens: the columns of the run's tokens [tokens]; ``role`` among them in conversations.
        has_text: whether the run knows its text; otherwise `text` is empty.
    """

    tokens: Columns = field(default_factory=dict)
    has_text: bool = True


@dataclass(frozen=True)
class TokenSurvey:
    """What one pass over the tokens of a run found.

    Attributes:
        count: number of tokens.
        longest: number of tokens of the longest sequence.
        largest_id: the largest token id.
        starts: positions at which documents begin.
    """

    count: int = 0
    longest: int = 0
    largest_id: int = UNKNOWN
    starts: frozenset[int] = frozenset()

    def with_tokens(self, tokens: Columns) -> "TokenSurvey":
        """Return the survey with the tokens of a further document."""
        ids, position = tokens["token_id"], tokens["position"]
        if not len(ids):
            return self
        return TokenSurvey(
            self.count + len(ids),
            max(self.longest, int(position.max()) + 1),
            max(self.largest_id, int(ids.max())),
            self.starts | {int(position[0])},
        )


class Replay(Corpus):
    """The documents of a run, each a `TracedDocument`.

    Args:
        trace: of the run.
        limit: largest number of documents to read; None for all.

    Attributes:
        trace: of the run.
        columns: names of its label columns.

    Raises:
        TraceError: the run has no tokens; in reading: it lacks token ids, or tokens before those that were recorded.
    """

    def __init__(self, trace: RoutingTrace, *, limit: int | None = None) -> None:
        trace.require_tokens("CORPUS")
        super().__init__(show(trace.path), lambda: _read_records(trace), limit=limit, keeps_empty=True)
        self.trace = trace
        self.columns = _label_columns(trace)

    @property
    def origin(self) -> dict[str, str]:
        """The run, and the digest of its trace."""
        return {"run": self.source, "digest": self.trace.digest}

    def first(self, count: int) -> list[TracedDocument]:
        """Return the first so many documents, or as many as there are."""
        documents = (record.document for record in islice(_read_records(self.trace), count))
        return [document for document in documents if isinstance(document, TracedDocument)]


def sequence_starts(tokens: Columns) -> NDArray[np.int64]:
    """Return the rows with which the sequences of a document begin."""
    sequence = tokens["sequence"]
    return np.flatnonzero(np.diff(sequence, prepend=sequence[:1] - 1))


def _label_columns(trace: RoutingTrace) -> tuple[str, ...]:
    batch = next(trace.stored_documents())
    return tuple(name for name in batch.schema.names if name not in ("id", "text"))


def _read_records(trace: RoutingTrace) -> Iterator[Record]:
    trace.check()
    notes = ReadingNotes(labels=_label_columns(trace), group=trace.group_column)
    names = (*_COLUMNS, "role") if "roles" in trace.contents else _COLUMNS
    parts = _read_tokens(trace, names)
    following = next(parts, None)
    row = 0
    for batch in trace.stored_documents():
        for entry in batch.to_pylist():
            tokens: Columns = {name: np.zeros(0, np.int32) for name in names}
            if following is not None and following[0] == row:
                tokens, following = following[1], next(parts, None)
            text = entry.pop("text")
            document = TracedDocument(
                entry.pop("id"),
                text or "",
                {name: value for name, value in entry.items() if value is not None},
                tokens=tokens,
                has_text=text is not None,
            )
            where = f"{show(trace.path)}, document {document.id!r:.60}"
            _check_sequences(tokens, where)
            yield _TracedRecord(where, document, notes)
            row += 1


class _TracedRecord(Record):
    """A document of a run; the digest of its corpus is of the tokens, too."""

    def encode(self) -> bytes:
        tokens = self.document.tokens if isinstance(self.document, TracedDocument) else {}
        own = [np.ascontiguousarray(tokens[name], dtype="<i4").tobytes() for name in ("token_id", "position", "phase")]
        return b"".join([super().encode(), *own])


def _read_tokens(trace: RoutingTrace, names: tuple[str, ...]) -> Iterator[tuple[int, Columns]]:
    """Yield the row and the token columns of each document that has tokens, one shard in memory at a time."""
    held: list[Columns] = []
    for table in trace.shards("tokens", list(names)):
        columns = {name: table.column(name).to_numpy() for name in names}
        document = columns["document"]
        for start, end in pairwise([*np.flatnonzero(np.diff(document, prepend=-1)), len(document)]):
            if held and held[0]["document"][0] != document[start]:
                yield _join(held)
                held = []
            held.append({name: values[start:end] for name, values in columns.items()})
    if held:
        yield _join(held)


def _join(parts: list[Columns]) -> tuple[int, Columns]:
    return int(parts[0]["document"][0]), {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_sequences(tokens: Columns, where: str) -> None:
    """Raise TraceError unless all tokens of all sequences are known, apart from those that open the first one."""
    ids, position = tokens["token_id"], tokens["position"]
    if not len(ids):
        return
    if ids.min() < 0:
        raise TraceError(
            f"{where}: expected the ids of all tokens, which are read again, got {int((ids < 0).sum()):,} unknown ones "
            "(-1); record or import the run with token ids"
        )
    starts = sequence_starts(tokens)
    steps = np.diff(position, prepend=position[0] - 1)
    known = position[starts] - position[0]  # tokens before a later sequence, which the document has
    steps[starts] = np.where((known >= 0) & (known <= starts), 1, 0)
    if (steps != 1).any():
        wrong = int((steps != 1).argmax())
        raise TraceError(
            f"{where}: expected every token of each sequence, from the first one on, got position "
            f"{int(position[wrong]):,} without those before it; record whole sequences"
        )
