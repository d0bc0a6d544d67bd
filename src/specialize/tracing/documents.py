"""The documents of a trace: written to the run folder, and read back from it as windows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from specialize.addresses import fetched
from specialize.corpus import Corpus, Document
from specialize.errors import CorpusError
from specialize.trace import TraceWriter
from specialize.tracing.replay import Replay
from specialize.tracing.windows import Window, cut_windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOCUMENTS_AT_ONCE = 512
TOKENIZED_AT_ONCE = 32  # so few that a model or a server soon has something to do, and that no other thread has to wait
CHARACTERS_AT_ONCE = 2**22


def write_documents(
    writer: TraceWriter,
    corpus: Corpus,
    labels: Sequence[str],
    *,
    expected: str | None = None,
    text_of: Callable[[int, Document], str | None] = lambda _, document: document.text,
) -> None:
    """Write the ids, texts and labels of a corpus to a trace, one batch in memory at a time.

    Args:
        writer: of the trace.
        corpus: the documents.
        labels: names of the label columns.
        expected: digest of the corpus; default: any.
        text_of: returns the text of a document, None if it is not known, given its row; called once for each, in order.

    Raises:
        CorpusError: the corpus has another digest, and no file is written.
    """
    schema = pa.schema([(name, pa.large_string()) for name in ("id", "text", *labels)])

    def rows() -> Iterator[dict[str, str | None]]:
        for row, document in enumerate(corpus):
            yield {"id": document.id, "text": text_of(row, document), **document.labels}
        if expected is not None and corpus.digest != expected:
            raise CorpusError(
                f"{corpus.source}: expected the same documents whenever they are read, got others the second time; run "
                "the same command again"
            )

    writer.write_documents(schema, batch_rows(rows(), schema))


def batch_rows(documents: Iterable[Mapping[str, str | None]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield documents in batches as they are stored, one in memory at a time.

    Args:
        documents: id, text and labels of each; a label may be missing.
        schema: of the batches.
    """
    rows: list[Mapping[str, str | None]] = []
    characters = 0
    for document in documents:
        rows.append(document)
        characters += len(document["text"] or "")
        if len(rows) == DOCUMENTS_AT_ONCE or characters > CHARACTERS_AT_ONCE:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows, characters = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def describe_corpus(corpus: Corpus, labels: Sequence[str]) -> dict[str, object]:
    """Return the manifest's entry of a corpus that was read to the end."""
    return {
        "source": corpus.source,
        "digest": corpus.digest,
        "documents": corpus.num_documents,
        "skipped_empty": corpus.skipped,
        "labels": list(labels),
        "group": corpus.group,
        "repeated": corpus.repeated,
        "sample": None if corpus.sample is None else asdict(corpus.sample),
        **({"replay_of": corpus.origin} if isinstance(corpus, Replay) else {}),
    }


def read_windows(
    run: Path, tokenizer: "PreTrainedTokenizerBase", *, length: int, stride: int | None, max_tokens: int | None = None
) -> Iterator[Window]:
    """Yield the windows of the stored documents, reading them through a memory map, some at a time.

    Args:
        run: the run folder.
        tokenizer: the model's tokenizer.
        length: as in `cut_windows`, like the next two.
        stride: from one window to the next.
        max_tokens: of a document.
    """
    first = 0
    with pa.memory_map(str(fetched(run / "trace" / "documents.arrow"))) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number).column("text").to_pylist()
            for start in range(0, len(batch), TOKENIZED_AT_ONCE):
                texts = batch[start : start + TOKENIZED_AT_ONCE]
                yield from cut_windows(
                    texts, tokenizer, length=length, stride=stride, max_tokens=max_tokens, first_document=first
                )
                first += len(texts)
