"""Hooks on the routing points, and what they saw."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specialize.capture.calls import Call, CallWatcher, kept_positions
from specialize.capture.controls import RandomRouter, check_control, sequence_summary
from specialize.capture.extras import watch_norms
from specialize.capture.generation import follow_generation
from specialize.capture.points import Choice, RoutingPoint
from specialize.capture.routers import find_routers
from specialize.errors import CaptureError, did_you_mean
from specialize.trace import RouterSpec

EXTRAS = ("logits", "norms")


@dataclass(frozen=True)
class LayerRouting:
    """What one router decided for every token, since the recorder was last emptied.

    Attributes:
        spec: the router.
        experts: int64 [tokens, k] in the model's rank order; -1 in a slot that was dropped or skipped. Tokens are in
            reading order, sequence by sequence, one forward pass after the other.
        weights: float32 [tokens, k] gate weights.
        sequence: int64 [tokens], the sequence's running number over the recorded passes; None where the model was
            not called with token ids.
        position: int64 [tokens], place of the token in its sequence, padding included; None likewise.
        generated: bool [tokens], whether the token was generated, after `take_generation`; None otherwise.
        logits: float32 [tokens, E] router logits, where asked for.
        norms: float32 [tokens, k] norms of what each expert adds, where asked for.
    """

    spec: RouterSpec
    experts: NDArray[np.int64]
    weights: NDArray[np.float32]
    sequence: NDArray[np.int64] | None = None
    position: NDArray[np.int64] | None = None
    generated: NDArray[np.bool_] | None = None
    logits: NDArray[np.float32] | None = None
    norms: NDArray[np.float32] | None = None

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

    Passes are recorded when the model is called: recomputation in a backward pass (gradient checkpointing) is not.

    Args:
        model: the model that will be called.
        points: where it routes.
        control: ``random-router`` runs a random router beside each.
        seed: of the control.
        extras: what to record beside experts and weights: logits, norms.

    Attributes:
        points: where the model routes.
        specs: the routers in the order in which they are taken: the model's own, then the random routers.

    Raises:
        CaptureError: an unknown control or extra, or one that this model does not allow.
    """

    def __init__(
        self,
        model: nn.Module,
        points: Sequence[RoutingPoint],
        *,
        control: str | None = None,
        seed: int = 0,
        extras: Collection[str] = (),
    ) -> None:
        check_control(control)
        _check_extras(points, extras)
        self.points = tuple(points)
        self.extras = tuple(extras)
        self._random_routers = [
            RandomRouter(point.spec, order=order, seed=seed)
            for order, point in enumerate(points if control is not None else ())
        ]
        self.specs = (*(point.spec for point in points), *(control.spec for control in self._random_routers))
        self._tapes: list[dict[str, list[Tensor]]] = [{} for _ in self.specs]
        self._model = model
        self._prefix = getattr(getattr(model, "config", None), "routing_prefix", None)
        self._calls = CallWatcher(model)
        self._handles: list[Any] = []

    def start(self) -> "Recorder":
        """Put the hooks in."""
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
        """Take the hooks out; what was recorded stays until it is taken."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    __enter__ = start

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def take(self, *, keep_padding: bool = False) -> list[LayerRouting]:
        """Return what was recorded, the model's routers in layer order and then the random routers, and empty the recorder.

        Args:
            keep_padding: keep the tokens that the attention mask hides, too.

        Raises:
            CaptureError: no forward pass ran, or some layers saw fewer tokens than others.
        """
        calls = self._calls.seen
        columns = self.take_columns()
        kept = {stack: kept_positions(calls, stack, keep_padding=keep_padding) for stack in ("encoder", "decoder")}
        taken = []
        for spec, recorded in zip(self.specs, columns, strict=True):
            rows = kept[spec.stack]
            if rows is None:
                taken.append(_layer(spec, recorded))
                continue
            _refuse_other_length(spec, recorded, rows.total)
            taken.append(_layer(spec, recorded, rows.rows, sequence=rows.sequence, position=rows.position))
        return taken

    def take_generation(self, sequences: Tensor, *, pad_token_id: int | None = None) -> list[LayerRouting]:
        """Return what was recorded during one call of ``generate``, sequence by sequence, and empty the recorder.

        Every token is there once, but each sequence's last, which no layer has read. Padding is left out, before
        the prompt as well as after the end of a sequence that was finished early.

        Args:
            sequences: int64 [sequences, length], what ``generate`` returned.
            pad_token_id: what finished sequences are filled with; default: as the model's generation settings say.

        Raises:
            CaptureError: what the model read is not these sequences: beam search and assisted decoding move
                sequences between rows, and are refused.
        """
        calls, settings = self._calls.seen, getattr(self._model, "generation_config", None)
        columns = self.take_columns()
        followed = follow_generation(calls, sequences, settings, pad_token_id=pad_token_id)
        taken = []
        for spec, recorded in zip(self.specs, columns, strict=True):
            rows = followed[spec.stack]
            _refuse_other_length(spec, recorded, rows.total)
            where = {"sequence": rows.sequence, "position": rows.position, "generated": rows.generated}
            taken.append(_layer(spec, recorded, rows.rows, **where))
        return taken

    def take_columns(self) -> list[dict[str, Tensor]]:
        """As `take`, padding included, on the device on which it was made: for each of `specs` its columns.

        Columns: experts int16 [tokens, k], weights [tokens, k], and the extras.
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
                    f"the layers routed different numbers of tokens ({min(counts)} to {max(counts)}): was a forward "
                    "pass interrupted, or is the model compiled? Attach before torch.compile"
                )
        if not all(taken):
            raise CaptureError(
                "nothing was recorded: run the model between attach and take; if it ran, it was compiled before the "
                "recorder was attached: attach before torch.compile"
            )
        return taken

    def clear(self) -> None:
        """Forget what was recorded."""
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
        control = self._random_routers[index] if self._random_routers else None
        beside = self._tapes[len(self.points) + index] if self._random_routers else {}

        def receive(choice: Choice) -> None:
            call = self._calls.current
            if call is None:
                return
            # copies: the model may reuse or rescale its tensors in place
            tape.setdefault("experts", []).append(choice.experts.detach().to(torch.int16, copy=True))
            tape.setdefault("weights", []).append(choice.weights.detach().clone())
            if "logits" in self.extras and choice.logits is not None:
                tape.setdefault("logits", []).append(choice.logits.detach().clone())
            if control is not None:
                experts, weights = control.choose(self._seen_by_router(control.spec, choice, call))
                beside.setdefault("experts", []).append(experts.to(torch.int16))
                beside.setdefault("weights", []).append(weights)

        return receive

    def _seen_by_router(self, spec: RouterSpec, choice: Choice, call: Call) -> Tensor:
        if choice.hidden is None:
            raise CaptureError(f"{spec.name}: the hidden states that it routes are not to be had; leave out --control")
        if spec.unit == "token":
            return choice.hidden
        mask = call.mask(spec.stack)
        if mask is None:
            raise CaptureError(f"{spec.name}: routes whole sequences: call the model with input_ids to run a control")
        return sequence_summary(choice.hidden, mask, prefix=self._prefix)


def _check_extras(points: Sequence[RoutingPoint], extras: Collection[str]) -> None:
    for name in extras:
        if name not in EXTRAS:
            raise CaptureError(
                f"extras: expected some of {', '.join(EXTRAS)}, got {name!r}.{did_you_mean(name, EXTRAS)}"
            )
    for point in points:
        if "logits" in extras and not (point.logits or point.adapter.gives_logits):
            raise CaptureError(
                f"{point.spec.name}: the router logits of this model are not to be had (found by: "
                f"{point.spec.found_by}); leave out --logits"
            )
        if "norms" in extras and point.adapter.when != "before":
            raise CaptureError(
                f"{point.spec.name}: its experts cannot be run one by one (found by: {point.spec.found_by}); "
                "leave out --norms"
            )


def _refuse_other_length(spec: RouterSpec, recorded: Mapping[str, Tensor], total: int) -> None:
    if len(recorded["experts"]) != total:
        raise CaptureError(
            f"{spec.name}: expected routing for {total} tokens, the model's input, got {len(recorded['experts'])}"
        )


def _layer(
    spec: RouterSpec, recorded: Mapping[str, Tensor], rows: NDArray[np.int64] | None = None, **where: Any
) -> LayerRouting:
    def read(name: str) -> Any:
        if name not in recorded:
            return None
        values = recorded[name].float().cpu().numpy() if name != "experts" else recorded[name].cpu().numpy()
        return values if rows is None else values[rows]

    experts = read("experts").astype(np.int64)
    return LayerRouting(spec, experts, read("weights"), logits=read("logits"), norms=read("norms"), **where)


def attach(
    model: nn.Module,
    inputs: Mapping[str, Any] | tuple[Any, ...] | None = None,
    *,
    control: str | None = None,
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
        model: a model whose routing can be found (`specialize.register_router` adds a kind of layer); it is run
            once on a few tokens to prove that its routing is seen.
        inputs: what to call the model with in that run; default: a few token ids.
        control: ``random-router`` records beside each router what a frozen random one would have chosen.
        seed: of the control.
        extras: what to record beside experts and weights: some of logits, norms.

    Raises:
        CaptureError: no routing was found, or not in all of the layers that look routed.
    """
    return Recorder(model, find_routers(model, inputs), control=control, seed=seed, extras=extras).start()
