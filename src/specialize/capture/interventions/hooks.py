"""Experts of a model switched off while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, get_args
from weakref import WeakSet

import torch
from torch import Tensor, nn

from specialize.capture.calls import CallWatcher, unseen
from specialize.capture.interventions.edits import random_keys, read_context, renormalize, replace
from specialize.capture.interventions.selection import Selection, watch_selection
from specialize.capture.interventions.targets import Targets, resolve
from specialize.capture.points import Choice, RoutingPoint
from specialize.capture.routers import find_routers
from specialize.capture.verification import Inputs, run_once
from specialize.choices import InterventionMode, check_choice, check_whole
from specialize.errors import CaptureError

MODES: tuple[str, ...] = get_args(InterventionMode)
_UNDER: WeakSet[nn.Module] = WeakSet()  # modules whose routing is being changed


class Interventions:
    """Finds the routers of a model once, to switch off experts many times.

    Example::

        interventions = specialize.capture.Interventions(model)
        for expert in range(64):
            with interventions.applied([(3, expert)]):
                model(input_ids=ids)

    Args:
        model: a model whose routing can be found. It is run once on a few tokens, the verification pass.
        inputs: keywords or positional arguments of the model in the verification pass; default: a few token ids.

    Attributes:
        model: the model.
        points: its routing points.

    Raises:
        CaptureError: as `attach`.
    """

    def __init__(self, model: nn.Module, inputs: Inputs | None = None) -> None:
        self.model = model
        self.points = find_routers(model, inputs)
        self._inputs = inputs
        self._selecting: frozenset[int] | None = None

    @property
    def modes(self) -> dict[str, tuple[str, ...]]:
        """The modes that each router allows, by its name."""
        return {
            point.spec.name: tuple(mode for mode in MODES if self._allows(place, mode))
            for place, point in enumerate(self.points)
        }

    @contextmanager
    def applied(self, drop: Targets, *, mode: InterventionMode = "drop", seed: int = 0) -> Iterator["Intervention"]:
        """Switch off experts inside a ``with`` statement; it costs no pass of the model. As `intervene`."""
        check_choice("mode", mode, InterventionMode, error=CaptureError)
        check_whole("seed", seed, error=CaptureError)
        targets = resolve(self.points, drop)
        for place, experts in targets.items():
            self._check(place, experts, mode)
        intervention = Intervention(self.model, self.points, targets, mode, seed)
        with intervention.running():
            yield intervention
        intervention.check()

    def _check(self, place: int, experts: Sequence[int], mode: str) -> None:
        point = self.points[place]
        spec = point.spec
        if point.module in _UNDER:
            raise CaptureError(
                f"{spec.name}: experts of this router are switched off already; name all of them at once"
            )
        if mode in ("reroute", "replace") and spec.num_experts - len(experts) < spec.top_k:
            raise CaptureError(
                f"{spec.name}: mode {mode}: expected at least k = {spec.top_k} of the {spec.num_experts} experts to be "
                f"left, got {len(experts)} to switch off"
            )
        if not self._allows(place, mode):
            reason = (
                "its selection of experts is not a top-k of their scores that can be seen"
                if point.adapter.write is not None and mode == "reroute"
                else "its routing can be read but not changed"
            )
            raise CaptureError(
                f"{spec.name} (found by: {spec.found_by}): mode {mode} is unavailable: {reason}; "
                f"available here: {', '.join(self.modes[spec.name]) or 'none'}"
            )

    def _allows(self, place: int, mode: str) -> bool:
        if self.points[place].adapter.write is None:
            return False
        return mode != "reroute" or place in self._find_selecting()

    def _find_selecting(self) -> frozenset[int]:
        """Return the routers whose top-k can be seen, found in one pass: it selects the experts that are used."""
        if self._selecting is None:
            found = set()
            with unseen(self.model), ExitStack() as stack:
                for place, point in enumerate(self.points):

                    def compare(selection: Selection, choice: Choice, place: int = place) -> None:
                        if selection.explains(choice):
                            found.add(place)

                    def look_on(device: torch.device, point: RoutingPoint = point) -> Selection:
                        return Selection(point.spec)

                    for handle in watch_selection(self.model, point, look_on, compare):
                        stack.callback(handle.remove)
                run_once(self.model, self._inputs)
            self._selecting = frozenset(found)
        return self._selecting


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
        self._calls.on_end = lambda call, succeeded: self._calls.clear()
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
                _UNDER.add(router.point.module)
                stack.callback(_UNDER.discard, router.point.module)
                for handle in router.start(self._model):
                    stack.callback(handle.remove)
            yield

    def check(self) -> None:
        """Raise CaptureError if a switched-off expert was used in spite of it."""
        for router in self._routers:
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

    def _select(self, device: torch.device) -> Selection | None:
        return None if self._calls.paused else Selection(self.point.spec, self._mask(device))

    def _count_selection(self, selection: Selection, choice: Choice) -> None:
        if selection.before is None:
            raise CaptureError(
                f"{self.point.spec.name}: mode reroute: expected the router to select its experts, it did not"
            )
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


@contextmanager
def intervene(
    model: nn.Module,
    drop: Targets,
    *,
    mode: InterventionMode = "drop",
    seed: int = 0,
    inputs: Inputs | None = None,
) -> Iterator[Intervention]:
    """Switch off experts of a model inside a ``with`` statement, for any use of it.

    Example::

        with specialize.intervene(model, drop=[(3, 17), (5, 2)]) as intervention:
            output = model.generate(**batch, max_new_tokens=32)
        print(intervention.slots)  # how often each router had chosen them

    Modes, for a slot of an expert that is switched off:

    - ``drop``: its gate weight becomes 0; the other slots keep theirs.
    - ``renormalize``: likewise, and the token's other weights are scaled to the former sum; 0 where none remains.
    - ``reroute``: the expert is taken out of the top-k, so that the next best by the model's own selection score takes
      a slot, with the gate weight that the model gives it. The scores themselves do not change, nor does the choice of
      groups, in routers that choose groups of experts first.
    - ``replace``: another expert, drawn uniformly among those that the token has not chosen and that are not switched
      off, takes the slot with its weight. The draw depends on the seed, the router and the tokens of the sequence up to
      this one that the same call of the model reads, not on the rest of the batch nor on padding; in generation with a
      cache these are the new tokens alone. Without token ids it depends on the token's place in the call.

    A recorder that is attached records what the model computes with: the changed experts and weights, 0 for a dropped
    slot. Interventions at different routers can be nested. Afterwards the model is as before.

    Args:
        model: a model whose routing can be found. It is run once on a few tokens, the verification pass, and once more
            for ``reroute``.
        drop: pairs (layer, expert): the number of the layer as in a trace, or the name of its router where a layer has
            two; and the number of the expert.
        mode: what becomes of the slots of these experts.
        seed: of ``replace``.
        inputs: keywords or positional arguments of the model in the verification pass; default: a few token ids.

    Yields:
        The intervention, whose `slots` are counted.

    Raises:
        CaptureError: no routing was found, a layer or expert does not exist, or the layer does not allow the mode.
            On leaving: ``reroute`` found no other expert for a slot.
    """
    with Interventions(model, inputs).applied(drop, mode=mode, seed=seed) as intervention:
        yield intervention
