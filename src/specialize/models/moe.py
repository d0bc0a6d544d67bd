"""The routed feed-forward layer: a router and experts."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specialize.models.configuration import GPTMoEConfig


class Decision(NamedTuple):
    """The decisions of a router for every token, in row-major [batch, position] order."""

    logits: Tensor  # (B*T, E) before the softmax
    weights: Tensor  # (B*T, k) gate weights, float32 or float64
    experts: Tensor  # (B*T, k) int64, in rank order
    loss: Tensor  # () the balance loss, or the cross-entropy of a guided router


def balance_loss(probabilities: Tensor, experts: Tensor, decided: Tensor) -> Tensor:
    """Return the load-balancing loss E * sum_e f_e P_e of Fedus et al. 2022 (Switch Transformers, eq. 4-6).

    Args:
        probabilities: (N, E) router probabilities.
        experts: (N, k) chosen experts.
        decided: (N,) bool, the decisions that count; the others are of padding.

    Returns:
        A scalar that is 1 if the load is even.
    """
    num_experts = probabilities.shape[-1]
    chosen = experts.unsqueeze(-1) == torch.arange(num_experts, device=experts.device)  # (N, k, E)
    # weighted sums, not a selection: for the number of its rows, a GPU would have to be waited for
    counted = decided.unsqueeze(-1).to(probabilities.dtype)
    number = counted.sum()
    share = (chosen.sum(dim=1) * counted).sum(dim=0) / (number * experts.shape[-1])  # f, (E,)
    return num_experts * (share * (probabilities * counted).sum(dim=0) / number).sum()


class Router(nn.Module):
    """Linear router with softmax scores, deciding for each token or once for each sequence."""

    def __init__(self, config: GPTMoEConfig) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.top_k = config.num_experts_per_tok
        self.score_function = "softmax"
        self.norm_topk_prob = config.norm_topk_prob
        self.unit = config.routing_unit
        self.prefix = config.routing_prefix if config.sequence_summary == "prefix" else None
        self.rerandomized = config.router_type == "rerandomized"
        self.weight = nn.Parameter(
            torch.empty(config.num_experts, config.hidden_size),
            requires_grad=config.router_type in ("learned", "guided"),
        )

    def reset_parameters(self) -> None:
        """Draw weights for which the logits of a layer-normed input have about unit variance."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.weight.shape[1]))

    def forward(self, hidden: Tensor, mask: Tensor, guide: Tensor | None = None) -> Decision:
        """Decide for hidden states (B, T, C); `mask` (B, T) is False for padding.

        With `guide` (B,), the expert that each sequence should be sent to, the loss is the cross-entropy of that
        choice instead of the balance loss.
        """
        if self.rerandomized and self.training:
            with torch.no_grad():
                self.reset_parameters()
        batch, length, _ = hidden.shape
        features = self._summary(hidden, mask) if self.unit == "sequence" else hidden  # (B, 1 or T, C)
        with torch.autocast(hidden.device.type, enabled=False):  # at least float32, to avoid ties
            logits = F.linear(in_full_precision(features), in_full_precision(self.weight))  # (B, 1 or T, E)
            probabilities = logits.softmax(dim=-1)
        weights, experts = probabilities.topk(self.top_k, dim=-1)
        if self.norm_topk_prob:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        decided = mask if self.unit == "token" else mask.any(dim=1, keepdim=True)
        if guide is None:
            loss = balance_loss(probabilities.flatten(0, 1), experts.flatten(0, 1), decided.flatten())
        else:
            wanted = guide.unsqueeze(1).expand(decided.shape)
            loss = F.cross_entropy(logits[decided], wanted[decided])

        def per_token(x: Tensor) -> Tensor:
            return x.expand(batch, length, -1).reshape(batch * length, -1)

        return Decision(per_token(logits), per_token(weights), per_token(experts), loss)

    def _summary(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the mean hidden state of the tokens that the router may read, (B, 1, C)."""
        if self.prefix is not None:
            mask = mask & (mask.cumsum(dim=1) <= self.prefix)
        share = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * share).sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True).clamp(min=1)


def in_full_precision(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or in float64 if that is its type."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """Return the precision in which a matrix product with `hidden` is computed, considering autocast."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


class Experts(nn.Module):
    """E feed-forward networks, each of which is run on the tokens sent to it."""

    def __init__(self, config: GPTMoEConfig) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.up = nn.Parameter(torch.empty(config.num_experts, config.hidden_size, config.intermediate_size))
        self.down = nn.Parameter(torch.empty(config.num_experts, config.intermediate_size, config.hidden_size))

    def forward(self, hidden: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs: (N, C), experts and weights (N, k) -> (N, C)."""
        (tokens, width), top_k = hidden.shape, experts.shape[1]
        grouped, order = experts.flatten().sort(stable=True)  # (N*k,) slots grouped by expert
        ends = torch.searchsorted(grouped, torch.arange(self.num_experts, device=grouped.device), right=True)
        # copies that are permuted, not rows that are gathered: their gradients are summed in a fixed order
        slots = hidden.unsqueeze(1).expand(-1, top_k, -1).reshape(-1, width).index_select(0, order)
        dtype = _compute_dtype(hidden)
        run = self._grouped if dtype == torch.bfloat16 else self._one_by_one
        with torch.autocast(hidden.device.type, enabled=False):  # autocast does not cover grouped_mm
            output = run(slots.to(dtype), ends, self.up.to(dtype), self.down.to(dtype))
        output = output.index_select(0, order.argsort()).view(tokens, top_k, width)
        return (output * weights.unsqueeze(-1)).sum(dim=1).to(hidden.dtype)

    @staticmethod
    def _grouped(slots: Tensor, ends: Tensor, up: Tensor, down: Tensor) -> Tensor:
        """Run all experts in two kernels, without synchronization: slots (N*k, C), their ends (E,) -> (N*k, C)."""
        ends = ends.to(torch.int32)
        return F.grouped_mm(F.gelu(F.grouped_mm(slots, up, offs=ends), approximate="tanh"), down, offs=ends)

    @staticmethod
    def _one_by_one(slots: Tensor, ends: Tensor, up: Tensor, down: Tensor) -> Tensor:
        """Run the experts one after the other, in any precision."""
        groups = slots.tensor_split(ends[:-1].cpu())
        # unbound, not indexed: the gradient of an indexed weight is as large as those of all experts
        each = zip(groups, up.unbind(), down.unbind(), strict=True)
        return torch.cat([F.gelu(group @ one, approximate="tanh") @ other for group, one, other in each])


class MoELayer(nn.Module):
    """A router and its experts; without a router it uses the decision it receives."""

    def __init__(self, config: GPTMoEConfig, *, decides: bool = True) -> None:
        super().__init__()
        self.router = Router(config) if decides else None
        self.experts = Experts(config)

    def forward(
        self, hidden: Tensor, mask: Tensor, decision: Decision | None = None, guide: Tensor | None = None
    ) -> tuple[Tensor, Decision]:
        """Return the output (B, T, C) for hidden states (B, T, C) and a padding mask (B, T), and the decision used."""
        if self.router is not None:
            decision = self.router(hidden, mask, guide)
        assert decision is not None  # the model passes the first layer's decision to layers without a router
        flat = hidden.reshape(-1, hidden.shape[-1])
        return self.experts(flat, decision.experts, decision.weights).view_as(hidden), decision


class DenseLayer(nn.Module):
    """The feed-forward layer of the dense baselines."""

    def __init__(self, config: GPTMoEConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, C)."""
        return self.down(F.gelu(self.up(hidden), approximate="tanh"))
