"""The convention of transformers since version 5, which most families follow.

A module named ``experts`` is called with the hidden states, the ids of the chosen experts, integer [tokens, k], and
their gate weights, floating [tokens, k]. These are the values the model computes with, whatever its score function,
bias, grouping or kernel.
"""

from typing import Any

import torch
from torch import Tensor, nn

from specialize.capture.points import Adapter, Choice, tensors_of
from specialize.errors import CaptureError

EXPERTS = "experts"


def read_experts_input(
    module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any
) -> Choice | None:
    """Return the decision in the arguments of an experts module; None if they do not follow the convention."""
    tensors = tensors_of(arguments, keywords)
    if len(tensors) < 3:
        return None
    hidden, experts, weights = tensors[:3]
    if not is_integer(experts):
        experts, weights = weights, experts  # keywords come in any order
    follows = is_integer(experts) and experts.dim() == 2 and experts.shape == weights.shape
    if not (follows and weights.is_floating_point()):
        return None
    return Choice(experts, weights, flat(hidden))


def write_experts_input(
    module: nn.Module,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    output: Any,
    experts: Tensor,
    weights: Tensor,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of an experts module with another decision; a slot without an expert has weight 0."""
    names, values = list(keywords), [*arguments, *keywords.values()]
    places = [place for place, value in enumerate(values) if isinstance(value, Tensor)]
    for place in places[1:3]:
        values[place] = experts.clamp(min=0) if is_integer(values[place]) else weights
    given = len(arguments)
    return tuple(values[:given]), dict(zip(names, values[given:], strict=True))


def flat(hidden: Tensor) -> Tensor:
    """Return hidden states as [tokens, hidden size]."""
    return hidden if hidden.dim() == 2 else hidden.reshape(-1, hidden.shape[-1])


def is_integer(tensor: Tensor) -> bool:
    """Return whether a tensor can hold expert ids."""
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def count_experts(module: nn.Module) -> int:
    """Return E, from the attribute ``num_experts`` or the leading dimension of the stacked weights.

    Raises:
        CaptureError: the module has neither.
    """
    declared = getattr(module, "num_experts", None)
    if isinstance(declared, int):
        return declared
    stacked = [p.shape[0] for p in module.parameters(recurse=False) if p.dim() == 3]
    if not stacked:
        raise CaptureError(
            f"{type(module).__name__}: expected an attribute num_experts or stacked weights, found neither; describe "
            "the layer with specialize.register_router"
        )
    return stacked[0]


CONVENTION = Adapter(
    name="experts module",
    matches=lambda path, module: path.rpartition(".")[2] == EXPERTS,
    read=read_experts_input,
    num_experts=count_experts,
    write=write_experts_input,
    when="before",
)
