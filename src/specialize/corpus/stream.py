"""The corpus as a stream of documents with a digest."""

import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from specialize.choices import check_whole
from specialize.corpus.document import Document, ReadingNotes, Record
from specialize.errors import CorpusError
from specialize.text import cut_name, list_names

FEW_GROUPS = 20  # below which an interval over blocks of them is wide and rough


@dataclass(frozen=True)
class Sample:
    """A random sample of documents.

    Attributes:
        size: number of documents that were drawn.
        seed: of the draw.
        population: number of documents that they were drawn from.
    """

    size: int
    seed: int
    population: int


class Corpus:
    """A stream of documents that can be read any number of times, with one document in memory at a time.

    Apart from the current document only the ids and digests of the texts seen are kept, to detect duplicates.

    Args:
        source: name of the source.
        records: reads it from the start.
        limit: largest number of documents to read; None for all.
        keeps_empty: keep documents whose text is missing or only white space, instead of skipping them.
        sample: what the records are a sample of, if they are one.

    Attributes:
        source: name of the source, for messages and the manifest.
        limit: largest number of documents to read; None for all.
        sample: what the documents are a random sample of, if they are one.
    """

    def __init__(
        self,
        source: str,
        records: Callable[[], Iterator[Record]],
        *,
        limit: int | None = None,
        keeps_empty: bool = False,
        sample: Sample | None = None,
    ) -> None:
        if limit is not None:
            check_whole("limit", limit, error=CorpusError)
            if limit < 1:
                raise CorpusError(f"limit: expected a positive number of documents, got {limit}")
        self.source = source
        self.limit = limit
        self.sample = sample
        self._records = records
        self._keeps_empty = keeps_empty
        self._skipped = self._repeated = 0
        self._unused: dict[str, str] = {}
        self._without_value: list[str] = []
        self._found_text: dict[str, None] = {}
        self._messages: dict[str, None] = {}
        self._complete: tuple[str, int] | None = None
        self._first: dict[int, str] = {}
        self._group: str | None = None
        self._groups: set[str] = set()

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
        contents: set[bytes] = set()
        labels: dict[str, None] = {}
        with_value: set[str] = set()
        self._skipped = self._repeated = 0
        self._groups = set()
        notes: ReadingNotes | None = None
        try:
            for record in self._records():
                if record.notes is not notes:
                    self._add_notes(notes)
                    notes = record.notes
                    labels |= dict.fromkeys(notes.labels if notes else ())
                document = record.document
                is_empty = document.is_blank
                if is_empty and not self._keeps_empty:
                    self._skipped += 1
                    continue
                if document.id in seen:
                    raise CorpusError(
                        f"{record.where}: expected unique ids, got {document.id!r:.60} a second time; choose another "
                        "id column"
                    )
                seen.add(document.id)
                digest.update(record.encode())
                with_value |= document.labels.keys()
                if notes is not None and notes.group in document.labels:
                    self._groups.add(document.labels[notes.group])
                if not is_empty:
                    content = hashlib.blake2b(document.encode_content(), digest_size=16).digest()
                    self._repeated += content in contents
                    contents.add(content)
                yield document
                if len(seen) == self.limit:
                    break
        finally:
            self._add_notes(notes)
        if not seen:
            emptied = f" ({self._skipped} empty ones were skipped)" if self._skipped else ""
            raise CorpusError(f"{self.source}: expected at least one document, found none{emptied}")
        self._without_value = [column for column in labels if column not in with_value]
        self._complete = (digest.hexdigest(), len(seen))

    def _add_notes(self, notes: ReadingNotes | None) -> None:
        if notes is not None:
            self._unused = notes.unused | self._unused
            self._group = self._group or notes.group
            self._found_text |= dict.fromkeys([notes.found_text] if notes.found_text is not None else [])
            self._messages |= dict.fromkeys(notes.messages)

    @property
    def skipped(self) -> int:
        """Number of empty texts skipped in the latest pass."""
        return self._skipped

    @property
    def repeated(self) -> int:
        """Number of texts and conversations in the latest pass that repeat an earlier one exactly."""
        return self._repeated

    @property
    def group(self) -> str | None:
        """The label column that says which documents belong together, known once a document was read; None if none."""
        return self._group

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the passes so far, one line each.

        How large a sample is, how a delimiter was found, which column was taken for the text, which are not used as
        labels or have no value, how many texts are empty or exact duplicates, and how many groups of documents there
        are.
        """
        notes = list(self._messages)
        if self.sample is not None:
            drawn = f"{self.sample.size:,} of {self.sample.population:,} documents, drawn with seed {self.sample.seed}"
            notes.append(f"{self.source}: a random sample of {drawn}")
        if self._found_text:
            columns = list_names(map(printable, self._found_text))
            notes.append(f"{self.source}: texts are read from the only column of strings: {columns}")
        if self._unused:
            unused = [f"{printable(name)} ({reason})" for name, reason in self._unused.items()]
            columns = list_names(unused, longest=140)
            notes.append(f"{self.source}: columns that are not used as labels: {columns}; set labels to use one")
        if self._without_value:
            notes.append(
                f"{self.source}: label columns without a value: {list_names(map(printable, self._without_value))}"
            )
        if self._skipped:
            notes.append(f"{self.source}: empty or missing texts that are skipped: {self._skipped:,}")
        if self._repeated:
            notes.append(
                f"{self.source}: texts that repeat an earlier text exactly: {self._repeated:,}; intervals keep "
                "copies together; remove them if they should not be counted twice"
            )
        if self._groups:
            few = len(self._groups) < FEW_GROUPS
            notes.append(
                f"{self.source}: documents that belong together, by the column {printable(str(self._group))}: "
                f"{len(self._groups):,} groups" + ("; intervals from so few groups are wide" if few else "")
            )
        return tuple(notes)

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the ids, texts, messages and labels of the documents, in order.

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

    def digest_of_first(self, documents: int) -> str:
        """Return the digest of the first so many documents, as if there were no others; reads them again.

        Raises:
            CorpusError: as in reading.
        """
        if documents not in self._first:
            part = Corpus(self.source, self._records, limit=documents, keeps_empty=self._keeps_empty)
            for _ in part:
                pass
            self._first[documents] = part.digest
        return self._first[documents]

    def _require_complete(self, quantity: str) -> tuple[str, int]:
        if self._complete is None:
            raise CorpusError(f"{self.source}: the {quantity} is known only after every document was read once")
        return self._complete


def printable(name: str) -> str:
    """Return a name for a message: cut if it is long, with escapes if it has characters that cannot be printed."""
    return cut_name(name if name.isprintable() and name else repr(name))
