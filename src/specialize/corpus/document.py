"""A document, and the corpus as a stream of documents with a digest."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from specialize.errors import CorpusError


@dataclass(frozen=True)
class Document:
    """One text of a corpus.

    Attributes:
        id: unique in its corpus.
        text: the text as the source holds it, line ends included. Never only white space.
        labels: what the corpus says of the document, by column. A missing value has no entry.
    """

    id: str
    text: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A document as read, with the place it came from for error messages (`"a.jsonl, line 3"`)."""

    where: str
    document: Document


class Corpus:
    """A stream of documents that can be read any number of times, one document in memory at once.

    Beside the current document only the set of ids seen is kept, to refuse duplicates.

    Attributes:
        source: what was opened, for messages and the manifest.
        limit: the largest number of documents read, or None.
    """

    def __init__(self, source: str, records: Callable[[], Iterator[Record]], *, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise CorpusError(f"the document limit must be at least 1, got {limit}")
        self.source = source
        self.limit = limit
        self._records = records
        self._skipped = 0
        self._complete: tuple[str, int] | None = None

    def __repr__(self) -> str:
        return f"Corpus({self.source!r}, limit={self.limit})"

    def __iter__(self) -> Generator[Document, None, None]:
        """Read from the start. Texts of white space only are skipped and counted in `skipped`.

        Raises:
            CorpusError: unreadable line, duplicate id, no document at all. Names the file and line.
        """
        digest = hashlib.sha256()
        seen: set[str] = set()
        self._skipped = 0
        for record in self._records():
            document = record.document
            if not document.text.strip():
                self._skipped += 1
                continue
            if document.id in seen:
                raise CorpusError(
                    f"{record.where}: the id {document.id!r} was used before; ids must be unique "
                    "(make them so, or name another id column)"
                )
            seen.add(document.id)
            digest.update(_canonical_bytes(record))
            yield document
            if len(seen) == self.limit:
                break
        if not seen:
            emptied = f" (skipped as empty: {self._skipped})" if self._skipped else ""
            raise CorpusError(f"{self.source}: expected at least one document, found none{emptied}")
        self._complete = (digest.hexdigest(), len(seen))

    @property
    def skipped(self) -> int:
        """Number of empty texts skipped so far in the latest pass."""
        return self._skipped

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over the ids, texts and labels of the documents read, in order.

        Raises:
            CorpusError: before a pass has reached the end.
        """
        return self._require_complete("digest")[0]

    @property
    def num_documents(self) -> int:
        """Number of documents in a whole pass.

        Raises:
            CorpusError: before a pass has reached the end.
        """
        return self._require_complete("number of documents")[1]

    def _require_complete(self, quantity: str) -> tuple[str, int]:
        if self._complete is None:
            raise CorpusError(f"{self.source}: the {quantity} is known only after reading every document once")
        return self._complete


def _canonical_bytes(record: Record) -> bytes:
    document = record.document
    line = json.dumps([document.id, document.text, document.labels], ensure_ascii=False, sort_keys=True)
    try:
        return line.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{record.where}: expected valid Unicode, got the lone surrogate {line[error.start]!r}; "
            "repair the text at its source"
        ) from None
