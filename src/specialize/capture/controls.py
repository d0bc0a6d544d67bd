"""Random routers (controls): their choices from the same hidden states.

Fan, Messmer & Jaggi (2024, arXiv 2402.13089) train models with frozen, randomly initialized routers. A trained
checkpoint cannot be retrained for a comparison, but a random router can be run beside each of its own. Its association
with syntax or topics is the one that a random projection of these hidden states has. Several of them, the draws, show
how much that differs from one random projection to the next.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from specialize.capture.calls import Call
from specialize.capture.points import Choice
from specialize.errors import CaptureError
from specialize.trace import RouterSpec


class RandomRouters:
    """Random linear routers with the E and k of one of the model's routers.

    Their weights are drawn from a normal distribution of variance 1 / hidden size, as at initialization, so that logits
    of a normalised hidden state have about unit variance. They depend only on the seed, on the position of the router
    among the model's routers and on the number of the draw: neither on the device nor on how many are drawn.

    Args:
        spec: the model's router.
        order: its position among the model's routers.
        seed: of the control.
        number: how many random routers.

    Attributes:
        specs: the random routers, the first draw first.
    """

    def __init__(self, spec: RouterSpec, *, order: int, seed: int, number: int) -> None:
        self.specs = tuple(
            replace(
                spec,
                routing="random",
                draw=draw,
                score_function="softmax",
                static=False,
                identity_experts=0,
                found_by=f"random router, seed {seed}",
            )
            for draw in range(number)
        )
        self._seed = (seed * 1_000_003 + order) % 2**63
        self._weights: tuple[Tensor, Tensor] | None = None

    def choose(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Route hidden states [tokens, hidden size].

        Returns:
            Experts int16 [draw, tokens, k], and the gate weights of the first draw, float32 [tokens, k].
        """
        first, others = self._weights_on(hidden)
        top_k = self.specs[0].top_k
        with torch.autocast(hidden.device.type, enabled=False):  # many scores would tie in half precision
            states = hidden.detach().float()
            probabilities = F.linear(states, first).softmax(dim=-1)
            # in one product; not together with the first, whose rounding would then depend on the number of draws
            logits = F.linear(states, others).unflatten(-1, (len(self.specs) - 1, len(first)))
        weights, experts = probabilities.topk(top_k, dim=-1)
        if self.specs[0].normalized:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        more = logits.topk(top_k, dim=-1).indices.transpose(0, 1)
        return torch.cat([experts[None], more]).to(torch.int16), weights

    def _weights_on(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of the first draw [E, hidden size] and of the others [(draw - 1) * E, hidden size]."""
        if self._weights is None or self._weights[0].device != hidden.device:
            shape = self.specs[0].num_experts, hidden.shape[-1]
            generator = torch.Generator().manual_seed(self._seed)
            drawn = [torch.randn(shape, generator=generator) / shape[1] ** 0.5 for _ in self.specs]
            others = torch.cat(drawn[1:]) if len(drawn) > 1 else drawn[0][:0]
            self._weights = drawn[0].to(hidden.device), others.to(hidden.device)
        return self._weights


def control_input(spec: RouterSpec, choice: Choice, call: Call, *, prefix: int | None) -> Tensor:
    """Return the hidden states that random routers read, [tokens, hidden size].

    Args:
        spec: the model's router.
        choice: its decision.
        call: the call of the model in which it was made.
        prefix: see `sequence_summary`.

    Raises:
        CaptureError: the hidden states are unavailable, or the tokens of whole sequences are not known.
    """
    if choice.hidden is None:
        raise CaptureError(
            f"{spec.name}: the random router needs the hidden states that this layer routes, which are "
            "unavailable; leave out the control"
        )
    if spec.unit == "token":
        return choice.hidden
    mask = call.mask(spec.stack)
    if mask is None:
        raise CaptureError(f"{spec.name}: routes whole sequences: call the model with input_ids to run a random router")
    return sequence_summary(choice.hidden, mask, prefix=prefix)


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
