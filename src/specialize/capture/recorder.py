"""Hooks on the experts, and what they saw."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specialize.capture.routers import RoutingPoint, find_routers, read_choice
from specialize.errors import CaptureError
from specialize.trace import RouterSpec


@dataclass(frozen=True)
class LayerRouting:
    """What one router decided for every token, since the recorder was last emptied.

    Attributes:
        spec: the router.
        experts: int64 [tokens, k] in the model's rank order; tokens in row-major [batch, position] order, one
            forward pass after the other, padding included.
        weights: float32 [tokens, k] gate weights.
    """

    spec: RouterSpec
    experts: NDArray[np.int64]
    weights: NDArray[np.float32]

    @property
    def name(self) -> str:
        """Path of the hooked module in the model."""
        return self.spec.name

    @property
    def layer(self) -> int:
        """Number of the layer, as the model numbers it."""
        return self.spec.layer

    @property
    def num_experts(self) -> int:
        """Number of experts to choose from."""
        return self.spec.num_experts


class Recorder:
    """Records the routing of every forward pass between `start` and `stop`; `attach` makes one.

    Attributes:
        points: where the model routes.
    """

    def __init__(self, points: tuple[RoutingPoint, ...]) -> None:
        self.points = points
        self._seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in points]
        self._handles: list[Any] = []

    def start(self) -> "Recorder":
        """Put the hooks in."""
        if not self._handles:
            self._handles = [
                point.module.register_forward_pre_hook(self._hook(index), with_kwargs=True)
                for index, point in enumerate(self.points)
            ]
        return self

    def stop(self) -> None:
        """Take the hooks out; what was recorded stays until it is taken."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    __enter__ = start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def take(self) -> list[LayerRouting]:
        """Return what was recorded, in layer order, and empty the recorder.

        Raises:
            CaptureError: no forward pass ran, or some layers saw fewer tokens than others.
        """
        taken = self.take_tensors()
        return [
            LayerRouting(point.spec, experts.cpu().numpy().astype(np.int64), weights.float().cpu().numpy())
            for point, (experts, weights) in zip(self.points, taken, strict=True)
        ]

    def take_tensors(self) -> list[tuple[Tensor, Tensor]]:
        """As `take`, but leaves ids (int16 [tokens, k]) and weights ([tokens, k]) on the device they were made on."""
        counts = [sum(len(experts) for experts, _ in calls) for calls in self._seen]
        if len(set(counts)) != 1 or counts[0] == 0:
            self.clear()
            raise CaptureError(
                "nothing was recorded: run the model between attach and take"
                if not any(counts)
                else f"the layers routed different numbers of tokens ({min(counts)} to {max(counts)}): was a forward "
                "pass interrupted, or is the model compiled? Attach before torch.compile"
            )
        taken = [
            (torch.cat([experts for experts, _ in calls]), torch.cat([weights for _, weights in calls]))
            for calls in self._seen
        ]
        self.clear()
        return taken

    def clear(self) -> None:
        """Forget what was recorded."""
        for calls in self._seen:
            calls.clear()

    def _hook(self, index: int) -> Callable[..., None]:
        calls = self._seen[index]

        def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            choice = read_choice(arguments, keywords)
            if choice is not None:
                # copies: the model may reuse or rescale its tensors in place
                experts = choice.experts.detach().to(torch.int16, copy=True)
                calls.append((experts, choice.weights.detach().clone()))

        return hook


def attach(model: nn.Module) -> Recorder:
    """Attach a recorder to a model with Mixture-of-Experts layers.

    Example::

        with specialize.attach(model) as recorder:
            model(input_ids=ids, attention_mask=mask)
        for layer in recorder.take():
            print(layer.name, layer.experts.shape)

    Args:
        model: any module whose experts are called with hidden states, ids and weights; it is run once on a
            few tokens to prove that its routing is seen.

    Raises:
        CaptureError: no routing was found, or not in all of the layers that look routed.
    """
    return Recorder(find_routers(model)).start()
