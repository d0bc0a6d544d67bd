"""Routing points of a model, and how a decision is read there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from specialize.trace import RouterSpec


@dataclass(frozen=True)
class Choice:
    """One routing decision.

    Attributes:
        experts: integer [tokens, k], in the model's rank order; -1 in a slot that was dropped or skipped.
        weights: floating [tokens, k] gate weights; 0 in a slot without an expert.
        hidden: floating [tokens, hidden size], the input of the router; None if unavailable.
        logits: floating [tokens, E] router logits, if they are part of the decision.
    """

    experts: Tensor
    weights: Tensor
    hidden: Tensor | None = None
    logits: Tensor | None = None


Read = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Choice | None]
Write = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any, Tensor, Tensor], Any]


@dataclass(frozen=True)
class Adapter:
    """How routing is found and read in one family of models.

    Attributes:
        name: the family, as `inspect` shows it.
        matches: whether a module, given its path in the model, is a routing point of this family.
        read: returns the decision from (module, arguments, keywords, output), None if the call made none. The output
            is None if the decision is read before the module runs.
        num_experts: returns E of a module.
        write: given what `read` is given, and other experts and weights [tokens, k], returns what the module is to be
            called with, (arguments, keywords), or to return, as `when` says; None if the decision cannot be changed.
        when: read the decision from the module's arguments (before) or from its output (after).
        identity_experts: how many of a module's experts, the last ones, return their input unchanged.
        static: whether a module chooses by token id alone.
        gives_logits: whether `read` fills in the router logits.
        warning: what a user must know about this family's routing.
    """

    name: str
    matches: Callable[[str, nn.Module], bool]
    read: Read
    num_experts: Callable[[nn.Module], int]
    write: Write | None = None
    when: Literal["before", "after"] = "after"
    identity_experts: Callable[[nn.Module], int] = lambda module: 0
    static: Callable[[nn.Module], bool] = lambda module: False
    gives_logits: bool = False
    warning: str | None = None


@dataclass(frozen=True)
class LogitsSource:
    """An output that holds router logits, of a module beside the experts.

    Attributes:
        module: the module, usually the router.
        index: position in its output tuple; None if it returns a single tensor.
    """

    module: nn.Module
    index: int | None

    def watch(self, receive: Callable[[Tensor], None]) -> RemovableHandle:
        """Call `receive` with the logits, [..., E], of each forward pass."""

        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            receive(output if self.index is None else output[self.index])

        return self.module.register_forward_hook(hook)


@dataclass(frozen=True)
class RoutingPoint:
    """A module at which a routing decision can be read.

    Attributes:
        spec: the description of the router.
        module: the module to hook.
        adapter: reads its decision.
        logits: the source of its router logits, if they are available apart from the decision.
        router: the router, if it decides from other hidden states than its experts receive.
    """

    spec: RouterSpec
    module: nn.Module
    adapter: Adapter
    logits: LogitsSource | None = None
    router: nn.Module | None = None

    def watch(self, receive: Callable[[Choice], None]) -> RemovableHandle:
        """Call `receive` with each decision when it is made; its tensors are the model's own, not copies."""
        if self.router is None:
            return watch(self.module, self.adapter, receive)
        read: list[Tensor] = []

        def note(router: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            hidden = first_tensor(arguments, keywords)
            read[:] = [hidden.reshape(-1, hidden.shape[-1])]

        def complete(choice: Choice) -> None:
            receive(replace(choice, hidden=read.pop() if read else None))

        noting = self.router.register_forward_pre_hook(note, with_kwargs=True)
        return _Handles(noting, watch(self.module, self.adapter, complete))


class _Handles(RemovableHandle):
    """Several hooks that are removed together."""

    def __init__(self, *handles: RemovableHandle) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def tensors_of(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors among the arguments of a call, in order."""
    return [value for value in (*arguments, *keywords.values()) if isinstance(value, Tensor)]


def first_tensor(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """Return the first tensor among the arguments of a call: by custom, the hidden states."""
    return tensors_of(arguments, keywords)[0]


def watch(module: nn.Module, adapter: Adapter, receive: Callable[[Choice], None]) -> RemovableHandle:
    """Hook a module so that `receive` is called with each decision that the adapter reads there."""
    read = adapter.read

    def before(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        choice = read(module, arguments, keywords, None)
        if choice is not None:
            receive(choice)

    def after(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
        choice = read(module, arguments, keywords, output)
        if choice is not None:
            receive(choice)

    if adapter.when == "before":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after, with_kwargs=True)
