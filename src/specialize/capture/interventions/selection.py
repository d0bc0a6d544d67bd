"""The top-k by which a router selects, seen and changed while the model's own code runs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from specialize.capture.points import Choice, RoutingPoint
from specialize.trace import NO_EXPERT, RouterSpec

_TOP_K = (torch.topk, torch.Tensor.topk)


class Selection(TorchFunctionMode):
    """While it is active, takes experts out of the top-k over the experts' scores.

    It recognises the selection by its form: the k largest of E scores along the last dimension (E + 1 if there is a
    class for no expert). Rows without such an expert are as the model selects them, to the bit.

    Args:
        spec: the router.
        dropped: returns the experts to take out, bool [E + 1], on a device; None to look on only.

    Attributes:
        before: integer [rows, k], the experts that the model would have selected; None if nothing was selected.
        after: those that it selects.
        exhausted: number of slots for which no expert with a score was left.
    """

    def __init__(self, spec: RouterSpec, dropped: Callable[[torch.device], Tensor] | None = None) -> None:
        super().__init__()
        self._spec = spec
        self._dropped = dropped
        self.before: Tensor | None = None
        self.after: Tensor | None = None
        self.exhausted: Tensor | int = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function; the top-k twice, without and with the experts."""
        given = kwargs or {}
        result = func(*args, **given)
        if func not in _TOP_K:
            return result
        scores = args[0] if args else given["input"]
        if not self._selects(scores, result.indices):
            return result
        self.before = self.after = result.indices.reshape(-1, self._spec.top_k)
        if self._dropped is None:
            return result
        dropped = self._dropped(scores.device)[: scores.shape[-1]]
        masked = scores.masked_fill(dropped, -torch.inf)
        other = func(masked, *args[1:], **given) if args else func(**(given | {"input": masked}))
        hit = dropped[result.indices].any(dim=-1, keepdim=True)
        values = torch.where(hit, other.values, result.values)
        indices = torch.where(hit, other.indices, result.indices)
        self.after = indices.reshape(-1, self._spec.top_k)
        self.exhausted = (values.isneginf() & ~result.values.isneginf()).sum()
        return type(result)((values, indices))

    def _selects(self, scores: Tensor, indices: Tensor) -> bool:
        wide = scores.shape[-1] - self._spec.num_experts in (0, 1)
        return wide and scores.is_floating_point() and indices.shape == (*scores.shape[:-1], self._spec.top_k)

    def explains(self, choice: Choice) -> bool:
        """Return whether the selected experts are those of a decision."""
        if self.after is None or len(choice.experts) % len(self.after):
            return False
        each = len(choice.experts) // len(self.after)  # tokens for which one decision is made
        selected = self.after.repeat_interleave(each, dim=0).to(choice.experts.dtype)
        selected = selected.masked_fill(selected == self._spec.num_experts, NO_EXPERT)
        return torch.equal(selected.sort(dim=-1).values, choice.experts.sort(dim=-1).values)


def watch_selection(
    model: nn.Module,
    point: RoutingPoint,
    begin: Callable[[], Selection | None],
    end: Callable[[Selection, Choice], None],
) -> list[Any]:
    """Hook a routing point so that a selection is active from the start of its block until its decision.

    Args:
        model: the model.
        point: the routing point.
        begin: returns the selection to activate; None for none.
        end: called with it and the decision.

    Returns:
        The handles of the hooks.
    """
    module, adapter = point.module, point.adapter
    before = adapter.when == "before"
    block = model.get_submodule(point.spec.name.rpartition(".")[0]) if before else module
    active: list[Selection] = []

    def enter(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        selection = begin()
        if selection is not None:
            selection.__enter__()
            active.append(selection)

    def leave() -> Selection | None:
        if not active:
            return None
        selection = active.pop()
        selection.__exit__(None, None, None)
        return selection

    def decide(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any = None) -> None:
        selection = leave()
        choice = adapter.read(module, arguments, keywords, output)
        if selection is not None and choice is not None:
            end(selection, choice)

    entering = block.register_forward_pre_hook(enter)
    if before:
        deciding = module.register_forward_pre_hook(decide, with_kwargs=True, prepend=True)
    else:
        deciding = module.register_forward_hook(decide, with_kwargs=True, prepend=True)
    # whatever happens, the selection does not outlive its block
    leaving = block.register_forward_hook(lambda *_: leave() and None, always_call=True)
    return [entering, deciding, leaving]
