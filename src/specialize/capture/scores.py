"""Telling by measurement how router logits become gate weights, and where the logits can be read."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from specialize.capture.points import Choice, LogitsSource

SCORE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=-1),
    "sigmoid": lambda logits: logits.sigmoid(),
    "sqrtsoftplus": lambda logits: nn.functional.softplus(logits).sqrt(),
    "identity": lambda scores: scores,
}
UNKNOWN = "unknown"
ROUNDING = 1e-5  # a better fit than this is luck
SCORES_HANDICAP = 10.0  # logits are preferred to the scores made of them


def find_score_function(
    choice: Choice, outputs: Iterable[tuple[LogitsSource | None, Tensor]], num_experts: int
) -> tuple[str, LogitsSource | None]:
    """Find which function of which output gives the gate weights, up to a factor for each token.

    With one slot a factor for each token would fit anything: there it must be the same for all tokens. Logits are
    preferred to scores, of which the weights are the identity.

    Args:
        choice: a decision, not of one token only.
        outputs: what modules returned, floating [..., E or more], and where; None where it came with the decision.
        num_experts: E.

    Returns:
        Name of the function or "unknown", and where its logits are; None where they are nowhere beside the decision.
    """
    fits: list[tuple[float, bool, str, LogitsSource | None]] = []
    for source, output in outputs:
        scores = output.float().reshape(-1, output.shape[-1])
        if len(scores) != len(choice.experts) or scores.shape[1] < num_experts:
            continue
        tolerance = 1e-3 if torch.float32 in (output.dtype, choice.weights.dtype) else 2e-2
        for name, function in SCORE_FUNCTIONS.items():
            spread = _spread(choice, function(scores))
            if spread < tolerance:
                given = name == "identity"
                handicap = SCORES_HANDICAP if given else 1.0
                whole = not given and scores.shape[1] == num_experts
                fits.append((max(spread, ROUNDING) * handicap, given, name, source if whole else None))
    if not fits:
        return UNKNOWN, None
    best, _, name, source = min(fits, key=lambda fit: fit[:2])
    rivals = {other for spread, given, other, _ in fits if not given and spread <= 10 * best}
    return (name if rivals <= {name} else UNKNOWN), source  # near zero logits all functions look alike


def sums_to_one(choice: Choice) -> bool:
    """Whether the gate weights of each token sum to one; a token without an expert in some slot does not count."""
    complete = (choice.experts >= 0).all(dim=-1)
    sums = choice.weights[complete].float().sum(dim=-1)
    return bool(len(sums)) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _spread(choice: Choice, scores: Tensor) -> float:
    """How far weights are from proportional to scores: the largest relative range of their ratios in a token."""
    taken = choice.experts >= 0
    factors = choice.weights.float() / scores.gather(1, choice.experts.long().clamp(min=0))
    if factors.shape[1] == 1:
        factors, taken = factors.T, taken.T
    some = taken.sum(dim=1) > 1
    if not bool(some.any()):
        return torch.inf
    factors, taken = factors[some], taken[some]
    largest = factors.masked_fill(~taken, -torch.inf).amax(dim=1)
    smallest = factors.masked_fill(~taken, torch.inf).amin(dim=1)
    spread = ((largest - smallest) / (largest + smallest).abs() * 2).amax()
    return torch.inf if bool(spread.isnan()) else float(spread)
