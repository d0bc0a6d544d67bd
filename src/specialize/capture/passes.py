"""A user's own forward passes into a trace: each sequence of each pass becomes a document."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specialize.capture.calls import Call
from specialize.capture.invalid import find_invalid
from specialize.capture.layer import check_length
from specialize.capture.recorder import Recorder
from specialize.capture.transfer import Transfer
from specialize.capture.verification import encoder_of
from specialize.corpus import Corpus, Document
from specialize.corpus.document import Record
from specialize.errors import CaptureError
from specialize.trace import Shard, TraceWriter
from specialize.trace.token_text import TokenDecoder, TokenText
from specialize.tracing.documents import describe_corpus, write_documents
from specialize.tracing.plan import tokens_of_a_shard

SOURCE = "recorded forward passes"
_TEXTS_AT_ONCE = 512


class PassWriter:
    """Writes the routing of a model's forward passes to a trace while the user runs them; a context manager.

    Texts are kept in a temporary file, and tokens and routing in memory until there are enough for a shard.

    Args:
        model: the model; it must not be an encoder-decoder.
        recorder: of the model, not yet started.
        tokenizer: a fast tokenizer.
        writer: of the trace, entered.

    Attributes:
        num_documents: documents recorded so far.
        num_tokens: tokens recorded so far.
        unplaced_tokens: tokens whose characters in the text are unknown.
        unplaced_documents: documents with such tokens.

    Raises:
        CaptureError: the model is an encoder-decoder.
    """

    def __init__(self, model: nn.Module, recorder: Recorder, tokenizer: Any, writer: TraceWriter) -> None:
        if encoder_of(model) is not None:
            raise CaptureError(
                f"{type(model).__name__}: expected a model that reads one sequence, got an encoder-decoder; use "
                "trace_corpus"
            )
        self.num_documents = self.num_tokens = self.unplaced_documents = self.unplaced_tokens = 0
        self._recorder = recorder
        self._writer = writer
        self._contents = ["weights", *(name for name in ("logits", "norms") if name in recorder.extras)]
        self._shard_tokens = tokens_of_a_shard(recorder.specs, self._contents, 1)
        self._decoder = TokenDecoder(tokenizer)
        self._transfer = Transfer()
        self._texts = _TextSpool(writer.folder / ".texts.partial")
        self._tokens: list[dict[str, NDArray[Any]]] = []
        self._routing: list[list[dict[str, NDArray[Any]]]] = []
        self._held = 0
        self._last_ids: NDArray[np.int64] = np.empty((0, 0), np.int64)

    def __enter__(self) -> "PassWriter":
        self._writer.describe(routers=[spec.as_dict() for spec in self._recorder.specs], contents=self._contents)
        self._recorder.after_each_call(self._take)
        self._recorder.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.stop()
        if kind is not None:
            self._texts.close()

    def finish(self) -> None:
        """Write what is held in memory and the documents, and mark the trace as complete.

        Raises:
            CaptureError: nothing was recorded.
            OutputError: the disk is full, or the folder cannot be written.
        """
        if not self.num_tokens:
            raise CaptureError("nothing was recorded: expected at least one forward pass over text inside the block")
        if self._held:
            self._write_shard()
        self._texts.close()
        corpus = Corpus(SOURCE, self._texts.read)
        write_documents(self._writer, corpus, ())
        self._texts.path.unlink()
        self._writer.describe(corpus=describe_corpus(corpus, ()))
        self._writer.finish()

    def _take(self, call: Call) -> None:
        """Take what a call of the model recorded."""
        try:
            _check_call(call)
        except CaptureError:
            self._recorder.clear()
            raise
        columns = self._recorder.take_columns()
        read = call.inputs["decoder"]
        for spec, recorded in zip(self._recorder.specs, columns, strict=True):
            check_length(spec, recorded, read.token_ids.numel())
        ids = read.token_ids.cpu().numpy()
        _refuse_one_more_token(self._last_ids, ids)
        self._last_ids = ids
        mask = np.ones(ids.shape, bool) if read.mask is None else read.mask.cpu().numpy()
        rows: list[tuple[TokenText, NDArray[np.int64]]] = []
        for row in range(len(ids)):
            places = np.flatnonzero(mask[row])
            decoded = self._decoder.decode(ids[row, places].astype(np.int32))
            if decoded is not None:
                kept = places[decoded.opening : decoded.opening + len(decoded.token_ids)]
                rows.append((decoded, row * ids.shape[1] + kept))
        if rows:
            self._hold(columns, rows)

    def _hold(self, columns: Sequence[dict[str, Tensor]], rows: list[tuple[TokenText, NDArray[np.int64]]]) -> None:
        """Hold the sequences of a call, given as their text and their places in the columns; all of them or none."""
        specs = self._recorder.specs
        kept = torch.from_numpy(np.concatenate([places for _, places in rows]))
        arrived: list[list[dict[str, NDArray[Any]]]] = []
        self._transfer.send(columns, [kept] * len(specs), arrived.append)
        self._transfer.flush()
        sequences = np.repeat(np.arange(len(rows)), [len(places) for _, places in rows])
        invalid = find_invalid(specs, arrived[0], lambda index: _locate(rows, index, self.num_documents), sequences)
        if invalid is not None:
            raise invalid.error()
        for decoded, _ in rows:
            self._add_document(decoded)
        self._routing.append(arrived[0])
        self._held += len(kept)
        if self._held >= self._shard_tokens:
            self._write_shard()

    def _add_document(self, decoded: TokenText) -> None:
        count = len(decoded.token_ids)
        self.unplaced_documents += decoded.unplaced > 0
        self.unplaced_tokens += decoded.unplaced
        self._texts.write(decoded.text)
        self._tokens.append(
            {
                "document": np.full(count, self.num_documents),
                "sequence": np.full(count, self.num_documents),
                "position": decoded.opening + np.arange(count),
                "token_id": decoded.token_ids,
                "char_start": decoded.spans[:, 0],
                "char_end": decoded.spans[:, 1],
                "phase": np.zeros(count, np.uint8),
            }
        )
        self.num_documents += 1
        self.num_tokens += count

    def _write_shard(self) -> None:
        tokens = {name: np.concatenate([part[name] for part in self._tokens]) for name in self._tokens[0]}
        routing = [
            {name: np.concatenate([part[index][name] for part in self._routing]) for name in self._routing[0][index]}
            for index in range(len(self._recorder.specs))
        ]
        self._writer.write_shard(Shard(tokens, routing))
        self._tokens, self._routing, self._held = [], [], 0


def _check_call(call: Call) -> None:
    if call.cached:
        raise CaptureError(
            "expected forward passes over whole sequences, got one with a key-value cache, as in generate; run the "
            "generated sequences through the model without a cache, or use specialize.attach"
        )
    if "decoder" not in call.inputs:
        raise CaptureError("expected forward passes with input_ids [batch, length], got one without them")
    if call.masked_otherwise:
        raise CaptureError("expected an attention_mask [batch, length], got one of another form")


def _refuse_one_more_token(before: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
    """Refuse generation without a cache, in which each pass reads the sequences of the last one and a token more."""
    if len(ids) and ids.shape == (len(before), before.shape[1] + 1) and np.array_equal(ids[:, :-1], before):
        raise CaptureError(
            "expected each sequence once, got the sequences of the last forward pass with one more token, as in "
            "generate without a cache; run the generated sequences once, or use specialize.attach"
        )


def _locate(rows: Sequence[tuple[TokenText, NDArray[np.int64]]], index: int, first_document: int) -> str:
    """Return the document and position of a token of a call."""
    for document, (decoded, places) in enumerate(rows, first_document):
        if index < len(places):
            return f"document {document} (numbered from 0), position {decoded.opening + index}"
        index -= len(places)
    raise IndexError(index)


class _TextSpool:
    """Texts in a temporary file: written one by one, then read in order."""

    _SCHEMA = pa.schema([("text", pa.large_string())])

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._file, self._SCHEMA)
        self._held: list[str] = []

    def write(self, text: str) -> None:
        """Add a text."""
        self._held.append(text)
        if len(self._held) == _TEXTS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_batch(pa.record_batch([pa.array(self._held, pa.large_string())], schema=self._SCHEMA))
        self._held = []

    def close(self) -> None:
        """Write what is held, and close the file."""
        if self._file.closed:
            return
        if self._held:
            self._flush()
        self._writer.close()
        self._file.close()

    def read(self) -> Iterator[Record]:
        """Yield the texts as documents, numbered from 0."""
        number = 0
        with pa.memory_map(str(self.path)) as source:
            for batch in pa.ipc.open_stream(source):
                for text in batch.column("text").to_pylist():
                    yield Record(f"{SOURCE}, sequence {number}", Document(str(number), text))
                    number += 1
