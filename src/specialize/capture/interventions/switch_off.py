"""Experts of a model switched off while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import get_args

from torch import nn

from specialize.capture.calls import unseen
from specialize.capture.interventions.hooks import Intervention, is_changed
from specialize.capture.interventions.selection import Selection, watch_selection
from specialize.capture.interventions.targets import Targets, resolve
from specialize.capture.points import Choice, RoutingPoint
from specialize.capture.routers import find_routers
from specialize.capture.verification import Inputs, check_hookable, run_once
from specialize.choices import InterventionMode, check_choice, check_whole
from specialize.errors import CaptureError

MODES: tuple[str, ...] = get_args(InterventionMode)


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
        """The modes that each router allows, by its name; found in one short pass of the model."""
        return {
            point.spec.name: tuple(mode for mode in MODES if self._allows(place, mode))
            for place, point in enumerate(self.points)
        }

    @contextmanager
    def applied(self, drop: Targets, *, mode: InterventionMode = "drop", seed: int = 0) -> Iterator[Intervention]:
        """Switch off experts inside a ``with`` statement; it costs no pass of the model. As `intervene`."""
        check_choice("mode", mode, InterventionMode, error=CaptureError)
        check_whole("seed", seed, error=CaptureError)
        check_hookable(self.model)  # it may have been compiled since
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
        if is_changed(point):
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

                    def look_on(point: RoutingPoint = point) -> Selection:
                        return Selection(point.spec)

                    for handle in watch_selection(self.model, point, look_on, compare):
                        stack.callback(handle.remove)
                run_once(self.model, self._inputs)
            self._selecting = frozenset(found)
        return self._selecting


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
            On leaving: ``reroute`` found no other expert for a slot, or the model ran without the router.
    """
    with Interventions(model, inputs).applied(drop, mode=mode, seed=seed) as intervention:
        yield intervention
