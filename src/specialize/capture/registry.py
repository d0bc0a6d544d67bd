"""Kinds of layers that the user has described."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from torch import Tensor, nn

from specialize.capture.adapters import named
from specialize.capture.convention import is_integer
from specialize.capture.points import Adapter, Choice
from specialize.errors import CaptureError

Reading = tuple[Tensor, Tensor] | Choice | None
UserRead = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], Reading]

_REGISTERED: dict[type[nn.Module] | str, Adapter] = {}


def registered() -> tuple[Adapter, ...]:
    """Return the registered adapters, the latest first."""
    return tuple(reversed(_REGISTERED.values()))


def list_registered() -> dict[type[nn.Module] | str, Adapter]:
    """Return the registered kinds, which another process can `take_over`."""
    return dict(_REGISTERED)


def take_over(kinds: Mapping[type[nn.Module] | str, Adapter]) -> None:
    """Register kinds that another process has registered, in its order."""
    for kind, adapter in kinds.items():
        _REGISTERED.pop(kind, None)
        _REGISTERED[kind] = adapter


def unregister_router(kind: type[nn.Module] | str) -> None:
    """Remove a kind of layer that `register_router` added.

    Args:
        kind: as it was registered.

    Raises:
        CaptureError: it was not registered.
    """
    if _REGISTERED.pop(kind, None) is None:
        raise CaptureError(f"unregister_router: expected a registered kind of layer, got {_name(kind)}")


def register_router(
    kind: type[nn.Module] | str,
    read: UserRead,
    *,
    num_experts: int | Callable[[nn.Module], int],
    when: Literal["before", "after"] = "after",
    static: bool = False,
    identity_experts: int = 0,
    name: str | None = None,
) -> None:
    """Describe a kind of layer whose routing is not found otherwise, for all functions that capture routing.

    Example: a layer whose router returns gate weights and experts::

        class Router(nn.Linear):
            def forward(self, hidden):
                return super().forward(hidden).softmax(dim=-1).topk(2)

        class TinyMoE(nn.Module):
            def __init__(self, size, num_experts):
                super().__init__()
                self.router = Router(size, num_experts)
                self.weight = nn.Parameter(torch.randn(num_experts, size, size) / size**0.5)

            def forward(self, hidden):
                weights, experts = self.router(hidden)
                return torch.einsum("nk,nkoi,ni->no", weights, self.weight[experts], hidden)

        def read(router, arguments, keywords, output):
            weights, experts = output
            return experts, weights

        specialize.register_router(Router, read, num_experts=lambda router: router.out_features)
        recorder = specialize.attach(TinyMoE(16, 8), (torch.randn(32, 16),))

    Example: the gate of the package ``mixture-of-experts``, which returns the share of each token at each position of
    each expert, [batch, length, E, capacity], zero if the expert was full::

        from specialize.capture import Choice

        def read(gate, arguments, keywords, output):
            shares = output[1].sum(dim=-1).flatten(0, 1)
            weights, experts = shares.topk(2)
            return Choice(experts.masked_fill(weights == 0, -1), weights, hidden=arguments[0].flatten(0, 1))

        specialize.register_router("Top2Gating", read, num_experts=lambda gate: gate.num_gates)

    Registered kinds take precedence over the built-in ones; modules inside such a layer and beside it are not routing
    points of their own. Registering a kind again replaces its description.

    Args:
        kind: the class of the layer or of its router, or the name of that class.
        read: called with (module, arguments, keywords, output) in each forward pass; returns (experts, weights),
            integer and floating [tokens, k], tokens in row-major [batch, position] order, -1 and 0 in a slot
            without an expert; or a `Choice`, whose hidden states the control needs; or None if this call made no
            decision.
        num_experts: E, or a function that returns it for a module.
        when: read before the module runs, from its arguments (the output is None), or after.
        static: whether the choice depends on the token id alone.
        identity_experts: how many of the E experts, the last ones, return their input unchanged.
        name: the name that ``inspect`` shows; default: the class.

    Raises:
        CaptureError: an argument is invalid. When the layer runs: `read` fails, or returns something else than
            described.
    """
    title = name or _name(kind)
    if not (isinstance(kind, str) or (isinstance(kind, type) and issubclass(kind, nn.Module))):
        raise CaptureError(f"register_router: expected a class of torch modules or the name of one, got {kind!r}")
    if when not in ("before", "after"):
        raise CaptureError(f"register_router: {title}: when: expected 'before' or 'after', got {when!r}")
    if not callable(read):
        raise CaptureError(f"register_router: {title}: read: expected a function, got {type(read).__name__}")
    if not callable(num_experts) and (not isinstance(num_experts, int) or num_experts < 1):
        raise CaptureError(
            f"register_router: {title}: num_experts: expected a positive number or a function, got {num_experts!r}"
        )
    _REGISTERED.pop(kind, None)  # to the end, because the latest takes precedence
    _REGISTERED[kind] = Adapter(
        name=title,
        matches=named(kind) if isinstance(kind, str) else lambda path, module: isinstance(module, kind),
        read=_checked(title, read),
        num_experts=num_experts if callable(num_experts) else lambda module: num_experts,
        when=when,
        identity_experts=lambda module: identity_experts,
        static=lambda module: static,
    )


def _checked(title: str, read: UserRead) -> Callable[..., Choice | None]:
    def checked(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> Choice | None:
        try:
            got = read(module, arguments, keywords, output)
        except Exception as error:  # the message names the user's function, whatever went wrong in it
            raise CaptureError(f"{title}: its read function failed: {type(error).__name__}: {error}") from error
        if got is None:
            return None
        parts = (got.experts, got.weights) if isinstance(got, Choice) else got
        if not (isinstance(parts, tuple) and len(parts) == 2 and all(isinstance(part, Tensor) for part in parts)):
            raise CaptureError(f"{title}: read: expected (experts, weights) or a Choice, got {_describe(got)}")
        experts, weights = parts
        follows = experts.dim() == 2 and is_integer(experts) and weights.is_floating_point()
        if not follows or weights.shape != experts.shape:
            raise CaptureError(
                f"{title}: read: expected integer experts [tokens, k] and floating weights of the same shape, got "
                f"{_describe(experts)} and {_describe(weights)}"
            )
        return got if isinstance(got, Choice) else Choice(experts, weights)

    return checked


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_describe, value))})"
    return type(value).__name__


def _name(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)
