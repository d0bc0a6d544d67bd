"""A user's own forward loop into a run folder."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from os import PathLike
from typing import TYPE_CHECKING, Any

from specialize.choices import CONTROL_DRAWS, Control
from specialize.events import SILENT, Reporter
from specialize.remote.places import local_place

if TYPE_CHECKING:
    from specialize.capture.passes import PassWriter


@contextmanager
def record(
    model: Any,
    tokenizer: Any,
    run: str | PathLike[str],
    *,
    control: Control | None = None,
    control_draws: int = CONTROL_DRAWS,
    seed: int = 0,
    extras: Collection[str] = (),
    reporter: Reporter = SILENT,
) -> "Iterator[PassWriter]":
    """Record the forward passes inside a ``with`` block, and write a run folder when it ends.

    Example::

        with specialize.record(model, tokenizer, "runs/mine"):
            for batch in loader:
                model(**batch)
        specialize.syntax("runs/mine")

    Each sequence (row) of each pass becomes a document with the id ``0``, ``1`` and so on. Its text is what the
    tokenizer decodes. As in `trace_corpus`, special tokens that open a sequence are run but not recorded; so are those
    that close it (beginning and end of a sequence, classification, separator), and padding, which the attention mask
    hides. Sequences without other text are left out. Tokens have character positions, as the tokenizer gives them where
    the text encodes to the same ids, else by decoding token by token. Those of a token that cannot be placed are
    unknown (-1), and the reporter receives the number of these tokens.

    The model is run as the user runs it, in training or evaluation mode. A pass that raises an exception is left out if
    the block handles it. Shards are written during the block, so that memory does not grow. If the block raises an
    exception, no run folder is left behind.

    Args:
        model: a transformers model with one input sequence, ``input_ids`` [batch, length] and, if there is padding,
            ``attention_mask`` [batch, length]; it is run once more, on a few tokens, to verify its routing.
        tokenizer: its fast tokenizer, or the folder or hub id of one.
        run: the run folder, which must not exist or be empty.
        control: ``random-router`` records random routers beside each of the model's.
        control_draws: how many of them.
        seed: of the control.
        extras: what to record besides experts and gate weights: any of logits, norms.
        reporter: receives messages about what was recorded.

    Yields:
        The writer, whose attributes ``num_documents`` and ``num_tokens`` count what was recorded.

    Raises:
        CaptureError: the routing of the model cannot be captured, the model is an encoder-decoder, the tokenizer is not
            a fast one, nothing was recorded, gate weights are not finite, or a pass had a key-value cache (as in
            ``generate``) or no ``input_ids``.
        OutputError: the run folder is not empty or cannot be written.
    """
    from specialize.trace.folders import whole_folder

    with local_place(run, "written", reporter=reporter) as place, whole_folder(place) as folder:
        from specialize.capture.given import make_checkpoint
        from specialize.capture.passes import SOURCE, PassWriter
        from specialize.capture.recorder import Recorder
        from specialize.capture.routers import find_routers
        from specialize.manifest import versions
        from specialize.trace import TraceWriter
        from specialize.tracing.options import control_settings

        checkpoint = make_checkpoint(model, tokenizer)
        points = find_routers(model)
        recorder = Recorder(model, points, control=control, control_draws=control_draws, seed=seed, extras=extras)
        settings = {
            "model": checkpoint.name,
            "config_digest": checkpoint.facts["config_digest"],
            "dtype": checkpoint.facts["dtype"],
            "corpus": SOURCE,
            **control_settings(control, control_draws, seed),
        }
        provenance = {"command": None, "versions": versions(), "model": checkpoint.facts}
        with TraceWriter(folder, settings=settings, provenance=provenance) as writer:
            passes = PassWriter(model, recorder, checkpoint.tokenizer, writer)
            with passes:
                yield passes
            passes.finish()
    reporter.say(f"{run}: recorded {passes.num_tokens:,} tokens in {passes.num_documents:,} documents")
    if passes.unplaced_documents:
        reporter.say(
            f"note: {passes.unplaced_tokens:,} tokens in {passes.unplaced_documents:,} of {passes.num_documents:,} "
            "documents have unknown character positions: the tokenizer decodes them in more than one way"
        )
