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


def watch_norms(point: RoutingPoint, receive: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `receive` with the Euclidean norms of the chosen experts' weighted outputs, float32 [tokens, k].

    For each slot the experts are run once more, with the ids and weights of that slot alone. This works with any
    implementation of the experts and costs about one more pass through them. The first pass checks that the outputs
    of the slots sum to the output of the layer.

    Raises:
        CaptureError: in the first pass, if they do not.
    """
    checked = False

    def hook(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        nonlocal checked
        names, values = list(keywords), [*arguments, *keywords.values()]
        choice = point.adapter.read(module, arguments, keywords, output)
        if choice is None:
            return

        def of_slot(slot: int) -> Tensor:
            one = [values[0], *(value[:, slot : slot + 1].contiguous() for value in values[1:3]), *values[3:]]
            given = len(arguments)
            result: Tensor = module.forward(*one[:given], **dict(zip(names, one[given:], strict=True)))
            return result.reshape(-1, result.shape[-1])

        with torch.no_grad():
            parts = [of_slot(slot) for slot in range(choice.experts.shape[1])]
            if not checked:
                whole = output.reshape(-1, output.shape[-1]).float()
                apart = (sum(part.float() for part in parts) - whole).abs().max()
                if not bool(apart <= 2e-2 * whole.abs().max() + 1e-6):
                    raise CaptureError(
                        f"{point.spec.name}: expected the outputs of the chosen experts to sum to that of the layer, "
                        f"they differ by up to {float(apart):.2g}; leave out norms for this model"
                    )
                checked = True
            receive(torch.stack([part.float().norm(dim=-1) for part in parts], dim=-1))

    return point.module.register_forward_hook(hook, with_kwargs=True)


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
    real = token_ids.masked_fill(mask == 0, -100)
    following = F.pad(real[:, 1:], (0, 1), value=-100).flatten()
    flat = logits.flatten(0, 1)
    predicted, losses = [], []
    for scores, target in zip(flat.split(_POSITIONS_AT_ONCE), following.split(_POSITIONS_AT_ONCE), strict=True):
        best = scores.argmax(dim=-1)  # NaN counts as the largest
        largest = scores.gather(-1, best.unsqueeze(-1)).squeeze(-1)
        predicted.append(best.masked_fill(~largest.isfinite(), -1))
        losses.append(F.cross_entropy(scores.float(), target, reduction="none"))
    loss = torch.cat(losses)
    return torch.cat(predicted), loss.masked_fill(following == -100, torch.nan)
