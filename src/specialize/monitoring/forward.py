"""The forward pass over the sample, which leaves the model and its training as they were."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import nn

from specialize.capture.batches import check_token_ids, pad_windows, run_model, without_head
from specialize.capture.recorder import Recorder
from specialize.capture.routers import find_routers
from specialize.capture.verification import encoder_of, evaluating
from specialize.errors import CaptureError
from specialize.trace import RouterSpec
from specialize.tracing.windows import Window, plan_batches

_WRAPPERS = ("DistributedDataParallel", "DataParallel")


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DistributedDataParallel and torch.compile.

    Raises:
        CaptureError: its parameters are sharded over processes, or it is no transformers model.
    """
    while True:
        name = type(model).__name__
        sharded = name == "FullyShardedDataParallel" or any(
            type(each).__name__ == "DTensor" or hasattr(each, "ds_id") for each in model.parameters()
        )
        if sharded:
            raise CaptureError(
                f"{name}: expected a model that each process holds whole (one process, or DistributedDataParallel), "
                "got one whose parameters are sharded; trace its checkpoints instead"
            )
        inner = getattr(model, "_orig_mod", None) or (model.module if name in _WRAPPERS else None)
        if not isinstance(inner, nn.Module):
            break
        model = inner
    if not hasattr(getattr(model, "config", None), "to_diff_dict"):
        raise CaptureError(f"model: expected a transformers model, got {type(model).__name__}")
    return model


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a block without gradients and in evaluation mode; afterwards the model and all generators are as before.

    Restored are the mode of each module, its buffers, in which some routers count tokens in every forward pass, and the
    state of the random number generators of torch (on the devices of the model), NumPy and Python.
    """
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = list({parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"})
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 (that of other code)
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer
                if before is not None and not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextmanager
def keeping_threads() -> Iterator[None]:
    """Keep the number of torch's threads, by which sums are divided: numba sets it for all of OpenMP when it starts."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


class SampleRunner:
    """Runs the windows of a sample through a model in training, divided over the processes of a distributed training.

    Batches are the same whatever the number of processes, so that the routing is, too.

    Args:
        model: the model, possibly wrapped, see `unwrap`.
        windows: of the sample.
        control: ``random-router`` runs a random router beside each of the model's.
        seed: of the control.
        batch_tokens: padded tokens per forward pass.
        autocast: number format of automatic mixed precision; None for that of the surroundings.

    Attributes:
        model: the model without wrappers.
        specs: its routers, then the random ones.

    Raises:
        CaptureError: the routing of the model cannot be captured, it is an encoder-decoder, or its parameters are
            sharded.
    """

    def __init__(
        self,
        model: nn.Module,
        windows: Sequence[Window],
        *,
        control: str | None,
        seed: int,
        batch_tokens: int,
        autocast: str | None,
    ) -> None:
        self.model: Any = unwrap(model)
        if encoder_of(self.model) is not None:
            raise CaptureError(
                f"{type(self.model).__name__}: expected a model that reads one sequence, got an encoder-decoder"
            )
        check_token_ids(self.model, windows)
        with undisturbed(self.model):
            points = find_routers(self.model)
            self._recorder = Recorder(self.model, points, control=control, control_draws=1, seed=seed)
        self.specs: tuple[RouterSpec, ...] = self._recorder.specs
        self._windows = windows
        self._batches = plan_batches(windows, tokens=batch_tokens)
        self._autocast = autocast
        counts = np.array([window.num_recorded for window in windows])
        self._starts = counts.cumsum() - counts
        self._num_tokens = int(counts.sum())

    def run(self) -> list[NDArray[np.int16]]:
        """Return the experts that each router chooses for the tokens of the sample, int16 [tokens, k].

        Every process of a distributed training calls this, and all get the same.

        Raises:
            CaptureError: the model fails, or gate weights are not finite.
        """
        number, processes = (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)
        chosen = [np.zeros((self._num_tokens, spec.top_k), np.int16) for spec in self.specs]
        finite = True
        with undisturbed(self.model), self._precision():
            model = without_head(self.model, self._recorder)
            for batch in self._batches[number::processes]:
                finite &= self._run(model, batch, chosen)
        if processes > 1:
            chosen, finite = self._reduce(chosen, finite)
        if not finite:
            raise CaptureError(
                f"{type(self.model).__name__}: expected finite gate weights, got others: the training has diverged, or "
                "its weights overflow in this precision"
            )
        return chosen

    def _run(self, model: Any, batch: Sequence[int], chosen: Sequence[NDArray[np.int16]]) -> bool:
        """Run some windows and fill in their experts; return whether their gate weights are finite."""
        windows = [self._windows[place] for place in batch]
        ids, mask = pad_windows(windows)
        width = ids.shape[1]
        kept = np.concatenate(
            [row * width + each.opening + np.arange(each.num_recorded) for row, each in enumerate(windows)]
        )
        rows = np.concatenate([self._starts[place] + np.arange(self._windows[place].num_recorded) for place in batch])
        device = self.model.device
        with self._recorder:
            try:
                run_model(model, {"input_ids": ids.to(device), "attention_mask": mask.to(device)}, kept="snapshots")
                columns = self._recorder.take_columns()
            finally:
                self._recorder.clear()
        finite = True
        for experts, recorded in zip(chosen, columns, strict=True):
            own = torch.from_numpy(kept).to(recorded["experts"].device)
            experts[rows] = recorded["experts"][own].cpu().numpy()
            if "weights" in recorded:
                finite &= bool(torch.isfinite(recorded["weights"][own]).all())
        return finite

    def _reduce(self, chosen: Sequence[NDArray[np.int16]], finite: bool) -> tuple[list[NDArray[np.int16]], bool]:
        """Add up what the processes filled in, in one operation."""
        flat = np.concatenate([[int(not finite)], *(experts.ravel() for experts in chosen)]).astype(np.int32)
        total = _add_up(flat, self.model)
        ends = np.cumsum([experts.size for experts in chosen])[:-1]
        parts = np.split(total[1:].astype(np.int16), ends)
        return [part.reshape(each.shape) for part, each in zip(parts, chosen, strict=True)], total[0] == 0

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """Run in mixed precision without its cache, whose copies of weights would have no gradients in training."""
        kind = self.model.device.type
        dtype = getattr(torch, self._autocast) if self._autocast else None
        if dtype is None and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        enabled = dtype is not None
        with torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=enabled, cache_enabled=False):
            yield


def is_distributed() -> bool:
    """Return whether this is one of several processes of a distributed training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_true_anywhere(flag: bool, model: Any) -> bool:
    """Return whether a flag is true in any process of a distributed training; every process calls this."""
    return bool(_add_up(np.array([flag], np.int32), model)[0]) if is_distributed() else flag


def _add_up(numbers: NDArray[np.int32], model: Any) -> NDArray[np.int32]:
    """Add up numbers over all processes; NCCL needs them on the device of the model."""
    device = model.device if "nccl" in dist.get_backend() else torch.device("cpu")
    tensor = torch.from_numpy(numbers).to(device)
    dist.all_reduce(tensor)
    return np.asarray(tensor.cpu().numpy())


def is_first_process() -> bool:
    """Return whether this process writes and logs: the only one, or the first of a distributed training."""
    return not is_distributed() or dist.get_rank() == 0
