"""Hooks that change the routing of a model while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from specialize.capture.calls import Call, CallWatcher
from specialize.capture.interventions.edits import random_keys, read_context, renormalize, replace
from specialize.capture.interventions.selection import Selection, watch_selection
from specialize.capture.points import Choice, RoutingPoint
from specialize.errors import CaptureError

_CHANGED: WeakSet[nn.Module] = WeakSet()


def is_changed(point: RoutingPoint) -> bool:
    """Return whether the decisions of a routing point are being changed."""
    return point.module in _CHANGED


class Intervention:
    """Experts that are switched off, and how often they would have been used.

    Args:
        model: the model.
        points: its routing points.
        targets: the experts to switch off, by the position of their router.
        mode: what becomes of their slots.
        seed: of mode replace.

    Attributes:
        mode: as given.
    """

    def __init__(
        self,
        model: nn.Module,
        points: Sequence[RoutingPoint],
        targets: dict[int, tuple[int, ...]],
        mode: str,
        seed: int,
    ) -> None:
        self.mode = mode
        self._model = model
        self._calls = CallWatcher(model)
        self._calls.on_end = self._end
        self._ran = False
        self._routers = [
            _Router(points[place], experts, place, mode, seed, self._calls) for place, experts in targets.items()
        ]

    @property
    def slots(self) -> dict[str, int]:
        """How many slots went to the switched-off experts of each router so far, or would have, padding included."""
        return {router.point.spec.name: int(router.count) for router in self._routers}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Change the routing inside a ``with`` statement."""
        with ExitStack() as stack:
            for handle in self._calls.start():
                stack.callback(handle.remove)
            for router in self._routers:
                _CHANGED.add(router.point.module)
                stack.callback(_CHANGED.discard, router.point.module)
                for handle in router.start(self._model):
                    stack.callback(handle.remove)
            yield

    def _end(self, call: Call, succeeded: bool) -> None:
        self._ran |= succeeded
        self._calls.clear()

    def check(self) -> None:
        """Raise CaptureError if a switched-off expert was used in spite of it, or its router was not."""
        for router in self._routers:
            if self._ran and not router.decided:
                raise CaptureError(
                    f"{router.point.spec.name}: expected a decision of this router, the model ran without one; is its "
                    "layer below the one that a batch was restarted at?"
                )
            if left := int(router.left):
                raise CaptureError(
                    f"{router.point.spec.name}: mode {self.mode}: expected another expert for each slot, found none "
                    f"for {left} slots: the groups that the router chose have too few experts left; switch off fewer, "
                    "or use another mode"
                )


class _Router:
    """The changes at one router, and their counts."""

    def __init__(
        self, point: RoutingPoint, experts: Sequence[int], place: int, mode: str, seed: int, calls: CallWatcher
    ) -> None:
        self.point = point
        self.count: Tensor | int = 0
        self.left: Tensor | int = 0
        self.decided = False
        self._experts = list(experts)
        self._place = place
        self._mode = mode
        self._seed = seed
        self._calls = calls
        self._masks: dict[torch.device, Tensor] = {}

    def start(self, model: nn.Module) -> list[Any]:
        """Attach the hooks and return them; they come before those of recorders, which record the changed routing."""
        if self._mode == "reroute":
            return watch_selection(model, self.point, self._select, self._count_selection)
        if self.point.adapter.when == "before":
            return [self.point.module.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True)]
        return [self.point.module.register_forward_hook(self._after, with_kwargs=True, prepend=True)]

    def _before(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return self._after(module, arguments, keywords, None)

    def _after(self, module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Any:
        adapter = self.point.adapter
        choice = None if self._calls.paused else adapter.read(module, arguments, keywords, output)
        if choice is None or adapter.write is None:
            return None
        return adapter.write(module, arguments, keywords, output, *self._change(choice))

    def _change(self, choice: Choice) -> tuple[Tensor, Tensor]:
        """Return other experts and weights, [tokens, k]."""
        self.decided = True
        dropped = self._mask(choice.experts.device)
        hit = dropped[choice.experts.long()]  # -1, no expert, is the last
        self.count = self.count + hit.detach().sum()
        if self._mode == "drop":
            return choice.experts, choice.weights.masked_fill(hit, 0)
        if self._mode == "renormalize":
            return choice.experts, renormalize(choice.weights, hit)
        keys = random_keys(self._context(choice), self.point.spec.num_experts, self._seed, self._place)
        return replace(choice, hit, dropped[:-1], keys), choice.weights

    def _context(self, choice: Choice) -> Tensor:
        tokens, device = len(choice.experts), choice.experts.device
        call = self._calls.current
        read = call.inputs.get(self.point.spec.stack) if call is not None else None
        if read is None or read.token_ids.numel() != tokens:
            return torch.arange(tokens, device=device)
        return read_context(read.token_ids, read.mask).to(device)

    def _select(self) -> Selection | None:
        return None if self._calls.paused else Selection(self.point.spec, self._mask)

    def _count_selection(self, selection: Selection, choice: Choice) -> None:
        if selection.before is None:
            raise CaptureError(
                f"{self.point.spec.name}: mode reroute: expected the router to select its experts, it did not"
            )
        self.decided = True
        dropped = self._mask(choice.experts.device)
        each = len(choice.experts) // len(selection.before)  # tokens for which one decision is made
        self.count = self.count + dropped[selection.before].sum() * each
        self.left = self.left + dropped[choice.experts.long()].sum() + selection.exhausted * each

    def _mask(self, device: torch.device) -> Tensor:
        """Return which experts are switched off, bool [E + 1], False for no expert."""
        if device not in self._masks:
            with torch.inference_mode(False):  # it may serve in a pass with gradients, too
                mask = torch.zeros(self.point.spec.num_experts + 1, dtype=torch.bool)
                mask[self._experts] = True
                self._masks[device] = mask.to(device)
        return self._masks[device]
