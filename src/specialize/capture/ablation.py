"""Windows of a corpus through a model with experts switched off: the loss of every token, condition by condition."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from specialize.capture.batches import check_token_ids, pad_windows, run_model
from specialize.capture.extras import check_separable, next_token_losses, watch_norms
from specialize.capture.interventions.switch_off import Interventions
from specialize.capture.interventions.targets import find_router
from specialize.capture.loading import Checkpoint
from specialize.capture.points import Choice
from specialize.capture.restart import Restart, restartable
from specialize.capture.verification import encoder_of, evaluating
from specialize.errors import CaptureError
from specialize.trace.ablation import Condition
from specialize.tracing.windows import Window, plan_batches

_TRIED = 2  # windows with which it is tried whether a batch can be restarted
OnBatch = Callable[[int], None]


@dataclass(frozen=True)
class Baseline:
    """What the model does with all its experts.

    Attributes:
        losses: loss of the next token of each token, float32 [tokens], nats; NaN without a next one.
        experts: experts of each token by name of the router, int16 [tokens, k].
    """

    losses: NDArray[np.float32]
    experts: dict[str, NDArray[np.int16]]


class AblationRunner:
    """Runs the same windows through a model again and again, with experts switched off.

    Batches depend on the lengths of the windows alone, so that a difference of losses is not one of rounding. Layers
    below the first changed one are not computed again where the model allows it, see `Restart`.

    Args:
        checkpoint: a model and its tokenizer.
        windows: in reading order.
        batch_tokens: padded tokens of a forward pass.

    Raises:
        CaptureError: the model has an encoder, no language-model head, or no routing that can be found, or the token
            ids are not its own.
    """

    def __init__(self, checkpoint: Checkpoint, windows: Sequence[Window], *, batch_tokens: int) -> None:
        self._model: Any = checkpoint.model
        title = type(self._model).__name__
        if encoder_of(self._model) is not None:
            raise CaptureError(f"{title}: expected a decoder, whose next tokens are predicted, got an encoder-decoder")
        if checkpoint.missing_head:
            raise CaptureError(
                f"{title}: expected a language-model head, the checkpoint lacks {checkpoint.missing_head[0]}"
            )
        check_token_ids(self._model, windows)
        self.interventions = Interventions(self._model)
        self._windows = windows
        self._batches = plan_batches(windows, tokens=batch_tokens)
        counts = np.array([window.num_recorded for window in windows])
        self._starts = np.append(0, counts.cumsum())

    @property
    def num_tokens(self) -> int:
        """Number of recorded tokens in the windows."""
        return int(self._starts[-1])

    @property
    def num_batches(self) -> int:
        """Number of forward passes for one condition."""
        return len(self._batches)

    @cached_property
    def can_restart(self) -> bool:
        """Whether layers below the first changed one need not be computed again; tried on a small batch."""
        few = self._batches[-1][-_TRIED:]  # the shortest windows
        with evaluating(self._model):
            batch = self._inputs([self._windows[index] for index in few]) | {"use_cache": False}
            return restartable(self._model, batch, self.interventions.points)

    def place_of(self, condition: Condition) -> int:
        """Return the place of the first router that a condition changes, in the order of the model's decisions."""
        return min(find_router(self.interventions.points, router) for router, _ in condition.experts)

    def time_batch(self) -> float:
        """Run one batch with all experts, and return the seconds that a token takes."""
        batch, rows, _ = next(self._iterate())
        started = time.monotonic()
        with evaluating(self._model):
            self._lose(batch)
        return (time.monotonic() - started) / len(rows)

    def run_baseline(self, on_batch: OnBatch) -> Baseline:
        """Run all windows with all experts.

        Raises:
            CaptureError: a loss is not finite, the model fails, or memory does not suffice.
        """
        losses = np.full(self.num_tokens, np.nan, np.float32)
        specs = [point.spec for point in self.interventions.points]
        experts = {spec.name: np.full((self.num_tokens, spec.top_k), -1, np.int16) for spec in specs}
        seen: dict[str, Tensor] = {}
        with ExitStack() as stack:
            stack.enter_context(evaluating(self._model))
            for point in self.interventions.points:

                def note(choice: Choice, name: str = point.spec.name) -> None:
                    seen[name] = choice.experts

                stack.callback(point.watch(note).remove)
            for batch, rows, kept in self._iterate():
                losses[rows] = self._lose(batch)[kept]
                for name, chosen in seen.items():
                    experts[name][rows] = chosen[torch.from_numpy(kept).to(chosen.device)].cpu().numpy()
                on_batch(len(rows))
        self._check_finite(losses, "with all experts")
        return Baseline(losses, experts)

    def measure_saliency(self, on_batch: OnBatch) -> pd.DataFrame:
        """Measure how much each expert adds where it is chosen.

        Returns:
            A row for each expert: router, expert, tokens that chose it, and the means over them of the norm of its
            output, ``output_norm``, and of the norm times the gate weight, ``saliency``.

        Raises:
            CaptureError: experts of the model cannot be run separately.
        """
        points = self.interventions.points
        for point in points:
            check_separable(point)
        sums = [np.zeros((point.spec.num_experts, 3)) for point in points]
        seen: list[dict[str, Tensor]] = [{} for _ in points]
        with ExitStack() as stack:
            stack.enter_context(evaluating(self._model))
            for point, found in zip(points, seen, strict=True):

                def note(choice: Choice, found: dict[str, Tensor] = found) -> None:
                    found |= {"experts": choice.experts, "weights": choice.weights}

                def receive(norms: Tensor, found: dict[str, Tensor] = found) -> None:
                    found["norms"] = norms

                stack.callback(point.watch(note).remove)
                stack.callback(watch_norms(point, receive, weighted=False).remove)
            for batch, rows, kept in self._iterate():
                self._run(self._inputs(batch))
                for total, found in zip(sums, seen, strict=True):
                    chosen, gates, norms = (
                        found[name].float().cpu().numpy()[kept].ravel() for name in ("experts", "weights", "norms")
                    )
                    used = chosen >= 0
                    numbers, size = chosen[used].astype(np.int64), len(total)
                    for column, values in enumerate((None, norms[used], (gates * norms)[used])):
                        total[:, column] += np.bincount(numbers, weights=values, minlength=size)
                on_batch(len(rows))
        frames = []
        for point, total in zip(points, sums, strict=True):
            tokens, means = total[:, 0], total[:, 1:] / np.where(total[:, :1] > 0, total[:, :1], np.nan)
            columns = {"tokens": tokens.astype(np.int64), "saliency": means[:, 1], "output_norm": means[:, 0]}
            frames.append(pd.DataFrame({"router": point.spec.name, "expert": np.arange(len(total))} | columns))
        return pd.concat(frames, ignore_index=True)

    def run_conditions(
        self, conditions: Sequence[Condition], baseline: NDArray[np.float32], on_batch: OnBatch
    ) -> NDArray[np.float16]:
        """Run all windows under some conditions.

        Args:
            conditions: their changes are held in memory together, and so are, for one batch, the outputs of the layers
                that they restart at: conditions at the same router cost less of both.
            baseline: losses with all experts, float32 [tokens].
            on_batch: called after each pass under a condition with its number of tokens.

        Returns:
            Rise of the loss, float16 [conditions, tokens], nats.

        Raises:
            CaptureError: a loss is not finite, the model fails, or memory does not suffice.
        """
        changes = np.full((len(conditions), self.num_tokens), np.nan, np.float16)
        routers = [self.interventions.points[self.place_of(each)].spec.name for each in conditions]
        restart = self._plan_restart(routers)
        with evaluating(self._model):
            for batch, rows, kept in self._iterate():
                if restart is not None:
                    with restart.storing(set(routers)):
                        self._run(self._inputs(batch))
                for number, (condition, router) in enumerate(zip(conditions, routers, strict=True)):
                    with ExitStack() as stack:
                        if restart is not None:
                            stack.enter_context(restart.at(router))
                        stack.enter_context(self._applied(condition))
                        losses = self._lose(batch)[kept]
                    changes[number, rows] = losses - baseline[rows]
                    on_batch(len(rows))
        for condition, found in zip(conditions, changes, strict=True):
            self._check_finite(found, f"condition {condition.key}")
        return changes

    def check(self, conditions: Sequence[Condition]) -> None:
        """Check that the model allows conditions, without running it on the windows.

        Raises:
            CaptureError: a router or expert does not exist, or does not allow the mode, or too few experts are left.
        """
        for condition in conditions:
            with self._applied(condition):
                pass

    def _applied(self, condition: Condition) -> AbstractContextManager[Any]:
        return self.interventions.applied(condition.experts, mode=condition.mode, seed=condition.seed)

    def _plan_restart(self, routers: Sequence[str]) -> Restart | None:
        """Return what restarts conditions at these routers; None where it would save no more than the storing pass."""
        if not self.can_restart:
            return None
        restart = Restart(self._model, self.interventions.points)
        return restart if sum(map(restart.share_below, routers)) > 1 else None

    def _iterate(self) -> Iterator[tuple[list[Window], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the windows of each batch, the rows of their recorded tokens, and their places in the padded batch."""
        for numbers in self._batches:
            batch = [self._windows[index] for index in numbers]
            longest = max(len(window.token_ids) for window in batch)
            rows = np.concatenate([np.arange(self._starts[index], self._starts[index + 1]) for index in numbers])
            places = [
                place * longest + np.arange(window.opening, len(window.token_ids)) for place, window in enumerate(batch)
            ]
            yield batch, rows, np.concatenate(places)

    def _inputs(self, batch: Sequence[Window]) -> dict[str, Tensor]:
        ids, mask = pad_windows(batch)
        return {name: each.to(self._model.device) for name, each in (("input_ids", ids), ("attention_mask", mask))}

    def _lose(self, batch: Sequence[Window]) -> NDArray[np.float32]:
        """Return the loss of the next token at each place of the padded batch, float32 [batch * length]."""
        inputs = self._inputs(batch)
        output = self._run(inputs)
        with torch.inference_mode():
            losses = next_token_losses(output.logits, inputs["input_ids"], inputs["attention_mask"])
        found: NDArray[np.float32] = losses.cpu().numpy()
        return found

    def _run(self, inputs: dict[str, Tensor]) -> Any:
        try:
            with torch.inference_mode():
                return run_model(self._model, inputs, kept="conditions")
        except RuntimeError as error:
            rows, columns = inputs["input_ids"].shape
            raise CaptureError(
                f"expected memory for a forward pass over {rows} windows of up to {columns} tokens, got too little: "
                "give fewer batch_tokens (--batch-tokens)"
            ) from error

    def _check_finite(self, values: NDArray[np.floating], what: str) -> None:
        """Raise CaptureError if a loss or change is not finite where there is a next token: in each window but last."""
        has_next = np.ones(self.num_tokens, dtype=bool)
        has_next[self._starts[1:] - 1] = False
        wrong = int((~np.isfinite(values) & has_next).sum())
        if wrong:
            raise CaptureError(
                f"{what}: expected a finite loss, got {wrong:,} tokens whose loss is not: load the model with another "
                "--dtype"
            )
