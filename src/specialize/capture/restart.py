"""Layers whose result is known are not computed again: a batch is restarted at a later layer."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from specialize.capture.calls import unseen
from specialize.capture.interventions.targets import Router, find_router
from specialize.capture.points import RoutingPoint, first_tensor
from specialize.capture.verification import encoder_of, paths_above
from specialize.errors import CaptureError

_READ = ("input_ids", "inputs_embeds")


class Restart:
    """Stores what the layers of a model return for a batch, to run the batch again from a later layer.

    Example::

        restart = Restart(model, interventions.points)
        with restart.storing([2, 3]):
            plain = model(**batch, use_cache=False)
        for layer in (2, 3):
            with restart.at(layer), interventions.applied([(layer, 0)]):
                changed = model(**batch, use_cache=False)  # computes the embeddings, layers 2 or 3 and up, and the head

    What is held is the output of the layer below each requested one, for the latest batch. Of the output of a restarted
    pass only the logits are meaningful. `restartable` checks whether a model can be restarted at all.

    Args:
        model: a decoder whose layers are in a list and receive everything from the layer before them.
        points: its routing points.

    Raises:
        CaptureError: the model has an encoder, or its routing points are not in one list of layers.
    """

    def __init__(self, model: nn.Module, points: Sequence[RoutingPoint]) -> None:
        if encoder_of(model) is not None:
            raise CaptureError(f"{type(model).__name__}: expected a decoder to restart, got an encoder and a decoder")
        self._model = model
        self._points = points
        self._layers, self._starts = _find_layers(model, points)
        self._inputs: Tensor | None = None
        self._stored: dict[int, Any] = {}

    @contextmanager
    def storing(self, routers: Collection[Router] | None = None) -> Iterator[None]:
        """Store what is needed to restart a batch, which is run once inside the ``with`` statement.

        Args:
            routers: layers, or names of routers, to restart at; default: all.

        Raises:
            CaptureError: there is no such router. When the model runs: it was given a key-value cache.
        """
        places = range(len(self._points)) if routers is None else [find_router(self._points, each) for each in routers]
        needed = {self._starts[place] - 1 for place in places} - {-1}
        self._stored, self._inputs = {}, None
        with ExitStack() as stack:
            first = self._layers[0].register_forward_pre_hook(self._note_inputs, with_kwargs=True)
            stack.callback(first.remove)
            for index in needed:

                def store(module: nn.Module, arguments: Any, output: Any, index: int = index) -> None:
                    self._stored[index] = _copy(output)

                stack.callback(self._layers[index].register_forward_hook(store).remove)
            yield

    @contextmanager
    def at(self, router: Router) -> Iterator[None]:
        """Let the stored batch start at the layer of a router inside the ``with`` statement.

        Args:
            router: number of its layer, or its name.

        Raises:
            CaptureError: there is no such router, or the layer below was not stored. When the model runs: the batch is
                not the stored one.
        """
        start = self._starts[find_router(self._points, router)]
        if start == 0:
            yield
            return
        if start - 1 not in self._stored:
            raise CaptureError(f"restart at {router!r}: expected a batch that was run while storing for it, got none")
        kept = [(layer, vars(layer).get("forward")) for layer in self._layers[:start]]
        for index, (layer, _) in enumerate(kept):
            layer.forward = self._instead(start - 1, check=index == 0)
        try:
            yield
        finally:
            for layer, forward in kept:
                if forward is None:
                    del layer.forward
                else:
                    layer.forward = forward

    def share_below(self, router: Router) -> float:
        """Return the share of the model's layers that lie below a router's, which a restart does not compute."""
        return self._starts[find_router(self._points, router)] / len(self._layers)

    def clear(self) -> None:
        """Forget the batch."""
        self._stored, self._inputs = {}, None

    def _note_inputs(self, layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if keywords.get("past_key_values") is not None:
            raise CaptureError(
                f"{type(self._model).__name__}: expected a pass without a key-value cache to restart, got one; call "
                "the model with use_cache=False"
            )
        self._inputs = first_tensor(arguments, keywords).detach().clone()

    def _instead(self, index: int, *, check: bool) -> Any:
        def forward(*arguments: Any, **keywords: Any) -> Any:
            if check:
                given = first_tensor(arguments, keywords)
                if self._inputs is None or given.shape != self._inputs.shape or not torch.equal(given, self._inputs):
                    raise CaptureError("restart: expected the batch that was stored, got another one; store it first")
            return _copy(self._stored[index])  # the layers above may change it in place

        return forward


def restartable(model: nn.Module, batch: Mapping[str, Any], points: Sequence[RoutingPoint]) -> bool:
    """Return whether a model gives the same logits, to the bit, when a batch is restarted at any of its routers.

    Another batch is run in between, so that nothing that layers keep from one call to the next goes unnoticed.

    Args:
        model: the model, in evaluation mode.
        batch: keywords of the model, with ``use_cache`` off.
        points: its routing points.
    """
    with unseen(model), torch.no_grad():
        try:
            restart = Restart(model, points)
            with restart.storing():
                plain = _result(model(**batch))
            model(**{name: value.flip(1) if name in _READ else value for name, value in batch.items()})
            return all(_is_same(model, batch, restart, point, plain) for point in points)
        except Exception:  # whatever a model does with the layers' outputs, it cannot be restarted
            return False


def _is_same(model: nn.Module, batch: Mapping[str, Any], restart: Restart, point: RoutingPoint, plain: Tensor) -> bool:
    with restart.at(point.spec.name):
        return torch.equal(_result(model(**batch)), plain)


def _result(output: Any) -> Tensor:
    logits = getattr(output, "logits", None)
    result: Tensor = output[0] if logits is None else logits
    return result


def _find_layers(model: nn.Module, points: Sequence[RoutingPoint]) -> tuple[list[nn.Module], list[int]]:
    """Return the layers of a model, and the position among them of the layer of each routing point."""
    lists, starts = set(), []
    for point in points:
        above = [*paths_above(point.spec.name), point.spec.name]
        found = next((path for path in above if isinstance(model.get_submodule(path), nn.ModuleList)), None)
        if found is None or found == point.spec.name:
            raise CaptureError(f"{point.spec.name}: expected a router in a list of layers to restart at, found no list")
        lists.add(found)
        starts.append(int(point.spec.name.removeprefix(f"{found}.").split(".")[0]))
    if len(lists) != 1:
        names = ", ".join(sorted(lists))
        raise CaptureError(f"{type(model).__name__}: expected routers in one list of layers to restart, found {names}")
    layers = model.get_submodule(lists.pop())
    assert isinstance(layers, nn.ModuleList)
    return list(layers), starts


def _copy(value: Any) -> Any:
    """Return a value with copies of its tensors, without their history."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple):
        parts = [_copy(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [_copy(part) for part in value]
    if isinstance(value, dict):
        return type(value)({key: _copy(part) for key, part in value.items()})
    return value
