"""Opens a corpus from a path, an address, or documents in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.addresses import are_addresses, is_address, show
from specialize.choices import TextUnit
from specialize.corpus.columns import ColumnRequest
from specialize.corpus.document import Record
from specialize.corpus.files import check_regular
from specialize.corpus.memory import DATASET, FRAME, TEXTS, is_dataset, read_dataset, read_frame, read_texts
from specialize.corpus.paths import Files, is_pattern, require_kind, require_path
from specialize.corpus.readers import check_request, read_file, read_files
from specialize.corpus.sample import draw_sample
from specialize.corpus.stdin import STDIN, open_stdin
from specialize.corpus.stream import Corpus
from specialize.corpus.tables import read_hub
from specialize.errors import CorpusError

if TYPE_CHECKING:
    import pandas as pd


def open_corpus(
    source: "str | PathLike[str] | Sequence[str | PathLike[str]] | pd.DataFrame | Iterable[Mapping[str, Any]] | Corpus",
    *,
    text_column: str | None = None,
    messages_column: str | None = None,
    id_column: str | None = None,
    labels: Sequence[str] | None = None,
    group: str | None = None,
    unit: TextUnit = "file",
    limit: int | None = None,
    sample: int | None = None,
    sample_seed: int = 0,
) -> Corpus:
    """Open documents for reading. The first one (of a sample: all) is read at once, so that most errors are found here.

    The same documents from different sources give the same corpus: ids, texts, labels and digest.

    Args:
        source: documents in one of these forms.

            - A file: `.txt` (one document, see `unit`), `.jsonl`, `.json` (one array of objects or texts), `.csv`,
              `.tsv` (one document per row), `.conllu` (one document per `# newdoc`), all these also compressed (`.gz`,
              `.xz`, `.zst`); `.parquet`, `.arrow` or `.feather` (one document per row).
            - A folder: all files of these kinds in it and its subfolders except hidden ones, in the order of their
              paths. Ids are relative paths, followed by `:` and the id in the file if a file has several documents.
            - A pattern such as `data/**/*.jsonl.zst`: the files that match, with their paths below the part before the
              first wildcard.
            - A sequence of `Path` objects of files, folders and patterns: all their files, in the order of their paths,
              with their paths below the folder that holds all of them.
            - `-`: standard input, which is copied into a temporary file: JSON Lines if it begins with `{`, an array of
              objects or texts as in `.json`, else plain text.
            - An address `hf://DATASET[#CONFIGURATION][:SPLIT]` of a dataset on the Hugging Face hub.
            - Any other address, such as `s3://BUCKET/data/**/*.jsonl.zst`, of a file, a folder or a pattern; or a
              sequence of addresses. Files are downloaded when they are read.
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
        unit: what a document of plain text (`.txt`, standard input) is: the whole file, or each line that is not blank,
            with lines numbered from 0.
        limit: largest number of documents to read; default: all.
        sample: number of documents to draw at random instead, which then are read in their order; each is as likely as
            the others. The draw depends on the seed and on what the documents hold, not on their form, ids or order.
        sample_seed: of the draw.

    Returns:
        A corpus that can be iterated any number of times.

    Raises:
        CorpusError: the source is missing or of an unknown kind, its columns are ambiguous, there is no document, or
            the first one cannot be read. A line of JSON or of a table may have 64 MiB, a text 256 MiB, and a compressed
            file may expand 200-fold.
    """
    asked = None if labels is None else tuple(labels)
    request = ColumnRequest(text_column, id_column, asked, group, messages_column, unit)
    if isinstance(source, Corpus):
        if limit is not None or sample is not None or request != ColumnRequest():
            raise CorpusError(
                f"{source.source}: this corpus is open already; choose columns and documents in opening it"
            )
        return source
    if limit is not None and sample is not None:
        raise CorpusError(f"sample: expected a sample or the first documents, got both (limit {limit}); leave one out")
    name, records = _find_reader(source, request)
    if sample is not None:
        return draw_sample(name, records, sample, seed=sample_seed)
    return _read_first(Corpus(name, records, limit=limit))


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
    if isinstance(source, Sequence) and source and are_addresses(source):
        if any(isinstance(each, PathLike) for each in source):
            raise CorpusError("corpus: expected paths or addresses, got both; store all files in one place")
        return _find_reader_of_files([_local(each) for each in source], request)
    if isinstance(source, Sequence) and source and any(isinstance(each, PathLike) for each in source):
        if not all(isinstance(each, PathLike) for each in source):
            raise CorpusError("corpus: expected a list of texts or one of paths, got both; make each path a Path")
        return _find_reader_of_files([Path(each) for each in source], request)
    _refuse_unit(f"corpus of type {type(source).__name__}", request)
    if is_dataset(source):
        return DATASET, lambda: read_dataset(source, request)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        if request.asks_columns:
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
    if source == "-":
        return STDIN, open_stdin(request)
    if isinstance(source, str) and source.startswith("hf://"):
        _refuse_unit(source, request)
        return source, lambda: read_hub(source, request)
    path = _local(source)
    if is_pattern(path) or path.is_dir():
        return _find_reader_of_files([path], request)
    require_path(path)
    check_regular(path, str(path))
    check_request(require_kind(path), request, show(path))
    return show(path), lambda: read_file(path, path.name, request)


def _find_reader_of_files(paths: Sequence[Path], request: ColumnRequest) -> tuple[str, Callable[[], Iterator[Record]]]:
    files = Files(paths)
    return files.name, lambda: read_files(files.list(), request)


def _local(source: str | PathLike[str]) -> Path:
    """Return the path of a corpus; of one at an address, that of its copy."""
    if not is_address(source):
        return Path(source)
    from specialize.remote.corpora import local_corpus

    return local_corpus(source)


def _refuse_unit(name: str, request: ColumnRequest) -> None:
    if request.unit != "file":
        raise CorpusError(f"{name}: unit {request.unit}: expected it for .txt files alone; leave it out")
