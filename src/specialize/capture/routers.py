"""Finding the routing points of a model by structure, and proving them with one forward pass.

The convention of transformers since version 5: a module named ``experts`` is called with the hidden states, the
ids of the chosen experts, integer [tokens, k], and their gate weights, floating [tokens, k], in this order. What
arrives there is what the model computes with, whatever the score function, bias, grouping or kernel. Nothing
is recomputed from router logits, from which the choice of about half of the families cannot be recovered.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from specialize.errors import CaptureError
from specialize.trace import RouterSpec

SCORE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=-1),
    "sigmoid": lambda logits: logits.sigmoid(),
    "sqrtsoftplus": lambda logits: nn.functional.softplus(logits).sqrt(),
    "identity": lambda scores: scores,
}
PROBE_LENGTH = 16


@dataclass(frozen=True)
class Choice:
    """One routing decision, as the experts module received it.

    Attributes:
        experts: integer [tokens, k], in the model's rank order.
        weights: floating [tokens, k].
    """

    experts: Tensor
    weights: Tensor


@dataclass(frozen=True)
class RoutingPoint:
    """A module whose input is a routing decision.

    Attributes:
        spec: what is known of the router.
        module: the experts module to hook.
    """

    spec: RouterSpec
    module: nn.Module


@dataclass
class _Seen:
    """What the probe saw at one candidate: the decision, and what the modules beside it returned."""

    choice: Choice | None = None
    beside: list[Tensor] = field(default_factory=list)


def read_choice(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Choice | None:
    """Read a decision from the arguments of an experts module; None when they do not follow the convention."""
    tensors = [value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor)]
    if len(tensors) < 3:
        return None
    _, experts, weights = tensors[:3]
    integer = not (experts.is_floating_point() or experts.is_complex() or experts.dtype == torch.bool)
    follows = integer and experts.dim() == 2 and weights.shape == experts.shape and weights.is_floating_point()
    return Choice(experts, weights) if follows else None


def find_routers(model: nn.Module) -> tuple[RoutingPoint, ...]:
    """Find the routing points of a model and prove each with one short forward pass.

    Args:
        model: a language model that takes ``input_ids``.

    Returns:
        Routing points in the model's order, their specifications filled in from what the probe saw.

    Raises:
        CaptureError: the model routes nothing, or a module that looks like experts received no decision.
    """
    seen = {name: _Seen() for name, _ in model.named_modules() if name.rpartition(".")[2] == "experts"}
    if not seen:
        raise CaptureError(
            f"{type(model).__name__}: expected Mixture-of-Experts layers, found no module named 'experts'; "
            "a dense model has no routing to trace"
        )
    with _watching(model, seen):
        _probe(model)
    silent = [name for name, what in seen.items() if what.choice is None]
    if silent:
        raise CaptureError(
            f"{type(model).__name__}: {len(silent)} of {len(seen)} modules named 'experts' received no routing "
            f"decision in a test pass (the first is {silent[0]}): expected to see them called with hidden states, "
            "expert ids [tokens, k] and weights [tokens, k]. If the model is compiled, attach before "
            "torch.compile; if it runs kernels from the hub, load it with use_kernels=False"
        )
    points: list[RoutingPoint] = []
    before: tuple[Choice, str] | None = None
    for order, (name, what) in enumerate(seen.items()):
        assert what.choice is not None
        module = model.get_submodule(name)
        num_experts = _num_experts(module)
        score_function = _score_function(what, num_experts)
        if score_function == "unknown" and before is not None and _same(what.choice, before[0]):
            score_function = before[1]  # a layer that obeys the decision of the layer before it
        before = (what.choice, score_function)
        points.append(
            RoutingPoint(
                RouterSpec(
                    layer=_layer_number(name, order),
                    name=name,
                    num_experts=num_experts,
                    top_k=what.choice.experts.shape[1],
                    score_function=score_function,
                    normalized=_sums_to_one(what.choice.weights),
                    unit=getattr(getattr(model, "config", None), "routing_unit", "token"),
                ),
                module,
            )
        )
    return tuple(points)


@contextmanager
def _watching(model: nn.Module, seen: dict[str, _Seen]) -> Iterator[None]:
    """Hook every candidate, and the modules beside it, of which one is the router."""
    handles = []
    for name, what in seen.items():
        handles.append(model.get_submodule(name).register_forward_pre_hook(_note_choice(what), with_kwargs=True))
        parent = model.get_submodule(name.rpartition(".")[0])
        for beside in parent.children():
            if beside is not model.get_submodule(name):
                handles.append(beside.register_forward_hook(_note_output(what)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note_choice(what: _Seen) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        what.choice = read_choice(arguments, keywords)

    return hook


def _note_output(what: _Seen) -> Callable[..., None]:
    def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        values = output if isinstance(output, tuple) else (output,)
        what.beside += [value.detach() for value in values if isinstance(value, Tensor) and value.is_floating_point()]

    return hook


@torch.no_grad()
def _probe(model: nn.Module) -> None:
    """Run a few tokens; any ids will do, since only the shapes and the arithmetic of routing are looked at."""
    embedding = next((module for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if embedding is None:
        raise CaptureError(f"{type(model).__name__}: expected a language model with token embeddings, found none")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(embedding.num_embeddings, (2, PROBE_LENGTH), generator=generator)
    training = model.training
    model.eval()  # a training pass may draw random numbers and update router statistics
    try:
        model(input_ids=ids.to(embedding.weight.device))
    except Exception as error:
        raise CaptureError(
            f"{type(model).__name__}: a test pass over 2 x {PROBE_LENGTH} token ids failed: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        model.train(training)


def _num_experts(module: nn.Module) -> int:
    """E, from the experts' own attribute or the leading dimension of their stacked weights."""
    declared = getattr(module, "num_experts", None)
    if isinstance(declared, int):
        return declared
    stacked = [p.shape[0] for p in module.parameters(recurse=False) if p.dim() == 3]
    if not stacked:
        raise CaptureError(
            f"{type(module).__name__}: cannot tell its number of experts: no num_experts, no stacked weights"
        )
    return stacked[0]


def _layer_number(name: str, order: int) -> int:
    """The model's own number of the layer: the first number in the module's path."""
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(number.group(1)) if number else order


def _sums_to_one(weights: Tensor) -> bool:
    sums = weights.float().sum(dim=-1)
    return bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _same(one: Choice, other: Choice) -> bool:
    return torch.equal(one.experts, other.experts) and torch.equal(one.weights, other.weights)


def _score_function(what: _Seen, num_experts: int) -> str:
    """Which function of what the router returned gives the gate weights, up to a factor for each token.

    With one slot a factor for each token would fit anything: there it must be the same for all tokens.
    """
    choice = what.choice
    assert choice is not None
    weights, experts = choice.weights.float(), choice.experts.long()
    for output in what.beside:
        scores = output.float().reshape(-1, output.shape[-1])
        if scores.shape != (len(experts), num_experts) or int(experts.min()) < 0 or int(experts.max()) >= num_experts:
            continue
        half = torch.float32 not in (output.dtype, choice.weights.dtype)
        for name, function in SCORE_FUNCTIONS.items():
            factors = weights / function(scores).gather(1, experts)
            across = factors if factors.shape[1] > 1 else factors.T
            spread = (across.amax(dim=1) - across.amin(dim=1)) / across.mean(dim=1).abs()
            if bool((spread < (2e-2 if half else 1e-3)).all()):
                return name
    return "unknown"
