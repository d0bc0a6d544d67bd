"""The documents of an import: rows of a table, or ids alone; of several inputs together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from specialize.corpus import Document
from specialize.corpus.source import open_documents
from specialize.errors import CorpusError, TraceError
from specialize.manifest import digest_of
from specialize.trace.imports.source import Block, Key
from specialize.trace.schema import UNKNOWN

_AT_ONCE = 512
_UNKNOWN_LENGTH = 2**62


class ImportedDocuments:
    """Collects the documents that an input refers to, in order.

    Args:
        table: a table with their ids, texts and labels; None if there is none. Without a column `text` (or in a file of
            running text) the documents have no texts.

    Attributes:
        table: the table.
        digest: of the table, see `Corpus.digest`.
        notes: what a user should know about the table.
        group: its column that says which documents belong together; None if it has none.

    Raises:
        CorpusError: the table cannot be read, or has an empty text, which would shift the row numbers.
    """

    def __init__(self, table: Path | None) -> None:
        self.table = table
        self._rows: list[Document] = []
        self._by_id: dict[str, int] = {}
        self._seen: set[Key] = set()
        self._taken: list[int] = []
        self._ids: list[str] = []
        self._decoded: list[str | None] = []
        self.digest: str | None = None
        self.notes: tuple[str, ...] = ()
        self.group: str | None = None
        self._has_texts = False
        if table is not None:
            corpus = open_documents(table)
            self._rows = list(corpus)
            empty = sum(not document.text.strip() for document in self._rows)
            self._has_texts = empty < len(self._rows)
            if empty and self._has_texts:
                raise CorpusError(f"{table}: expected a text for every document, {empty} are empty")
            self.notes = corpus.notes
            self.group = corpus.group
            if empty:
                self.notes += (f"{table}: documents have no texts; texts are read from a column named text",)
            self._by_id = {document.id: row for row, document in enumerate(self._rows)}
            self.digest = corpus.digest

    def take(self, block: Block, where: str) -> None:
        """Add the documents that begin in a block: integers are rows of the table, strings ids in it.

        Args:
            block: the block.
            where: its place, for messages.

        Raises:
            TraceError: a document occurs a second time, or is not in the table.
        """
        self._decoded += block.texts
        for key in block.keys:
            if isinstance(key, str) and not _is_unicode(key):
                raise TraceError(f"{where}: expected a document id of valid Unicode, got {key!r:.60}")
            if key in self._seen:
                raise TraceError(
                    f"{where}: document {key!r:.60} occurs a second time; keep the tokens of a document contiguous"
                )
            self._seen.add(key)
            if self.table is None:
                self._ids.append(str(key))
                continue
            row = self._find(key)
            if row is None:
                raise TraceError(
                    f"{where}: document {key!r:.60} is not among the {len(self._rows)} rows of {self.table}"
                )
            self._taken.append(row)

    def _find(self, key: Key) -> int | None:
        """Return the row of the table that a document is."""
        return self._by_id.get(key) if isinstance(key, str) else key if 0 <= key < len(self._rows) else None

    def find_text(self, key: Key, part: int = 0) -> str | None:
        """Return the text of a document in the table; None if it has none."""
        row = self._find(key) if self._has_texts else None
        return None if row is None else self._rows[row].text

    def check_places(self, block: Block) -> None:
        """Raise TraceError unless the characters of tokens, if the input states them, lie in their texts.

        Args:
            block: one whose documents were taken.
        """
        names = [name for name in ("char_start", "char_end") if name in block.tokens]
        if not names:
            return
        if len(names) == 1:
            raise TraceError(f"{block.where(0)}: expected char_start and char_end, got {names[0]} alone")
        start, end = (np.asarray(block.tokens[name]) for name in names)
        first, last = int(block.document[0]), int(block.document[-1])
        rows = self._taken[first : last + 1] if self._has_texts else []
        lengths = [len(self._rows[row].text) for row in rows] or [_UNKNOWN_LENGTH] * (last + 1 - first)
        most = np.array(lengths)[block.document - first]
        known = (start != UNKNOWN) | (end != UNKNOWN)
        wrong = np.flatnonzero(known & ~((start >= 0) & (start <= end) & (end <= most)))
        if len(wrong):
            row = int(wrong[0])
            length = "" if most[row] == _UNKNOWN_LENGTH else f" of {most[row]:,} characters"
            raise TraceError(
                f"{block.where(row)}: expected char_start and char_end in the text{length}, or {UNKNOWN} for both, got "
                f"{start[row]} to {end[row]}"
            )

    @property
    def count(self) -> int:
        """Number of documents added."""
        return len(self._taken) or len(self._ids)

    @property
    def left_out(self) -> int:
        """Number of rows of the table that no token belongs to."""
        return len(self._rows) - len(self._taken) if self.table else 0

    @property
    def labels(self) -> list[str]:
        """Names of the label columns."""
        return list(dict.fromkeys(name for row in self._taken for name in self._rows[row].labels))

    def has_column(self, name: str) -> bool:
        """Return whether the table has a label column of that name."""
        return any(name in row.labels for row in self._rows)

    def batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the schema and the rows: id, text (null if not known) and the labels, all of them strings."""
        return _batches(self.labels, self.count, self.row)

    def row(self, number: int) -> dict[str, Any]:
        """Return the columns of a document that was added, by its number."""
        decoded = self._decoded[number] if self._decoded else None
        if self.table is None:
            return {"id": self._ids[number], "text": decoded}
        document = self._rows[self._taken[number]]
        return {"id": document.id, "text": document.text if self._has_texts else decoded, **document.labels}


class LabelledDocuments:
    """The documents of several inputs, in order. Their ids begin with the name of the input, which is a label.

    Args:
        parts: the documents of each input, by its name.
        label: column of the names.

    Attributes:
        table: none for all of them together.
        digest: of the tables of all inputs.
        notes: what a user should know about the tables.
        group: the column that says which documents belong together, if all tables have the same one.

    Raises:
        TraceError: a table has a column of that name already.
    """

    def __init__(self, parts: Mapping[str, ImportedDocuments], label: str) -> None:
        self.table: Path | None = None
        self._label = label
        self._names = tuple(parts)
        self._parts = tuple(parts.values())
        if any(part.has_column(label) for part in self._parts):
            raise TraceError(
                f"label: expected a new column, got {label!r:.60}, which a table of documents has already; choose "
                "another name"
            )
        self.notes = tuple(note for part in self._parts for note in part.notes)
        groups = {part.group for part in self._parts}
        self.group = groups.pop() if len(groups) == 1 else None
        digests = {name: part.digest for name, part in parts.items()}
        self.digest = digest_of(digests) if any(digests.values()) else None

    def take(self, block: Block, where: str) -> None:
        """Add the documents that begin in a block, see `ImportedDocuments.take`."""
        self._parts[block.part].take(block, where)

    def find_text(self, key: Key, part: int) -> str | None:
        """Return the text of a document of an input, see `ImportedDocuments.find_text`."""
        return self._parts[part].find_text(key)

    def check_places(self, block: Block) -> None:
        """Raise TraceError unless characters lie in their texts, see `ImportedDocuments.check_places`."""
        before = sum(part.count for part in self._parts[: block.part])
        self._parts[block.part].check_places(replace(block, document=block.document - before))

    @property
    def count(self) -> int:
        """Number of documents added."""
        return sum(part.count for part in self._parts)

    @property
    def left_out(self) -> int:
        """Number of rows of the tables that no token belongs to."""
        return sum(part.left_out for part in self._parts)

    @property
    def labels(self) -> list[str]:
        """Names of the label columns, that of the inputs first."""
        return [self._label, *dict.fromkeys(name for part in self._parts for name in part.labels)]

    def batches(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the schema and the rows, see `ImportedDocuments.batches`."""
        places = [(part, number) for part, each in enumerate(self._parts) for number in range(each.count)]

        def row(number: int) -> dict[str, Any]:
            part, place = places[number]
            columns = self._parts[part].row(place)
            return {**columns, "id": f"{self._names[part]}:{columns['id']}", self._label: self._names[part]}

        return _batches(self.labels, self.count, row)


def _batches(
    labels: Sequence[str], count: int, row: Callable[[int], dict[str, Any]]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    schema = pa.schema([(name, pa.large_string()) for name in ("id", "text", *labels)])

    def rows() -> Iterator[pa.RecordBatch]:
        for start in range(0, count, _AT_ONCE):
            part = [row(number) for number in range(start, min(start + _AT_ONCE, count))]
            yield pa.RecordBatch.from_pylist(part, schema=schema)

    return schema, rows()


def _is_unicode(key: str) -> bool:
    """Return whether a string has no lone surrogates, which no file can hold."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
