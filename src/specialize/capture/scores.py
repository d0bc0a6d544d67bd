"""Determines from a pass which function turns router logits into gate weights, and which output holds the logits."""

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
ROUNDING = 1e-5  # fits better than this are equally good
SCORES_HANDICAP = 10.0  # logits are preferred to the scores computed from them


def find_score_function(
    choice: Choice, outputs: Iterable[tuple[LogitsSource | None, Tensor]], num_experts: int
) -> tuple[str, LogitsSource | None]:
    """Find which function of which output equals the gate weights, up to a factor for each token.

    With one slot any function would fit with a factor for each token, so the factor must be the same for all tokens.
    Logits are preferred to scores, of which the weights are the identity.

    Args:
        choice: a decision for more than one token.
        outputs: outputs of modules, floating [..., E or more], with their sources; None for one that is part of the
            decision.
        num_experts: E.

    Returns:
        Name of the function or ``unknown``, and the source of its logits; None if there is none apart from the
        decision.
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
    return (name if rivals <= {name} else UNKNOWN), source  # for logits near zero all functions are alike


def sums_to_one(choice: Choice) -> bool:
    """Return whether the gate weights of each token sum to one; tokens with an empty slot are ignored."""
    complete = (choice.experts >= 0).all(dim=-1)
    sums = choice.weights[complete].float().sum(dim=-1)
    return bool(len(sums)) and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _spread(choice: Choice, scores: Tensor) -> float:
    """Return how far weights are from proportional to scores: the largest relative range of a token's ratios."""
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
