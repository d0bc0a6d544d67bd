"""Whether a checkpoint has the weights of its model: transformers fills in random values for those that are missing."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from specialize.errors import CaptureError
from specialize.text import clean_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHOWN = 3
_KEPT = 20
_LONGEST_NAME = 100
_REMEDY = "get the whole checkpoint and its own config.json"
_NUMBER = re.compile(r"(?:^|\.)\d+(?:\.|$)")


@dataclass(frozen=True)
class Loaded:
    """What loading a checkpoint left open.

    Attributes:
        missing_head: names of the weights of the language-model head that the checkpoint lacks. No routing depends on
            them, but predictions do.
        facts: entries of the manifest about missing and unused weights that were allowed.
    """

    missing_head: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def check_completeness(name: str, model: "PreTrainedModel", info: Mapping[str, Any], *, allow: bool) -> Loaded:
    """Check that a checkpoint has all weights on which routing depends, and none in layers that the model lacks.

    Args:
        name: of the checkpoint.
        model: the loaded model.
        info: what transformers reports of loading it: missing_keys, unexpected_keys and mismatched_keys.
        allow: accept missing weights, which have random values, and unused ones.

    Raises:
        CaptureError: a weight is missing, unused or of another shape.
    """
    for weight, found, expected in sorted(info.get("mismatched_keys", ()), key=lambda each: str(each[0])):
        raise CaptureError(
            f"{name}: expected {_shorten(weight)} of the shape {list(expected)} that its config.json states, got "
            f"{list(found)}; {_REMEDY}"
        )
    missing, unused = set(info.get("missing_keys", ())), set(info.get("unexpected_keys", ()))
    head = {weight for weight in missing if _is_in_head(model, weight)}
    unused = {weight for weight in unused if _is_in_layers(model, weight)}
    if allow:
        both = {"missing_weights": missing, "unused_weights": unused}
        return Loaded(facts={fact: _describe(weights) for fact, weights in both.items() if weights})
    problems = []
    if missing - head:
        problems.append(f"the checkpoint lacks {_list(missing - head)}, which would be random")
    if unused:
        problems.append(f"the model does not use {_list(unused)}")
    if problems:
        raise CaptureError(
            f"{name}: expected a checkpoint with exactly the weights of its model; {' and '.join(problems)}; "
            f"{_REMEDY}, or allow missing weights (--allow-missing-weights)"
        )
    return Loaded(tuple(sorted(map(_shorten, head))))


def check_conversion(name: str, report: Sequence[str]) -> None:
    """Raise CaptureError if the loading report of transformers lists weights that could not be converted.

    Args:
        name: of the checkpoint.
        report: its lines.
    """
    found = [line.partition(" | CONVERSION")[0].strip() for line in report if " | CONVERSION" in line]
    if found:
        raise CaptureError(
            f"{name}: expected the weights that make up {_shorten(found[0])}, got too few, too many or some of other "
            f"shapes; {_REMEDY}"
        )


@contextmanager
def fixed_random_weights(allow: bool) -> Iterator[None]:
    """If missing weights are allowed, let each load fill in the same random values, so that a trace can be resumed."""
    if not allow:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        yield


def _is_in_head(model: "PreTrainedModel", weight: str) -> bool:
    """Return whether a weight belongs to the language-model head, which no layer depends on."""
    try:
        head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return False
    if head is None or head is embeddings:
        return False
    return any(module is head and weight.startswith(f"{path}.") for path, module in model.named_modules() if path)


def _is_in_layers(model: "PreTrainedModel", weight: str) -> bool:
    """Return whether a weight belongs to a numbered stack of layers of the model, whether or not it has this layer."""
    stack, base = _stack_of(weight), f"{model.base_model_prefix}."
    if stack is None:
        return False
    stacks = {_stack_of(name) for name, _ in model.named_parameters()}
    return any(each in stacks for each in (stack, base + stack, stack.removeprefix(base)))


def _stack_of(weight: str) -> str | None:
    number = _NUMBER.search(weight)
    return weight[: number.start()] if number else None


def _describe(weights: Collection[str]) -> dict[str, Any]:
    return {"number": len(weights), "names": [_shorten(weight) for weight in sorted(weights)[:_KEPT]]}


def _list(weights: Collection[str]) -> str:
    names = [_shorten(weight) for weight in sorted(weights)[:_SHOWN]]
    more = ", …" if len(weights) > _SHOWN else ""
    return f"{len(weights)} weight{'s' * (len(weights) != 1)} ({', '.join(names)}{more})"


def _shorten(weight: str) -> str:
    name = clean_text(weight)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
