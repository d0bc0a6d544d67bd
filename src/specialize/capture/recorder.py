"""Hooks on the routing points of a model, and what they recorded."""

from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from specialize.capture.calls import Call, CallWatcher, kept_positions
from specialize.capture.controls import RandomRouters, control_input
from specialize.capture.extras import check_separable, watch_norms
from specialize.capture.generation import follow_generation
from specialize.capture.layer import LayerRouting, check_finite, check_length, read_layer
from specialize.capture.points import Choice, RoutingPoint
from specialize.capture.routers import find_routers
from specialize.choices import CONTROL_DRAWS, check_control
from specialize.errors import CaptureError, did_you_mean

EXTRAS = ("logits", "norms")


class Recorder:
    """Records the routing of every forward pass between `start` and `stop`; `attach` creates one.

    Only calls of the model are recorded, not their recomputation in a backward pass (gradient checkpointing).

    Args:
        model: the model that will be called.
        points: its routing points.
        control: ``random-router`` runs random routers beside each of the model's.
        control_draws: how many of them.
        seed: of the control.
        extras: what to record besides experts and weights: any of logits, norms.

    Attributes:
        points: the routing points of the model.
        specs: the routers in the order of the recorded layers: the model's own, then the random routers, the first
            draw of all layers first.

    Raises:
        CaptureError: the control or an extra is unknown, or the model does not support it.
    """

    def __init__(
        self,
        model: nn.Module,
        points: Sequence[RoutingPoint],
        *,
        control: str | None = None,
        control_draws: int = CONTROL_DRAWS,
        seed: int = 0,
        extras: Collection[str] = (),
    ) -> None:
        check_control(control, control_draws, error=CaptureError)
        _check_extras(points, extras)
        self.points = tuple(points)
        self.extras = tuple(extras)
        self._controls = [
            RandomRouters(point.spec, order=order, seed=seed, number=control_draws)
            for order, point in enumerate(points if control is not None else ())
        ]
        by_draw = zip(*(control.specs for control in self._controls), strict=True)
        self.specs = (*(point.spec for point in points), *(spec for draw in by_draw for spec in draw))
        self._tapes: list[dict[str, list[Tensor]]] = [{} for _ in self.specs]
        self._model = model
        self._prefix = getattr(getattr(model, "config", None), "routing_prefix", None)
        self._calls = CallWatcher(model)
        self._handles: list[Any] = []

    def start(self) -> "Recorder":
        """Attach the hooks."""
        if self._handles:
            return self
        self._handles = self._calls.start()
        for index, point in enumerate(self.points):
            self._handles.append(point.watch(self._receive(index)))
            if "logits" in self.extras and point.logits is not None:
                self._handles.append(point.logits.watch(self._append(index, "logits")))
            if "norms" in self.extras:
                self._handles.append(watch_norms(point, self._append(index, "norms")))
        return self

    def stop(self) -> None:
        """Remove the hooks; what was recorded stays until it is taken."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    __enter__ = start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def after_each_call(self, receive: Callable[[Call], None]) -> None:
        """Call `receive` at the end of each call of the model, for instance to take what it recorded.

        What a call that raised an exception recorded is dropped instead.
        """

        def finish(call: Call, succeeded: bool) -> None:
            if succeeded:
                receive(call)
            else:
                self.clear()

        self._calls.on_end = finish

    def take(self, *, keep_padding: bool = False) -> list[LayerRouting]:
        """Return what was recorded, and empty the recorder.

        Args:
            keep_padding: keep the tokens that the attention mask hides, too, and do not check that values are finite.

        Returns:
            The model's routers in layer order, then the random routers.

        Raises:
            CaptureError: no forward pass ran, layers routed different numbers of tokens, or weights are not finite.
        """
        calls, columns = self._calls.seen, self.take_columns()
        kept = {stack: kept_positions(calls, stack, keep_padding=keep_padding) for stack in ("encoder", "decoder")}
        taken = []
        for spec, recorded in zip(self.specs, columns, strict=True):
            rows = kept[spec.stack]
            if rows is None:
                taken.append(read_layer(spec, recorded))
            else:
                check_length(spec, recorded, rows.total)
                taken.append(read_layer(spec, recorded, rows.rows, sequence=rows.sequence, position=rows.position))
        if not keep_padding:
            check_finite(taken)
        return taken

    def take_generation(self, sequences: Tensor, *, pad_token_id: int | None = None) -> list[LayerRouting]:
        """Return what was recorded during one call of ``generate``, sequence by sequence, and empty the recorder.

        Every token occurs once, except the last of each sequence, which no layer has read. Padding is left out, both
        before the prompt and after the end of a sequence that finished early.

        Args:
            sequences: int64 [sequences, length], the output of ``generate``.
            pad_token_id: padding of finished sequences; default: that of the model's generation settings.

        Returns:
            The model's routers in layer order, then the random routers; `LayerRouting.generated` is set.

        Raises:
            CaptureError: what the model read is not these sequences, as after beam search and assisted decoding,
                which move sequences between rows; or weights are not finite.
        """
        calls, settings = self._calls.seen, getattr(self._model, "generation_config", None)
        columns = self.take_columns()
        followed = follow_generation(calls, sequences, settings, pad_token_id=pad_token_id)
        taken = []
        for spec, recorded in zip(self.specs, columns, strict=True):
            rows = followed[spec.stack]
            check_length(spec, recorded, rows.total)
            where = {"sequence": rows.sequence, "position": rows.position, "generated": rows.generated}
            taken.append(read_layer(spec, recorded, rows.rows, **where))
        check_finite(taken)
        return taken

    def take_columns(self) -> list[dict[str, Tensor]]:
        """Return what was recorded as tensors, padding included, on the device of each layer; empty the recorder.

        Returns:
            The columns of each of `specs`: experts int16 [tokens, k], weights [tokens, k], and the extras.

        Raises:
            CaptureError: as `take`.
        """
        taken = [{name: torch.cat(pieces) for name, pieces in tape.items()} for tape in self._tapes]
        self.clear()
        for stack in ("encoder", "decoder"):
            counts = [
                len(columns["experts"]) if "experts" in columns else 0
                for spec, columns in zip(self.specs, taken, strict=True)
                if spec.stack == stack
            ]
            if len(set(counts)) > 1:
                raise CaptureError(
                    f"expected all layers to route the same number of tokens, got {min(counts)} to {max(counts)}: a "
                    "forward pass was interrupted, or the model is compiled; attach before torch.compile"
                )
        if not all(taken):
            raise CaptureError(
                "nothing was recorded: run the model between attach and take; if it ran, it was compiled before: "
                "attach before torch.compile"
            )
        return taken

    def clear(self) -> None:
        """Drop what was recorded."""
        for tape in self._tapes:
            tape.clear()
        self._calls.clear()

    def _append(self, index: int, name: str) -> Callable[[Tensor], None]:
        tape = self._tapes[index]

        def append(values: Tensor) -> None:
            if self._calls.current is not None:
                tape.setdefault(name, []).append(values.detach().reshape(-1, values.shape[-1]).clone())

        return append

    def _receive(self, index: int) -> Callable[[Choice], None]:
        tape = self._tapes[index]
        control = self._controls[index] if self._controls else None
        beside = self._tapes[index :: len(self.points)][1:]

        def receive(choice: Choice) -> None:
            call = self._calls.current
            if call is None:
                return
            # copies, because the model may reuse or rescale its tensors in place
            tape.setdefault("experts", []).append(choice.experts.detach().to(torch.int16, copy=True))
            tape.setdefault("weights", []).append(choice.weights.detach().clone())
            if "logits" in self.extras and choice.logits is not None:
                tape.setdefault("logits", []).append(choice.logits.detach().clone())
            if control is not None:
                hidden = control_input(self.specs[index], choice, call, prefix=self._prefix)
                experts, weights = control.choose(hidden)
                for draw, chosen in zip(beside, experts, strict=True):
                    draw.setdefault("experts", []).append(chosen)
                beside[0].setdefault("weights", []).append(weights)

        return receive


def _check_extras(points: Sequence[RoutingPoint], extras: Collection[str]) -> None:
    for name in extras:
        if name not in EXTRAS:
            raise CaptureError(
                f"extras: expected any of {', '.join(EXTRAS)}, got {name!r}.{did_you_mean(name, EXTRAS)}"
            )
    for point in points:
        if "logits" in extras and not (point.logits or point.adapter.gives_logits):
            raise CaptureError(
                f"{point.spec.name}: the router logits of this model are unavailable (found by: "
                f"{point.spec.found_by}); leave out logits"
            )
        if "norms" in extras:
            check_separable(point)


def attach(
    model: nn.Module,
    inputs: Mapping[str, Any] | tuple[Any, ...] | None = None,
    *,
    control: str | None = None,
    control_draws: int = CONTROL_DRAWS,
    seed: int = 0,
    extras: Collection[str] = (),
) -> Recorder:
    """Attach a recorder to a model with Mixture-of-Experts layers.

    Example::

        with specialize.attach(model) as recorder:
            model(input_ids=ids, attention_mask=mask)
        for layer in recorder.take():
            print(layer.name, layer.experts.shape)

    During generation::

        with specialize.attach(model) as recorder:
            output = model.generate(ids, attention_mask=mask, max_new_tokens=32)
        for layer in recorder.take_generation(output):
            print(layer.name, layer.experts[layer.generated])

    Args:
        model: a model whose routing can be found (`specialize.register_router` adds a kind of layer). It is run once
            on a few tokens, the verification pass, to prove that the hooks see its routing.
        inputs: keywords or positional arguments of the model in the verification pass; default: a few token ids.
        control: ``random-router`` records beside each router the choices of random ones.
        control_draws: how many of them; all but the first without gate weights.
        seed: of the control.
        extras: what to record besides experts and weights: any of logits, norms.

    Returns:
        The recorder, with its hooks attached.

    Raises:
        CaptureError: no routing was found, or not in all of the layers that appear to be routed.
    """
    points = find_routers(model, inputs)
    recorder = Recorder(model, points, control=control, control_draws=control_draws, seed=seed, extras=extras)
    return recorder.start()
