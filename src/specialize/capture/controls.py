"""Random routers: what a frozen random router would have chosen from the same hidden states.

Fan, Messmer & Jaggi (2024, arXiv 2402.13089) train models with frozen, randomly initialized routers. A trained
checkpoint cannot be trained again, but a random router can be run beside each of its own: what the control shows of
syntax or topics is what any random projection of these hidden states shows.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from specialize.errors import CaptureError, did_you_mean
from specialize.trace import RouterSpec

CONTROLS = ("random-router",)


def check_control(name: str | None) -> None:
    """Refuse a control that does not exist.

    Raises:
        CaptureError: naming the nearest one that does.
    """
    if name is not None and name not in CONTROLS:
        raise CaptureError(f"control: expected {' or '.join(CONTROLS)}, got {name!r}.{did_you_mean(name, CONTROLS)}")


class RandomRouter:
    """A frozen random linear router with the E and k of a real one.

    Its weight is drawn from a normal distribution of variance 1 / hidden size, as at initialization: logits of a
    normalised hidden state have about unit variance. It depends on the seed and on the router's place among the
    model's routers alone, not on the device.

    Args:
        spec: the real router.
        order: its place among the model's routers.
        seed: of the control.
    """

    def __init__(self, spec: RouterSpec, *, order: int, seed: int) -> None:
        self.spec = replace(
            spec,
            routing="random",
            score_function="softmax",
            static=False,
            identity_experts=0,
            found_by=f"random router, seed {seed}",
        )
        self._seed = (seed * 1_000_003 + order) % 2**63
        self._weight: Tensor | None = None

    def choose(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Route hidden states [tokens, hidden size]: experts int64 [tokens, k] and weights float32 [tokens, k]."""
        if self._weight is None or self._weight.device != hidden.device:
            generator = torch.Generator().manual_seed(self._seed)
            weight = torch.randn(self.spec.num_experts, hidden.shape[-1], generator=generator)
            self._weight = (weight / hidden.shape[-1] ** 0.5).to(hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):  # in half precision many scores would tie
            probabilities = F.linear(hidden.detach().float(), self._weight).softmax(dim=-1)
        weights, experts = probabilities.topk(self.spec.top_k, dim=-1)
        if self.spec.normalized:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return experts, weights


def sequence_summary(hidden: Tensor, mask: Tensor, *, prefix: int | None) -> Tensor:
    """What a router of whole sequences reads: the mean hidden state of the tokens it may see, for every token.

    Args:
        hidden: [batch * length, hidden size].
        mask: bool [batch, length], real tokens.
        prefix: only the first so many real tokens are read.

    Returns:
        [batch * length, hidden size], the same for all tokens of a sequence.
    """
    seen = mask if prefix is None else mask & (mask.cumsum(dim=1) <= prefix)
    share = seen.unsqueeze(-1).to(hidden.dtype)
    states = hidden.view(*mask.shape, -1)
    mean = (states * share).sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True).clamp(min=1)
    return mean.expand_as(states).reshape_as(hidden)
