"""What an intervention makes of a routing decision."""

from typing import Any

import torch
from torch import Tensor

from specialize.capture.points import Choice

_WORD = (1 << 63) - 1
_FACTORS = (-0x00AE502812AA7333, -0x3B314601E57A13AD)  # of the finalizer of MurmurHash3, as signed integers
_STEP = -0x61C8864680B583EB  # 2**64 divided by the golden ratio, likewise


def renormalize(weights: Tensor, hit: Tensor) -> Tensor:
    """Return gate weights [tokens, k] without those of the slots `hit`, with the former sum; 0 if none remains."""
    exact = weights.to(torch.promote_types(weights.dtype, torch.float32))
    kept = exact.masked_fill(hit, 0)
    left = kept.sum(dim=-1, keepdim=True)
    scaled = kept * (exact.sum(dim=-1, keepdim=True) / left.masked_fill(left == 0, 1))
    return torch.where(hit.any(dim=-1, keepdim=True), scaled.to(weights.dtype), weights)


def replace(choice: Choice, hit: Tensor, dropped: Tensor, keys: Tensor) -> Tensor:
    """Return expert ids [tokens, k] in which other experts have the slots `hit`.

    Args:
        choice: the decision.
        hit: bool [tokens, k], the slots of dropped experts.
        dropped: bool [E].
        keys: int64 [tokens, E], random: the experts with the largest keys step in.
    """
    chosen = torch.zeros_like(keys, dtype=torch.bool).scatter(1, choice.experts.long().clamp(min=0), True)
    order = keys.masked_fill(chosen | dropped, torch.iinfo(keys.dtype).min).argsort(dim=-1, descending=True)
    turn = (hit.cumsum(dim=-1) - 1).clamp(min=0)
    return torch.where(hit, order.gather(1, turn).to(choice.experts.dtype), choice.experts)


def random_keys(context: Tensor, num_experts: int, seed: int, router: int) -> Tensor:
    """Return random keys, int64 [tokens, E], that depend on nothing else than the arguments.

    Args:
        context: int64 [tokens].
        num_experts: E.
        seed: any whole number.
        router: number of the router.
    """
    place = context.device
    start = _mix(torch.tensor([seed & _WORD], device=place) + torch.tensor([router + 1], device=place) * _STEP)
    experts = torch.arange(1, num_experts + 1, device=context.device) * _STEP
    return _mix(_mix(context + start)[:, None] + experts)


def read_context(token_ids: Tensor, mask: Tensor | None) -> Tensor:
    """Return a number for each token that depends on the tokens of its sequence up to it, int64 [batch * length].

    Padding does not count, so that the numbers are those of the sequence alone.

    Args:
        token_ids: int64 [batch, length].
        mask: bool [batch, length], False for padding.
    """
    real = torch.ones_like(token_ids) if mask is None else mask.to(token_ids)
    place = real.cumsum(dim=1)
    return (_mix(_mix(token_ids + 1) + place * _STEP) * real).cumsum(dim=1).flatten()


def _mix(values: Tensor) -> Tensor:
    """Return 64-bit integers scattered over all values, one to one."""
    for factor in _FACTORS:
        values = (values ^ _shift(values)) * factor
    return values ^ _shift(values)


def _shift(values: Any) -> Any:
    return (values >> 33) & ((1 << 31) - 1)
