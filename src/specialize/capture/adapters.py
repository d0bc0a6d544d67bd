"""Adapters for the model families that do not follow the convention, see `specialize.capture.convention`.

Classes are recognised by name, so that no model code is imported. If a family calls its experts with arguments other
than ids and weights, the decision is derived from those arguments; if it has no experts module, from the router's
output. Only for a block that exposes nothing else is its last step repeated: the same top-k of the same numbers.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from specialize.capture.convention import EXPERTS, count_experts, flat, read_experts_input, write_experts_input
from specialize.capture.points import Adapter, Choice, first_tensor, tensors_of
from specialize.trace.schema import NO_EXPERT


def named(*classes: str) -> Callable[[str, nn.Module], bool]:
    """Return a test whether a module is of one of these classes, or of a subclass."""
    return lambda path, module: any(cls.__name__ in classes for cls in type(module).__mro__)


def _read_llama4(router: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """The router returns sigmoid scores [tokens, E], zero for experts not chosen, and the logits it chose by."""
    scores, logits = output
    experts = logits.masked_fill(scores == 0, -torch.inf).topk(router.top_k, dim=1).indices
    weights = scores.gather(1, experts)
    return Choice(
        experts.masked_fill(weights == 0, NO_EXPERT), weights, flat(first_tensor(arguments, keywords)), logits
    )


def _write_llama4(router: nn.Module, arguments: Any, keywords: Any, output: Any, experts: Any, weights: Any) -> Any:
    scores, logits = output
    return torch.zeros_like(scores).scatter_add(1, experts.clamp(min=0), weights), logits


def _read_jetmoe(gating: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """The gating returns slots sorted by expert: their order, their gate weights, and the number for each expert."""
    order, _, gates, sizes, logits = output
    by_expert = torch.arange(len(sizes), device=order.device)
    sorted_experts = by_expert.repeat_interleave(torch.as_tensor(sizes, device=order.device))
    experts, weights = torch.empty_like(order), torch.empty_like(gates)
    experts[order], weights[order] = sorted_experts, gates
    slots = (len(logits), -1)
    return Choice(experts.view(slots), weights.view(slots), flat(first_tensor(arguments, keywords)), logits)


def _write_jetmoe(gating: nn.Module, arguments: Any, keywords: Any, output: Any, experts: Any, weights: Any) -> Any:
    _, order = experts.flatten().sort(0)
    sizes = experts.flatten().bincount(minlength=len(output[3])).tolist()
    tokens = order.div(experts.shape[1], rounding_mode="trunc")
    return order, tokens, weights.flatten()[order], sizes, output[4]


def _read_switch(experts: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """Experts receive a one-hot row for each token; it is zero if the capacity of the expert is exhausted."""
    hidden, one_hot, probability = tensors_of(arguments, keywords)[:3]
    rows = one_hot.reshape(-1, one_hot.shape[-1])
    dropped = ~rows.any(dim=-1, keepdim=True)
    chosen = rows.argmax(dim=-1, keepdim=True).masked_fill(dropped, NO_EXPERT)
    return Choice(chosen, probability.reshape(-1, 1).masked_fill(dropped, 0), flat(hidden))


def _write_switch(module: nn.Module, arguments: Any, keywords: Any, output: Any, experts: Any, weights: Any) -> Any:
    names, values = list(keywords), [*arguments, *keywords.values()]
    one_hot = F.one_hot(experts.clamp(min=0), values[1].shape[-1]).masked_fill((experts < 0).unsqueeze(-1), 0)
    values[1] = one_hot.view_as(values[1]).to(values[1].dtype)
    values[2] = weights.view_as(values[2])
    given = len(arguments)
    return tuple(values[:given]), dict(zip(names, values[given:], strict=True))


def _read_nllb(experts: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """Experts receive probabilities [tokens, E] that are zero except for the two experts that the router chose."""
    hidden, _, probabilities = tensors_of(arguments, keywords)[:3]
    weights, chosen = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1)
    return Choice(chosen.masked_fill(weights == 0, NO_EXPERT), weights, flat(hidden))


def _read_aria(experts: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """In versions before it followed the convention, experts received the logits and chose by themselves."""
    hidden, logits = tensors_of(arguments, keywords)[:2]
    chosen, weights = experts.route_tokens_to_experts(logits)
    return Choice(chosen, weights, flat(hidden), logits)


def _is_aria(path: str, module: nn.Module) -> bool:
    return type(module).__name__ == "AriaExperts" and hasattr(module, "route_tokens_to_experts")


def _read_zaya(experts: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice | None:
    """A token that skips its experts is sent to the first expert with a weight of zero."""
    choice = read_experts_input(experts, arguments, keywords, output)
    if choice is None:
        return None
    skipped = (choice.experts == 0) & (choice.weights == 0)
    return Choice(choice.experts.masked_fill(skipped, NO_EXPERT), choice.weights, choice.hidden)


def _read_doge(block: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """Product keys: an expert's score is the sum of its row's and its column's [2, tokens, keys]."""
    keys = block.num_keys
    (rows, columns), (row_ids, column_ids) = output[1].topk(keys, dim=-1)
    scores = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).flatten(-2)
    ids = (row_ids.unsqueeze(-1) * keys + column_ids.unsqueeze(-2)).flatten(-2)
    best, places = scores.topk(block.top_k, dim=-1)
    weights = best.softmax(dim=-1)
    if block.norm_topk_prob:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Choice(ids.gather(-1, places), weights, flat(first_tensor(arguments, keywords)))


def _read_mxfp4(block: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice:
    """The kernel routes internally; the block returns the logits, whose k largest it passes to a softmax."""
    logits = output[1].reshape(-1, block.router.num_experts)
    best, experts = logits.topk(block.router.top_k, dim=-1)
    return Choice(experts, best.softmax(dim=-1), flat(first_tensor(arguments, keywords)), logits)


def _is_mxfp4(path: str, module: nn.Module) -> bool:
    return type(getattr(module, EXPERTS, None)).__name__ == "Mxfp4GptOssExperts"


BUILT_IN = (
    Adapter("llama4", named("Llama4Router"), _read_llama4, count_experts, _write_llama4, gives_logits=True),
    Adapter("aria", _is_aria, _read_aria, attrgetter("config.moe_num_experts"), gives_logits=True),
    Adapter("jetmoe", named("JetMoeTopKGating"), _read_jetmoe, count_experts, _write_jetmoe, gives_logits=True),
    Adapter(
        "switch_transformers", named("SwitchTransformersExperts"), _read_switch, count_experts, _write_switch, "before"
    ),
    Adapter(
        "nllb_moe",
        named("NllbMoeExperts"),
        _read_nllb,
        count_experts,
        warning="the trace records the two experts that the router chose; transformers 5.17 to 5.23 sends every token "
        "to the first two experts instead, because it encodes a mask twice",
    ),
    Adapter("zaya", named("ZayaExperts"), _read_zaya, count_experts, write_experts_input, "before"),
    Adapter(
        "doge",
        named("DogeCDMoE"),
        _read_doge,
        count_experts,
        warning="transformers splits the router's scores across the tokens of a batch, so that the experts of a token "
        "depend on the other tokens, including padding",
    ),
    Adapter(
        "longcat_flash",
        named("LongcatFlashExperts"),
        read_experts_input,
        attrgetter("total_experts"),
        write_experts_input,
        when="before",
        identity_experts=attrgetter("zero_expert_num"),
    ),
    Adapter("gpt_oss in MXFP4", _is_mxfp4, _read_mxfp4, attrgetter("router.num_experts"), gives_logits=True),
)
