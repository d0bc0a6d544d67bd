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
        text: the text as in the source, including line ends; never only white space.
        labels: the labels of the document by column; a missing value has no entry.
    """

    id: str
    text: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A document with its place in the source for error messages (`"a.jsonl, line 3"`)."""

    where: str
    document: Document


class Corpus:
    """A stream of documents that can be read any number of times, with one document in memory at a time.

    Apart from the current document only the set of ids seen is kept, to detect duplicates.

    Attributes:
        source: name of the source, for messages and the manifest.
        limit: largest number of documents to read; None for all.
    """

    def __init__(self, source: str, records: Callable[[], Iterator[Record]], *, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise CorpusError(f"limit: expected a positive number of documents, got {limit}")
        self.source = source
        self.limit = limit
        self._records = records
        self._skipped = 0
        self._complete: tuple[str, int] | None = None

    def __repr__(self) -> str:
        return f"Corpus({self.source!r}, limit={self.limit})"

    def __iter__(self) -> Generator[Document, None, None]:
        """Read from the start. Texts of only white space are skipped and counted in `skipped`.

        Raises:
            CorpusError: a document cannot be read, an id occurs twice, or there is no document; the message names
                the place.
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
                    f"{record.where}: expected unique ids, got {document.id!r} a second time; choose another id column"
                )
            seen.add(document.id)
            digest.update(_canonical_bytes(record))
            yield document
            if len(seen) == self.limit:
                break
        if not seen:
            emptied = f" ({self._skipped} empty ones were skipped)" if self._skipped else ""
            raise CorpusError(f"{self.source}: expected at least one document, found none{emptied}")
        self._complete = (digest.hexdigest(), len(seen))

    @property
    def skipped(self) -> int:
        """Number of empty texts skipped in the latest pass."""
        return self._skipped

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the ids, texts and labels of the documents, in order.

        Raises:
            CorpusError: no pass has reached the end yet.
        """
        return self._require_complete("digest")[0]

    @property
    def num_documents(self) -> int:
        """Number of documents in a complete pass.

        Raises:
            CorpusError: no pass has reached the end yet.
        """
        return self._require_complete("number of documents")[1]

    def _require_complete(self, quantity: str) -> tuple[str, int]:
        if self._complete is None:
            raise CorpusError(f"{self.source}: the {quantity} is known only after every document was read once")
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
