"""Quantities recorded besides the routing, at a cost: output norms and next-token predictions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from specialize.capture.points import RoutingPoint
from specialize.errors import CaptureError

_POSITIONS_AT_ONCE = 1024
_NONE = -100  # a target that `cross_entropy` ignores


def watch_norms(point: RoutingPoint, receive: Callable[[Tensor], None], *, weighted: bool = True) -> RemovableHandle:
    """Call `receive` with the Euclidean norms of the chosen experts' outputs, float32 [tokens, k].

    For each slot the experts are run once more, with the ids and weights of that slot alone. This works with any
    implementation of the experts and costs about one more pass through them. The first pass checks that the outputs
    of the slots sum to the output of the layer.

    Args:
        point: a routing point at which a module ``experts`` is called with expert ids and gate weights.
        receive: called with the norms of each pass; 0 in a slot without an expert.
        weighted: norms after the multiplication by the gate weight, as they are added up; otherwise before.

    Raises:
        CaptureError: the experts of this routing point cannot be run separately. In the first pass: the outputs do not
            sum to that of the layer.
    """
    check_separable(point)
    checked = False

    def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        nonlocal checked
        choice = point.adapter.read(module, arguments, keywords, output)
        write = point.adapter.write
        if choice is None or write is None:
            return
        gates = choice.weights if weighted else torch.ones_like(choice.weights).masked_fill(choice.experts < 0, 0)
        left = torch.ones_like(choice.weights) if weighted else choice.weights  # what the outputs are yet to be times

        def of_slot(slot: int) -> Tensor:
            one = choice.experts[:, slot : slot + 1].contiguous(), gates[:, slot : slot + 1].contiguous()
            args, kwargs = write(module, arguments, keywords, output, *one)
            result: Tensor = module.forward(*args, **kwargs)
            return result.reshape(-1, result.shape[-1])

        with torch.no_grad():
            parts = [of_slot(slot) for slot in range(choice.experts.shape[1])]
            if not checked:
                whole = output.reshape(-1, output.shape[-1]).float()
                total = sum(part.float() * left[:, slot, None].float() for slot, part in enumerate(parts))
                apart = (total - whole).abs().max()
                if not bool(apart <= 2e-2 * whole.abs().max() + 1e-6):
                    raise CaptureError(
                        f"{point.spec.name}: expected the outputs of the chosen experts to sum to that of the layer, "
                        f"they differ by up to {float(apart):.2g}; leave out norms for this model"
                    )
                checked = True
            receive(torch.stack([part.float().norm(dim=-1) for part in parts], dim=-1))

    return point.module.register_forward_hook(hook, with_kwargs=True)


def check_separable(point: RoutingPoint) -> None:
    """Raise CaptureError if the experts of a routing point cannot be run slot by slot."""
    if point.adapter.when != "before" or point.adapter.write is None:
        raise CaptureError(
            f"{point.spec.name}: its experts cannot be run separately (found by: {point.spec.found_by}); leave out "
            "norms"
        )


def predictions(logits: Tensor, token_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most likely next token of each token, and the loss of the actual one.

    Args:
        logits: [batch, length, vocabulary].
        token_ids: int64 [batch, length].
        mask: [batch, length], 1 for tokens, 0 for the padding after them.

    Returns:
        Predicted ids, int64 [batch * length], -1 where logits are NaN or infinite; and cross-entropy in nats, float32
        [batch * length], NaN for the last token of a sequence, which has no next one.
    """
    predicted = []
    for scores in logits.flatten(0, 1).split(_POSITIONS_AT_ONCE):
        best = scores.argmax(dim=-1)  # NaN counts as the largest
        largest = scores.gather(-1, best.unsqueeze(-1)).squeeze(-1)
        predicted.append(best.masked_fill(~largest.isfinite(), -1))
    return torch.cat(predicted), next_token_losses(logits, token_ids, mask)


def next_token_losses(logits: Tensor, token_ids: Tensor, mask: Tensor) -> Tensor:
    """Return the loss of the actual next token of each token, as `predictions` does."""
    real = token_ids.masked_fill(mask == 0, _NONE)
    following = F.pad(real[:, 1:], (0, 1), value=_NONE).flatten()
    parts = zip(logits.flatten(0, 1).split(_POSITIONS_AT_ONCE), following.split(_POSITIONS_AT_ONCE), strict=True)
    loss = torch.cat([F.cross_entropy(scores.float(), target, reduction="none") for scores, target in parts])
    return loss.masked_fill(following == _NONE, torch.nan)
