"""From a path or address to a corpus."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from specialize.corpus.columns import ColumnRequest
from specialize.corpus.conllu import read_conllu
from specialize.corpus.document import Corpus, Document, Record
from specialize.corpus.lines import read_csv, read_jsonl, read_text
from specialize.corpus.tables import read_arrow, read_hub, read_parquet
from specialize.errors import CorpusError, did_you_mean

_TABLE_READERS: dict[str, Callable[[Path, str, ColumnRequest], Iterator[Record]]] = {
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_csv,
    ".tsv.gz": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
_TEXT_READERS: dict[str, Callable[[Path, str], Iterator[Record]]] = {
    ".txt": read_text,
    ".txt.gz": read_text,
    ".conllu": read_conllu,
    ".conllu.gz": read_conllu,
}
KNOWN_EXTENSIONS = (*_TEXT_READERS, *_TABLE_READERS)


def open_corpus(
    source: str | Path,
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    label_columns: Sequence[str] | None = None,
    limit: int | None = None,
) -> Corpus:
    """Open documents for reading. The first one is read at once, so that most mistakes show here.

    Args:
        source: a file, a folder, or `hf://DATASET[#CONFIGURATION][:SPLIT]`. Files are `.txt` (one file is
            one document), `.jsonl`, `.csv`, `.tsv` (all these also gzipped, `.gz`), `.parquet`, `.arrow`
            and `.feather` (one row is one document) and `.conllu` (one `# newdoc` is one document). A
            folder means every file of a known kind in it and below, hidden ones apart, in the order of
            their paths; ids are the relative path, for files of many documents followed by `:` and the
            id in the file.
        text_column: column with the text; default: `text`, else the only string column.
        id_column: column with the ids; default: `id`, else rows are numbered from 0.
        label_columns: columns with labels; default: every string, integer or boolean column that is
            neither text nor id; where columns have no type of their own (JSON Lines, datasets) the first
            100 rows tell.
        limit: read at most so many documents.

    Returns:
        A corpus that can be iterated any number of times.

    Raises:
        CorpusError: missing path, unknown kind, unclear columns, no document, or an unreadable line.
    """
    labels = None if label_columns is None else tuple(label_columns)
    request = ColumnRequest(text_column, id_column, labels)
    if str(source).startswith("hf://"):
        address = str(source)
        corpus = Corpus(address, lambda: read_hub(address, request), limit=limit)
    else:
        path = Path(source)
        _require_path(path)
        if path.is_dir():
            corpus = Corpus(str(path), lambda: _read_folder(path, request), limit=limit)
        else:
            extension = extension_of(path)
            if extension is None:
                raise CorpusError(
                    f"{path}: expected a file ending in {', '.join(KNOWN_EXTENSIONS)}, "
                    f"got {path.suffix or 'no extension'!r}"
                )
            if extension in _TEXT_READERS and not request.is_default:
                raise CorpusError(f"{path}: a {extension} file has no columns to choose; leave the column options out")
            corpus = Corpus(str(path), lambda: _read_file(path, path.name, request), limit=limit)
    with closing(iter(corpus)) as documents:
        next(documents)
    return corpus


def extension_of(path: Path) -> str | None:
    """Return the known extension a file name ends in, or None."""
    name = path.name.lower()
    return next((extension for extension in KNOWN_EXTENSIONS if name.endswith(extension)), None)


def _require_path(path: Path) -> None:
    if path.exists():
        return
    if not path.parent.is_dir():
        raise CorpusError(f"{path}: expected a file or folder, and there is not even a folder {path.parent}")
    siblings = [sibling.name for sibling in path.parent.iterdir()]
    raise CorpusError(f"{path}: expected a file or folder, found none.{did_you_mean(path.name, siblings)}")


def _read_file(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    extension = extension_of(path)
    assert extension is not None
    try:
        if extension in _TEXT_READERS:
            yield from _TEXT_READERS[extension](path, name)
        else:
            yield from _TABLE_READERS[extension](path, name, request)
    except OSError as error:
        raise CorpusError(f"{name}: expected a readable file, got: {error.strerror or error}") from None


def _read_folder(folder: Path, request: ColumnRequest) -> Iterator[Record]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and extension_of(path) is not None
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise CorpusError(f"{folder}: expected files ending in {', '.join(KNOWN_EXTENSIONS)}, found none")
    for path in files:
        name = path.relative_to(folder).as_posix()
        for record in _read_file(path, name, request):
            if record.document.id == name:  # the file is the document
                yield record
            else:
                document = record.document
                yield Record(record.where, Document(f"{name}:{document.id}", document.text, document.labels))
