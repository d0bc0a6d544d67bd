"""Reads files by the endings of their names: one file, or several of which each keeps its documents apart."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from specialize.addresses import fetched
from specialize.corpus.columns import ColumnRequest
from specialize.corpus.conllu import read_conllu
from specialize.corpus.document import Record
from specialize.corpus.files import COMPRESSIONS, check_regular
from specialize.corpus.json_array import read_json
from specialize.corpus.lines import read_csv, read_jsonl, read_text
from specialize.corpus.tables import read_arrow, read_parquet
from specialize.errors import CorpusError, first_line

READERS: dict[str, Callable[[Path, str, ColumnRequest], Iterator[Record]]] = {
    ".txt": read_text,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".conllu": lambda path, name, _: read_conllu(path, name),
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
_BINARY = (".parquet", ".arrow", ".feather")
_PLAIN = tuple(kind for kind in READERS if kind not in _BINARY)  # which may be compressed
_WITHOUT_COLUMNS = (".txt", ".conllu")
ENDINGS = f"{', '.join(_PLAIN)} (also with {', '.join(COMPRESSIONS)}), {', '.join(_BINARY)}"


def find_kind(path: Path) -> str | None:
    """Return the ending of a file name that says how it is read, without that of a compression; None if unknown."""
    name = path.name.lower()
    packed = next((ending for ending in COMPRESSIONS if name.endswith(ending)), "")
    kinds = _PLAIN if packed else READERS
    return next((kind for kind in kinds if name.removesuffix(packed).endswith(kind)), None)


def check_request(kind: str, request: ColumnRequest, name: str) -> None:
    """Raise CorpusError if a file of this kind, alone, has nothing that was asked for.

    Args:
        kind: one of `READERS`.
        request: what the user asked for.
        name: of the file, for messages.
    """
    if kind in _WITHOUT_COLUMNS and request.asks_columns:
        raise CorpusError(f"{name}: a {kind} file has no columns to choose; leave the column options out")
    if kind != ".txt" and request.unit != "file":
        raise CorpusError(
            f"{name}: unit {request.unit}: expected it for text alone, got {kind}, which says what a document is; "
            "leave it out"
        )


def read_file(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    """Yield the documents of a file of a known kind.

    Args:
        path: the file.
        name: of the file, for messages; the id of a document that is the whole file.
        request: what the user asked for.

    Raises:
        CorpusError: it cannot be read; the message names the place.
    """
    kind = find_kind(path)
    assert kind is not None
    check_regular(path, name)
    try:
        yield from READERS[kind](fetched(path), name, request)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise CorpusError(f"{name}: expected a readable file, got: {reason:.300}") from None


def read_files(files: Sequence[tuple[str, Path]], request: ColumnRequest) -> Iterator[Record]:
    """Yield the documents of several files, whose ids are the names of the files, and the ids in a file after a colon.

    Args:
        files: names and paths.
        request: what the user asked for.

    Raises:
        CorpusError: as `read_file`.
    """
    if request.unit != "file" and all(find_kind(path) != ".txt" for _, path in files):
        raise CorpusError(
            f"unit {request.unit}: expected .txt files among those of the corpus, found none; leave it out"
        )
    for name, path in files:
        for record in read_file(path, name, request):
            if record.document.id == name:  # the file is the document
                yield record
            else:
                document = record.document
                yield replace(record, document=replace(document, id=f"{name}:{document.id}"))
