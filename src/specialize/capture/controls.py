"""Random routers (controls): the choices of a random router from the same hidden states.

Fan, Messmer & Jaggi (2024, arXiv 2402.13089) train models with frozen, randomly initialized routers. A trained
checkpoint cannot be retrained for a comparison, but a random router can be run beside each of its own. Its association
with syntax or topics is the one that any random projection of these hidden states has.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from specialize.choices import Control, check_choice
from specialize.errors import CaptureError
from specialize.trace import RouterSpec


def check_control(name: str | None) -> None:
    """Raise CaptureError for an unknown control."""
    if name is not None:
        check_choice("control", name, Control, error=CaptureError)


class RandomRouter:
    """A random linear router with the E and k of one of the model's routers.

    Its weights are drawn from a normal distribution of variance 1 / hidden size, as at initialization, so that logits
    of a normalised hidden state have about unit variance. They depend only on the seed and on the position of the
    router among the model's routers, not on the device.

    Args:
        spec: the model's router.
        order: its position among the model's routers.
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
        """Route hidden states [tokens, hidden size]; return experts int64 and weights float32, both [tokens, k]."""
        if self._weight is None or self._weight.device != hidden.device:
            generator = torch.Generator().manual_seed(self._seed)
            weight = torch.randn(self.spec.num_experts, hidden.shape[-1], generator=generator)
            self._weight = (weight / hidden.shape[-1] ** 0.5).to(hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):  # many scores would tie in half precision
            probabilities = F.linear(hidden.detach().float(), self._weight).softmax(dim=-1)
        weights, experts = probabilities.topk(self.spec.top_k, dim=-1)
        if self.spec.normalized:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return experts, weights


def sequence_summary(hidden: Tensor, mask: Tensor, *, prefix: int | None) -> Tensor:
    """Return the input of a router of whole sequences: the mean hidden state of the tokens it may read.

    Args:
        hidden: [batch * length, hidden size].
        mask: bool [batch, length], False for padding.
        prefix: number of tokens that the router reads from the beginning of a sequence; None for all.

    Returns:
        [batch * length, hidden size], the same for all tokens of a sequence.
    """
    seen = mask if prefix is None else mask & (mask.cumsum(dim=1) <= prefix)
    share = seen.unsqueeze(-1).to(hidden.dtype)
    states = hidden.view(*mask.shape, -1)
    mean = (states * share).sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True).clamp(min=1)
    return mean.expand_as(states).reshape_as(hidden)
