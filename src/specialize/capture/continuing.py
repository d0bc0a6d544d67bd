"""Lets a model continue the windows of a shard, and records how it routed them and what it generated."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from specialize.capture.batches import check_token_ids, empty_columns, is_out_of_memory, pad_windows
from specialize.capture.layer import LayerRouting
from specialize.capture.recorder import Recorder
from specialize.capture.verification import encoder_of
from specialize.errors import CaptureError, SpecializeError, first_line
from specialize.trace import Shard
from specialize.trace.token_text import TokenDecoder
from specialize.tracing.chat import ASSISTANT
from specialize.tracing.continuation import continue_window
from specialize.tracing.shards import token_columns
from specialize.tracing.windows import Window, plan_batches


def check_generating(model: Any) -> None:
    """Raise CaptureError unless a model can generate, and is no encoder-decoder."""
    if encoder_of(model) is not None or not getattr(model, "can_generate", lambda: False)():
        raise CaptureError(
            f"generate: expected a decoder with a language-model head, got {type(model).__name__}; leave it out"
        )


class ContinuationTracer:
    """Lets a model continue windows, greedily, and collects what the recorder recorded.

    The last token that is generated is not recorded: no layer has read it.

    Args:
        model: a transformers model with ``generate``.
        recorder: attached to the model.
        tokenizer: the model's.
    """

    def __init__(self, model: Any, recorder: Recorder, tokenizer: Any) -> None:
        self.recorder = recorder
        self._model = model
        self._decoder = TokenDecoder(tokenizer)
        own = model.generation_config
        ends = own.eos_token_id if own.eos_token_id is not None else getattr(tokenizer, "eos_token_id", None)
        self._ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        # what fills up a sequence that ended: the end again, which it cannot hold otherwise
        self._pad = self._ends[0] if self._ends else None

    def trace(
        self,
        windows: Sequence[Window],
        *,
        first_sequence: int,
        batch_tokens: int,
        on_batch: Callable[[int, int], None] = lambda tokens, windows: None,
    ) -> Shard:
        """Continue the windows of one shard, as `ShardTracer.trace` runs them.

        Raises:
            CaptureError: the tokenizer does not belong to the model, the model fails, or routing is not finite.
            RuntimeError: out of memory; the shard can be run again in smaller batches.
        """
        check_token_ids(self._model, windows)
        done: list[Window] = list(windows)
        columns: list[list[dict[str, NDArray[Any]]]] = [[] for _ in windows]  # of each window and router
        try:
            for batch in plan_batches(windows, tokens=batch_tokens):
                continued = self._continue([windows[i] for i in batch])
                for i, (window, routing) in zip(batch, continued, strict=True):
                    done[i], columns[i] = window, routing
                on_batch(sum(done[i].num_recorded for i in batch), len(batch))
        except BaseException:
            self.recorder.clear()
            raise
        counts = np.array([window.num_recorded for window in done])
        starts = counts.cumsum() - counts
        places = [empty_columns(spec, counts.sum(), self.recorder.extras) for spec in self.recorder.specs]
        for start, count, routing in zip(starts, counts, columns, strict=True):
            for place, found in zip(places, routing, strict=True):
                for name, values in place.items():
                    values[start : start + count] = found[name]
        planned = sum(window.num_planned for window in windows)
        facts = {"batch_tokens": batch_tokens, "planned_tokens": planned}
        return Shard(token_columns(done, counts, first_sequence), places, facts)

    def _continue(self, batch: list[Window]) -> list[tuple[Window, list[dict[str, NDArray[Any]]]]]:
        """Return each window with what was generated after it, and the columns of each router for its tokens."""
        sequences, layers = self._generate(batch)
        length = max(len(window.token_ids) for window in batch)
        continued = []
        for row, window in enumerate(batch):
            ids = sequences[row, length:]
            ended = np.flatnonzero(np.isin(ids, self._ends))
            ids = ids[: ended[0] if len(ended) else len(ids) - 1]  # all but the last one
            longer = continue_window(window, ids, self._decoder, role=ASSISTANT)
            wanted = slice(window.opening, window.opening + longer.num_recorded)
            routing = [_columns_of(layer, np.flatnonzero(layer.sequence == row)[wanted]) for layer in layers]
            continued.append((longer, routing))
        return continued

    def _generate(self, batch: list[Window]) -> tuple[NDArray[np.int64], list[LayerRouting]]:
        """Return the sequences, int64 [batch, length], and the routing of all tokens but the last ones."""
        from transformers import GenerationConfig

        settings = GenerationConfig(
            max_new_tokens=batch[0].room,
            do_sample=False,
            num_beams=1,
            eos_token_id=self._ends or None,
            pad_token_id=self._pad,
        )
        ids, mask = pad_windows(batch, side="left")
        device = self._model.device
        inputs = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        before, self._model.generation_config = self._model.generation_config, settings
        try:
            with torch.inference_mode():
                sequences = self._model.generate(**inputs, generation_config=settings)
            layers = self.recorder.take_generation(sequences, pad_token_id=self._pad)
        except SpecializeError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise CaptureError(
                f"{type(self._model).__name__}: the model failed in generating after {len(batch)} windows of up to "
                f"{ids.shape[1]} tokens ({type(error).__name__}: {first_line(error):.200}); shards that were finished "
                "are kept: run the same command again when the model is corrected"
            ) from error
        finally:
            self._model.generation_config = before
        return sequences.cpu().numpy(), layers


def _columns_of(layer: LayerRouting, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the columns of some tokens in the types of a shard, which holds many of them."""
    halves = {"weights": layer.weights, "logits": layer.logits, "norms": layer.norms}
    return {"experts": layer.experts[rows].astype(np.int16)} | {
        name: values[rows].astype(np.float16) for name, values in halves.items() if values is not None
    }
