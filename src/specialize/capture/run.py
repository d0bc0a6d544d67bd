"""A corpus through a model, into a trace."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specialize.capture.loading import Checkpoint
from specialize.capture.recorder import Recorder
from specialize.capture.routers import find_routers
from specialize.capture.windows import Window, cut_windows, group_windows, plan_batches
from specialize.corpus import Corpus
from specialize.errors import CorpusError, TraceError
from specialize.manifest import versions
from specialize.trace import NO_EXPERT, RoutingTrace, Shard, TraceWriter, open_trace

LONGEST_DEFAULT_CONTEXT = 2048
DOCUMENTS_AT_ONCE = 512


@dataclass(frozen=True)
class TraceOptions:
    """How a corpus is run through a model.

    Attributes:
        context_length: tokens of a window; default: what the model was made for, at most 2048.
        batch_tokens: padded tokens of a forward pass.
        shard_tokens: tokens of a shard on disk; so many are held in memory, and lost at worst when a run is killed.
    """

    context_length: int | None = None
    batch_tokens: int = 8192
    shard_tokens: int = 2**17

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                raise TraceError(f"{name}: expected a positive number, got {value}")


@dataclass(frozen=True)
class TraceProgress:
    """How far a trace is.

    Attributes:
        documents_done, documents: documents traced, and of how many.
        tokens: tokens traced in this process.
        tokens_per_second: over this process.
    """

    documents_done: int
    documents: int
    tokens: int
    tokens_per_second: float


def trace_corpus(
    checkpoint: Checkpoint,
    corpus: Corpus,
    run: Path,
    *,
    options: TraceOptions | None = None,
    command: str | None = None,
    on_progress: Callable[[TraceProgress], None] = lambda progress: None,
) -> RoutingTrace:
    """Run a corpus through a model and write its routing trace.

    An interrupted trace of the same settings is gone on with; a complete one is opened as it is.

    Args:
        checkpoint: the model.
        corpus: the documents.
        run: the run folder, made when missing.
        options: how the corpus is run.
        command: the command line, for the manifest.
        on_progress: called after each batch.

    Raises:
        CaptureError: the model has no routing that can be captured.
        CorpusError: the corpus cannot be read, is empty, or changed since the trace was begun.
        TraceError: the folder holds something else, or the disk is full.
    """
    options = options or TraceOptions()
    context_length = _context_length(checkpoint, options)
    device = checkpoint.model.device
    settings = {
        "model": checkpoint.name,
        "revision": checkpoint.facts["revision"],
        "config_digest": checkpoint.facts["config_digest"],
        "dtype": checkpoint.facts["dtype"],
        "device": device.type,
        "corpus": corpus.source,
        "limit": corpus.limit,
        "context_length": context_length,
        "batch_tokens": options.batch_tokens,
        "shard_tokens": options.shard_tokens,
    }
    provenance = {"command": command, "versions": versions(), "model": checkpoint.facts}
    writer = TraceWriter(run, settings=settings, provenance=provenance)
    # before anything is written: a dense model or a broken corpus leaves no folder behind
    points = find_routers(checkpoint.model)
    labels = _read_through(corpus)
    _refuse_changed(corpus, writer)
    with writer:
        if writer.is_complete:
            return open_trace(run)
        if not writer.has_documents():
            writer.write_documents(*_document_batches(corpus, labels))
            writer.describe(
                routers=[point.spec.as_dict() for point in points],
                contents=["weights"],
                corpus={
                    "source": corpus.source,
                    "digest": corpus.digest,
                    "documents": corpus.num_documents,
                    "skipped_empty": corpus.skipped,
                    "labels": labels,
                },
            )
        clock = _Clock(corpus.num_documents, on_progress)
        groups = group_windows(_windows(run, checkpoint, context_length), tokens=options.shard_tokens)
        sequence = 0
        with Recorder(points) as recorder:
            for number, windows in enumerate(groups):
                if number >= writer.num_shards:
                    writer.write_shard(
                        _trace_group(checkpoint.model, recorder, windows, sequence, options.batch_tokens, clock)
                    )
                else:
                    clock.count(0, windows[-1].document + 1)
                sequence += len(windows)
        if not writer.num_tokens:
            raise CorpusError(f"{corpus.source}: expected text that the tokenizer turns into tokens, got none")
        writer.finish()
    return open_trace(run)


def _context_length(checkpoint: Checkpoint, options: TraceOptions) -> int:
    limit = getattr(checkpoint.model.config.get_text_config(), "max_position_embeddings", None)
    if options.context_length is None:
        return min(limit or LONGEST_DEFAULT_CONTEXT, LONGEST_DEFAULT_CONTEXT)
    if limit is not None and options.context_length > limit:
        raise TraceError(
            f"context length: the model takes at most {limit} tokens, got {options.context_length}; lower --context"
        )
    return options.context_length


def _read_through(corpus: Corpus) -> list[str]:
    """Read every document once: unreadable lines show before a model runs; return the label names."""
    labels: dict[str, None] = {}
    for document in corpus:
        labels |= dict.fromkeys(document.labels)
    return list(labels)


def _refuse_changed(corpus: Corpus, writer: TraceWriter) -> None:
    before = writer.manifest.get("corpus")
    if before is not None and before["digest"] != corpus.digest:
        raise CorpusError(
            f"{corpus.source}: its documents are not those that {writer.run} was begun with; "
            "choose another folder with -o"
        )


def _document_batches(corpus: Corpus, labels: list[str]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    taken = {"id", "text"} & set(labels)
    if taken:
        raise CorpusError(f"{corpus.source}: a label column cannot be called {' or '.join(sorted(taken))}; rename it")
    schema = pa.schema([(name, pa.large_string()) for name in ("id", "text", *labels)])

    def batches() -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, str | None]] = []
        for document in corpus:
            rows.append({"id": document.id, "text": document.text, **document.labels})
            if len(rows) == DOCUMENTS_AT_ONCE:
                yield pa.RecordBatch.from_pylist(rows, schema=schema)
                rows = []
        if rows:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    return schema, batches()


def _windows(run: Path, checkpoint: Checkpoint, length: int) -> Iterator[Window]:
    """Windows of the stored documents, read through a memory map a batch at a time."""
    first = 0
    with pa.memory_map(str(run / "trace" / "documents.arrow")) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            texts = reader.get_batch(number).column("text").to_pylist()
            yield from cut_windows(texts, checkpoint.tokenizer, length=length, first_document=first)
            first += len(texts)


def _trace_group(
    model: PreTrainedModel,
    recorder: Recorder,
    windows: list[Window],
    first_sequence: int,
    batch_tokens: int,
    clock: "_Clock",
) -> Shard:
    """Run the windows of one shard, batched by length, and put their routing back into reading order."""
    counts = np.array([window.num_recorded for window in windows])
    starts = counts.cumsum() - counts
    specs = [point.spec for point in recorder.points]
    experts = [np.full((counts.sum(), spec.top_k), NO_EXPERT, np.int16) for spec in specs]
    weights = [np.zeros((counts.sum(), spec.top_k), np.float16) for spec in specs]
    backbone = _without_head(model, recorder)
    first, finished = windows[0].document, 0
    for batch in plan_batches(windows, tokens=batch_tokens):
        ids, mask = _pad([windows[i] for i in batch])
        with torch.inference_mode():
            backbone(
                input_ids=ids.to(model.device, non_blocking=True),
                attention_mask=mask.to(model.device, non_blocking=True),
                use_cache=False,
            )
        rows = np.concatenate([starts[i] + np.arange(counts[i]) for i in batch])
        kept = torch.from_numpy(
            np.concatenate(
                [place * ids.shape[1] + windows[i].opening + np.arange(counts[i]) for place, i in enumerate(batch)]
            )
        ).to(model.device)
        for layer, (chosen, gate) in enumerate(recorder.take_tensors()):
            experts[layer][rows] = chosen[kept.to(chosen.device)].cpu().numpy()
            weights[layer][rows] = gate[kept.to(gate.device)].half().cpu().numpy()
        finished += len(batch)
        clock.count(len(rows), first + round(finished / len(windows) * (windows[-1].document + 1 - first)))
    spans = np.concatenate([window.spans for window in windows])
    tokens = {
        "document": np.repeat([window.document for window in windows], counts),
        "sequence": np.repeat(first_sequence + np.arange(len(windows)), counts),
        "position": np.concatenate([window.opening + np.arange(window.num_recorded) for window in windows]),
        "token_id": np.concatenate([window.token_ids[window.opening :] for window in windows]),
        "char_start": spans[:, 0],
        "char_end": spans[:, 1],
        "phase": np.zeros(counts.sum(), np.uint8),
    }
    return Shard(tokens, [{"experts": e, "weights": w} for e, w in zip(experts, weights, strict=True)])


def _pad(windows: list[Window]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [batch, longest], padded on the right; what the padding holds is masked."""
    longest = max(len(window.token_ids) for window in windows)
    ids = torch.zeros(len(windows), longest, dtype=torch.int64)
    mask = torch.zeros(len(windows), longest, dtype=torch.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window.token_ids)] = torch.from_numpy(window.token_ids)
        mask[row, : len(window.token_ids)] = 1
    return ids, mask


def _without_head(model: Any, recorder: Recorder) -> nn.Module:
    """The model without its language-model head, whose logits a trace does not need, where it can be told apart."""
    backbone: nn.Module = getattr(model, getattr(model, "base_model_prefix", ""), model)
    inside = set(backbone.modules())
    return backbone if all(point.module in inside for point in recorder.points) else model


class _Clock:
    """Counts what is done and tells of it."""

    def __init__(self, documents: int, on_progress: Callable[[TraceProgress], None]) -> None:
        self.documents = documents
        self.tokens = 0
        self.started = time.perf_counter()
        self.on_progress = on_progress

    def count(self, tokens: int, documents_done: int) -> None:
        self.tokens += tokens
        rate = self.tokens / max(time.perf_counter() - self.started, 1e-9)
        self.on_progress(TraceProgress(documents_done, self.documents, self.tokens, rate))
