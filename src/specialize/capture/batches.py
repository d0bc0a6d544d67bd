"""Runs the windows of a shard through the model in batches, and returns their routing in reading order."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specialize.capture.extras import predictions
from specialize.capture.invalid import Invalid, find_invalid
from specialize.capture.recorder import Recorder
from specialize.capture.transfer import Transfer
from specialize.capture.verification import encoder_of
from specialize.errors import CaptureError, SpecializeError
from specialize.trace import NO_EXPERT, RouterSpec, Shard
from specialize.tracing.shards import token_columns
from specialize.tracing.windows import Window, plan_batches


class ShardTracer:
    """Runs windows through a model and collects what the recorder recorded.

    Args:
        model: a transformers model.
        recorder: attached to the model.
        with_predictions: record next-token predictions, too; otherwise the language-model head is not run.
    """

    def __init__(self, model: Any, recorder: Recorder, *, with_predictions: bool = False) -> None:
        self.recorder = recorder
        self.with_predictions = with_predictions
        self._model = model if with_predictions else without_head(model, recorder)
        self._device = model.device
        self._start = _decoder_start(model) if encoder_of(model) is not None else None
        self._transfer = Transfer()
        self._invalid: Invalid | None = None

    def trace(
        self,
        windows: Sequence[Window],
        *,
        first_sequence: int,
        batch_tokens: int,
        on_batch: Callable[[int, int], None] = lambda tokens, windows: None,
    ) -> Shard:
        """Run the windows of one shard.

        Args:
            windows: in reading order.
            first_sequence: running number of the first window.
            batch_tokens: padded tokens per forward pass.
            on_batch: called after each batch with its numbers of tokens and windows.

        Raises:
            CaptureError: the tokenizer does not belong to the model, or routing is not finite.
            RuntimeError: out of memory; the shard can be run again in smaller batches.
        """
        check_token_ids(self._model, windows)
        counts = np.array([window.num_recorded for window in windows])
        starts = counts.cumsum() - counts
        routing = [empty_columns(spec, counts.sum(), self.recorder.extras) for spec in self.recorder.specs]
        predicted = {
            "predicted_token_id": np.zeros(counts.sum(), np.int32),
            "next_token_loss": np.zeros(counts.sum(), np.float32),
        }
        places = [*routing, predicted] if self.with_predictions else routing
        try:
            for batch in plan_batches(windows, tokens=batch_tokens):
                if self._invalid is not None:  # only an earlier sequence is of interest
                    batch = [i for i in batch if i < self._invalid.sequence]
                if not batch:
                    continue
                rows = np.concatenate([starts[i] + np.arange(counts[i]) for i in batch])
                numbers = np.repeat(batch, counts[batch])
                self._run([windows[i] for i in batch], rows, numbers, places)
                on_batch(len(rows), len(batch))
            self._transfer.flush()
            if self._invalid is not None:
                raise self._invalid.error()
        except BaseException:
            self._transfer.drop()
            self.recorder.clear()
            self._invalid = None
            raise
        tokens = token_columns(windows, counts, first_sequence)
        return Shard(tokens | (predicted if self.with_predictions else {}), routing, {"batch_tokens": batch_tokens})

    def _run(
        self,
        batch: list[Window],
        rows: NDArray[np.int64],
        numbers: NDArray[np.int64],
        places: list[dict[str, NDArray[Any]]],
    ) -> None:
        """Run windows whose tokens have these rows and window numbers in the shard."""
        ids, mask = pad_windows(batch)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._start is not None:
            # the decoder reads the same text after its start token; a token's row is the step that reads the token
            inputs["decoder_input_ids"] = nn.functional.pad(ids, (1, 0), value=self._start)
            inputs["decoder_attention_mask"] = nn.functional.pad(mask, (1, 0), value=1)
        inputs = {name: values.to(self._device, non_blocking=True) for name, values in inputs.items()}
        with torch.inference_mode():
            output = run_model(self._model, inputs, kept="shards")
            recorded = self.recorder.take_columns()
            if self.with_predictions:
                side = "decoder_" if self._start is not None else ""
                read = (inputs[f"{side}input_ids"], inputs[f"{side}attention_mask"])
                names = ("predicted_token_id", "next_token_loss")
                recorded.append(dict(zip(names, predictions(output.logits, *read), strict=True)))
        del output
        shift = {"encoder": 0, "decoder": 0 if self._start is None else 1}
        kept = {stack: _kept(batch, ids.shape[1], shift=by) for stack, by in shift.items()}
        stacks = [spec.stack for spec in self.recorder.specs]
        stacks += ["decoder"] * (len(places) - len(stacks))

        def deliver(arrays: list[dict[str, NDArray[Any]]]) -> None:
            found = find_invalid(self.recorder.specs, arrays, lambda index: _locate(batch, index), numbers)
            if found is not None and (self._invalid is None or found.sequence < self._invalid.sequence):
                self._invalid = found
            for place, columns in zip(places, arrays, strict=True):
                for name, values in columns.items():
                    place[name][rows] = values

        self._transfer.send(recorded, [kept[stack] for stack in stacks], deliver)


def count_token_ids(model: Any) -> int:
    """Return for how many token ids a transformers model has an embedding."""
    return int(model.get_input_embeddings().num_embeddings)


def check_token_ids(model: Any, windows: Sequence[Window]) -> None:
    """Raise CaptureError if windows hold token ids for which a transformers model has no embedding."""
    known = count_token_ids(model)
    largest = max(int(window.token_ids.max()) for window in windows)
    if largest >= known:
        raise CaptureError(
            f"expected token ids below {known}, the number of embeddings, got {largest}; use the tokenizer of this "
            "model"
        )


def run_model(model: Any, inputs: dict[str, Tensor], *, kept: str) -> Any:
    """Run a forward pass; whatever the model's code raises, except for a lack of memory, is one line.

    Args:
        model: a transformers model.
        inputs: its keywords.
        kept: what was written before and is not lost.

    Raises:
        CaptureError: the model fails.
        RuntimeError: out of memory.
    """
    try:
        return model(**inputs, use_cache=False)
    except SpecializeError:  # of a hook
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        rows, columns = inputs["input_ids"].shape
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise CaptureError(
            f"{type(model).__name__}: the model failed in a forward pass over {rows} windows of up to {columns} tokens "
            f"({type(error).__name__}: {reason}); {kept} that were finished are kept: run the same command again when "
            "the model is corrected"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an exception says that memory does not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def empty_columns(spec: RouterSpec, tokens: int, extras: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return arrays for what a shard holds of a router, by column: experts, weights where there are any, and extras."""
    widths = {"weights": spec.top_k, "logits": spec.num_experts, "norms": spec.top_k}
    halves = {name: np.zeros((tokens, widths[name]), np.float16) for name in spec.held(["weights", *extras])}
    return {"experts": np.full((tokens, spec.top_k), NO_EXPERT, np.int16), **halves}


def pad_windows(windows: Sequence[Window], *, side: Literal["left", "right"] = "right") -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, both [batch, longest], padded on one side."""
    longest = max(len(window.token_ids) for window in windows)
    ids = torch.zeros(len(windows), longest, dtype=torch.int64)
    mask = torch.zeros(len(windows), longest, dtype=torch.int64)
    for row, window in enumerate(windows):
        length = len(window.token_ids)
        where = slice(0, length) if side == "right" else slice(longest - length, longest)
        ids[row, where] = torch.from_numpy(window.token_ids)
        mask[row, where] = 1
    return ids, mask


def _kept(batch: Sequence[Window], longest: int, *, shift: int) -> Tensor:
    """Return the rows of the recorded tokens in a padded batch whose windows begin after `shift` columns."""
    width = longest + shift
    return torch.from_numpy(
        np.concatenate(
            [row * width + shift + window.opening + np.arange(window.num_recorded) for row, window in enumerate(batch)]
        )
    )


def _locate(batch: Sequence[Window], index: int) -> str:
    """Return the document and position of a recorded token of a batch."""
    for window in batch:
        if index < window.num_recorded:
            return f"document {window.document} (numbered from 0), position {window.opening + index}"
        index -= window.num_recorded
    raise IndexError(index)


def _decoder_start(model: Any) -> int:
    for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        for settings in (getattr(model, "generation_config", None), model.config):
            value = getattr(settings, name, None)
            if isinstance(value, int):
                return value
    return 0


def without_head(model: Any, recorder: Recorder) -> nn.Module:
    """Return the model without its language-model head, if that is a separate part: a trace needs no logits of it."""
    backbone: nn.Module = getattr(model, getattr(model, "base_model_prefix", ""), model)
    inside = set(backbone.modules())
    return backbone if all(point.module in inside for point in recorder.points) else model
