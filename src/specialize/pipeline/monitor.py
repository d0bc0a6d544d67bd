"""The specialization of a model while it trains: the stage that watches a training."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from specialize.choices import Control
from specialize.errors import CaptureError
from specialize.events import SILENT, Reporter
from specialize.extras import require_extra
from specialize.pipeline.stage import known_annotations
from specialize.remote.places import at_addresses, is_run

if TYPE_CHECKING:
    import pandas as pd

    from specialize.corpus import Corpus
    from specialize.monitoring.monitor import Monitor
    from specialize.monitoring.sample import Sample
    from specialize.trace import RoutingTrace

    Source: TypeAlias = (
        str | PathLike[str] | Sequence[Any] | pd.DataFrame | Iterable[Mapping[str, Any]] | Corpus | RoutingTrace
    )

EVERY = 100
SAMPLE_TOKENS = 16_384


@at_addresses(run="written")
def monitor(
    model: Any,
    sample: "Source",
    run: str | PathLike[str],
    *,
    every: int | None = EVERY,
    steps: Collection[int] = (),
    labels: Sequence[str] | None = None,
    tokenizer: Any = None,
    text_column: str | None = None,
    sample_tokens: int | None = SAMPLE_TOKENS,
    permutations: int = 20,
    num_blocks: int = 50,
    seed: int = 0,
    control: Control | None = None,
    batch_tokens: int = 8192,
    autocast: str | None = None,
    first_step: int = 0,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> "Monitor":
    """Watch how the experts of a model specialize while it trains, in a training loop of your own.

    Example::

        with specialize.monitor(model, "runs/held-out", "runs/training") as monitor:
            for batch in loader:
                model(**batch).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                monitor.step()  # after each optimizer step

    A snapshot is a forward pass over a fixed sample with labels, in evaluation mode and without gradients, which leaves
    the training as it was: the same losses, to the last bit. It measures the load of each expert, dead experts, U of
    each label set with its null, and router saturation against the snapshot before; and, when training has ended,
    against the end. The first snapshot is taken when the block begins, the last when it ends. `Monitor.step` returns a
    few numbers for a logger, as many for a model of a hundred layers as for one of two.

    The run folder is written snapshot by snapshot, so that a training that is killed keeps them. One that is resumed
    from a checkpoint names its step (`first_step`); what was recorded after it is dropped. `specialize report` and
    `specialize figures` draw the curves. The folder also is a run of the sample, with the routing of the first snapshot
    and, once training has ended, of the last.

    With DistributedDataParallel, every process makes a monitor and calls it; the sample is divided over them, and the
    numbers are those of one process. Models whose parameters are sharded over processes (FSDP, ZeRO-3) raise an error.

    Args:
        model: a transformers model, possibly inside DistributedDataParallel or torch.compile.
        sample: held-out text with labels. A run folder or its open trace, whose token ids are read again, with its
            annotations and label columns; or texts with label columns, in any form that `trace_corpus` takes.
        run: the run folder to write.
        every: optimizer steps from one snapshot to the next; None for `steps` alone.
        steps: further steps at which a snapshot is taken, such as a few early ones.
        labels: names of the label sets to measure; default: all that the sample has.
        tokenizer: the model's fast tokenizer; needed for texts, and for a run whose sequences begin with tokens that it
            adds.
        text_column: column of the text; default: ``text``, else the only string column.
        sample_tokens: largest number of tokens of the sample: the first ones of documents at even distances, at least
            64 of each. None for whole windows of all documents, as routers of whole sequences need.
        permutations: permutations under the null.
        num_blocks: maximum number of document blocks for the jackknife.
        seed: of the null, and of the random routers.
        control: ``random-router`` measures a random router beside each of the model's.
        batch_tokens: padded tokens per forward pass.
        autocast: number format of automatic mixed precision, ``bfloat16`` or ``float16``; default: that of the place
            where the monitor is called.
        first_step: optimizer steps that the training has done, those of the checkpoint from which it is resumed.
        overwrite: start again in a folder with the snapshots of an earlier training.
        reporter: receives messages.

    Returns:
        The monitor, a context manager; without ``with``, call its `start` and `finish`.

    Raises:
        CaptureError: the routing of the model cannot be captured, its parameters are sharded over processes, or texts
            have no tokenizer.
        AnnotationError: the sample has no such labels, or none.
        CorpusError: the texts cannot be read.
        TraceError: the sample has no token ids, or the run folder holds something else, or snapshots of another sample.
        MeasurementError: a number is out of range, or the folder has snapshots and the training starts at step 0.
    """
    require_extra("capture")
    from specialize.monitoring.forward import unwrap
    from specialize.monitoring.monitor import Monitor, MonitorOptions

    options = MonitorOptions(
        every=every,
        steps=tuple(steps),
        permutations=permutations,
        num_blocks=num_blocks,
        seed=seed,
        control=control,
        batch_tokens=batch_tokens,
        autocast=autocast,
    )
    taken = open_sample(
        unwrap(model),
        sample,
        labels=labels,
        tokenizer=tokenizer,
        text_column=text_column,
        sample_tokens=sample_tokens,
        reporter=reporter,
    )
    return Monitor(model, taken, Path(run), options, first_step=first_step, overwrite=overwrite, reporter=reporter)


def open_sample(
    model: Any,
    sample: "Source",
    *,
    labels: Sequence[str] | None = None,
    tokenizer: Any = None,
    text_column: str | None = None,
    sample_tokens: int | None = SAMPLE_TOKENS,
    reporter: Reporter = SILENT,
) -> "Sample":
    """Read the sample that is measured during training; arguments and errors as those of `monitor`.

    Args:
        model: a transformers model, without wrappers.
        sample: a run folder, its open trace, or texts with label columns.
        labels: names of the label sets.
        tokenizer: the model's.
        text_column: column of the text.
        sample_tokens: largest number of tokens.
        reporter: receives what a user should know about the sample.
    """
    from specialize.choices import check_positive
    from specialize.errors import MeasurementError
    from specialize.monitoring.sample import sample_run, sample_texts
    from specialize.trace import RoutingTrace
    from specialize.tracing.checkpoints import check_tokenizer, load_tokenizer

    if sample_tokens is not None:
        check_positive("sample_tokens", sample_tokens, error=MeasurementError)
    if isinstance(tokenizer, str | PathLike):
        tokenizer = load_tokenizer(tokenizer)
    elif tokenizer is not None:
        check_tokenizer(tokenizer)
    how: dict[str, Any] = {
        "longest": getattr(model.config.get_text_config(), "max_position_embeddings", None),
        "labels": labels,
        "tokens": sample_tokens,
    }
    source = open_source(sample, text_column=text_column)
    if isinstance(source, RoutingTrace):
        known = known_annotations(source, reporter=reporter)
        embeddings = model.get_input_embeddings().num_embeddings
        taken = sample_run(source, known, tokenizer=tokenizer, num_ids=embeddings, **how)
    elif tokenizer is None:
        raise CaptureError("tokenizer: expected the model's tokenizer, which a sample of texts needs, got none")
    else:
        taken = sample_texts(source, tokenizer, **how)
    for warning in taken.warnings:
        reporter.say(f"note: {warning}")
    names = ", ".join(each.name for each in taken.annotations)
    reporter.say(
        f"sample: {taken.num_tokens:,} tokens in {len(taken.documents):,} documents of {taken.source}; {names}"
    )
    return taken


def open_source(sample: "Source", *, text_column: str | None = None) -> "RoutingTrace | Corpus":
    """Open what a sample is taken from, a run or texts, without a model.

    Args:
        sample: a run folder, its open trace, or texts with label columns.
        text_column: column of the text.

    Raises:
        TraceError: the run has no complete trace.
        CorpusError: the texts cannot be read.
    """
    from specialize.corpus import open_corpus
    from specialize.trace import RoutingTrace, open_trace

    if isinstance(sample, RoutingTrace):
        return sample
    if is_run(sample):
        return open_trace(sample)
    return open_corpus(sample, text_column=text_column)
