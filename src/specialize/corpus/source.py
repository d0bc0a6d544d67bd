"""Opens a corpus from a path, an address, or documents in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.corpus.columns import ColumnRequest
from specialize.corpus.conllu import read_conllu
from specialize.corpus.document import Record
from specialize.corpus.lines import check_regular, read_csv, read_jsonl, read_text
from specialize.corpus.memory import DATASET, FRAME, TEXTS, is_dataset, read_dataset, read_frame, read_texts
from specialize.corpus.stream import Corpus
from specialize.corpus.tables import read_arrow, read_hub, read_parquet
from specialize.errors import CorpusError, did_you_mean, first_line

if TYPE_CHECKING:
    import pandas as pd

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
    source: "str | PathLike[str] | Sequence[str] | pd.DataFrame | Iterable[Mapping[str, Any]] | Corpus",
    *,
    text_column: str | None = None,
    messages_column: str | None = None,
    id_column: str | None = None,
    labels: Sequence[str] | None = None,
    group: str | None = None,
    limit: int | None = None,
) -> Corpus:
    """Open documents for reading. The first one is read at once, so that most errors are found here.

    The same documents from different sources give the same corpus: ids, texts, labels and digest.

    Args:
        source: documents in one of these forms.

            - A file: `.txt` (one document), `.jsonl`, `.csv`, `.tsv` (all these also gzipped, `.gz`), `.parquet`,
              `.arrow`, `.feather` (one document per row) or `.conllu` (one document per `# newdoc`).
            - A folder: all files of these kinds in it and its subfolders except hidden ones, in the order of their
              paths. Ids are relative paths, followed by `:` and the id in the file if a file has several documents.
            - An address `hf://DATASET[#CONFIGURATION][:SPLIT]` of a dataset on the Hugging Face hub.
            - A list of texts, a pandas DataFrame, or a ``datasets.Dataset``.
            - A corpus, which is returned as it is.
        text_column: column with the text; default: `text`, else the only string column.
        messages_column: column with conversations, lists of messages with role and content (or from and value), which
            are read instead of texts; default: `messages`, `conversations` or `conversation`, if there is no column
            `text` and no `text_column`.
        id_column: column with the ids; default: `id`, else rows are numbered from 0.
        labels: columns with labels, to which that with the language (lang or language) is added; default: every
            string, integer or boolean column that is neither text nor id. If columns have no type (JSON Lines,
            DataFrames, datasets), the first 100 rows determine it.
        group: column that says which documents belong together (book, thread, prompt), so that intervals and
            permutations keep them together; default: `group`, if there is such a column that `labels` does not name.
        limit: largest number of documents to read; default: all.

    Returns:
        A corpus that can be iterated any number of times.

    Raises:
        CorpusError: the source is missing or of an unknown kind, its columns are ambiguous, there is no document, or
            the first one cannot be read. A line of JSON or of a table may have 64 MiB, a text 256 MiB, and a compressed
            file may expand 200-fold.
    """
    asked = None if labels is None else tuple(labels)
    request = ColumnRequest(text_column, id_column, asked, group, messages_column)
    if isinstance(source, Corpus):
        if limit is not None or not request.is_default:
            raise CorpusError(f"{source.source}: this corpus is open already; choose columns and limit in opening it")
        return source
    name, records = _find_reader(source, request)
    corpus = Corpus(name, records, limit=limit)
    return _read_first(corpus)


def open_documents(path: str | PathLike[str]) -> Corpus:
    """Open a table of documents whose texts may be missing.

    The text is the column `text`; every other string, integer or boolean column besides the id is a label, so that a
    table of ids and labels has no texts: they are empty strings.

    Args:
        path: a file or folder, as in `open_corpus`.

    Raises:
        CorpusError: as `open_corpus`.
    """
    name, records = _find_reader_of_path(path, ColumnRequest(needs_text=False))
    return _read_first(Corpus(name, records, keeps_empty=True))


def _read_first(corpus: Corpus) -> Corpus:
    with closing(iter(corpus)) as documents:
        next(documents)
    return corpus


def _find_reader(source: Any, request: ColumnRequest) -> tuple[str, Callable[[], Iterator[Record]]]:
    """Return the name of a source, and what reads it from the start."""
    if isinstance(source, str | PathLike):
        return _find_reader_of_path(source, request)
    if is_dataset(source):
        return DATASET, lambda: read_dataset(source, request)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        if not request.is_default:
            raise CorpusError(f"{TEXTS}: a list of texts has no columns to choose; leave the column options out")
        return TEXTS, lambda: read_texts(source)
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return FRAME, lambda: read_frame(source, request)
    raise CorpusError(
        "corpus: expected a path, an address hf://…, a list of texts, a pandas DataFrame, a datasets.Dataset or a "
        f"Corpus, got {type(source).__name__}"
    )


def _find_reader_of_path(
    source: str | PathLike[str], request: ColumnRequest
) -> tuple[str, Callable[[], Iterator[Record]]]:
    if isinstance(source, str) and source.startswith("hf://"):
        return source, lambda: read_hub(source, request)
    path = Path(source)
    require_path(path)
    if path.is_dir():
        return str(path), lambda: _read_folder(path, request)
    check_regular(path, str(path))
    extension = extension_of(path)
    if extension is None:
        raise CorpusError(
            f"{path}: expected a file ending in {', '.join(KNOWN_EXTENSIONS)}, got {path.suffix or 'no extension'!r}"
        )
    if extension in _TEXT_READERS and not request.is_default:
        raise CorpusError(f"{path}: a {extension} file has no columns to choose; leave the column options out")
    return str(path), lambda: _read_file(path, path.name, request)


def extension_of(path: Path) -> str | None:
    """Return the known extension of a file name, or None."""
    name = path.name.lower()
    return next((extension for extension in KNOWN_EXTENSIONS if name.endswith(extension)), None)


def require_path(path: Path) -> None:
    """Raise CorpusError if there is neither a file nor a folder, and suggest its neighbours."""
    try:
        if path.exists():
            return
    except OSError as error:
        raise CorpusError(f"{path}: expected a file or folder, got: {error.strerror or error}") from None
    if not path.parent.is_dir():
        raise CorpusError(f"{path}: expected a file or folder, found no folder {path.parent}")
    siblings = [sibling.name for sibling in path.parent.iterdir()]
    raise CorpusError(f"{path}: expected a file or folder, found none.{did_you_mean(path.name, siblings)}")


def _read_file(path: Path, name: str, request: ColumnRequest) -> Iterator[Record]:
    extension = extension_of(path)
    assert extension is not None
    check_regular(path, name)
    try:
        if extension in _TEXT_READERS:
            yield from _TEXT_READERS[extension](path, name)
        else:
            yield from _TABLE_READERS[extension](path, name, request)
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise CorpusError(f"{name}: expected a readable file, got: {reason:.300}") from None


def list_files(path: Path) -> list[Path]:
    """Return the files that a corpus is read from: the file itself, or those of a folder, in order."""
    if not path.is_dir():
        return [path]
    return sorted(
        each
        for each in path.rglob("*")
        if extension_of(each) is not None
        and not each.is_dir()
        and not any(part.startswith(".") for part in each.relative_to(path).parts)
    )


def _read_folder(folder: Path, request: ColumnRequest) -> Iterator[Record]:
    files = list_files(folder)
    if not files:
        raise CorpusError(f"{folder}: expected files ending in {', '.join(KNOWN_EXTENSIONS)}, found none")
    for path in files:
        name = path.relative_to(folder).as_posix()
        for record in _read_file(path, name, request):
            if record.document.id == name:  # the file is the document
                yield record
            else:
                document = record.document
                yield replace(record, document=replace(document, id=f"{name}:{document.id}"))
