"""Finds the routing points of a model by its structure, and proves them with a verification pass.

Registered kinds of layers take precedence over the built-in families, and those over the convention. Decisions are not
recomputed from router logits, from which the choices of about half of the families cannot be recovered.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from specialize.capture.adapters import BUILT_IN
from specialize.capture.calls import unseen
from specialize.capture.convention import CONVENTION, count_experts
from specialize.capture.invalid import REMEDY
from specialize.capture.points import Adapter, Choice, LogitsSource, RoutingPoint
from specialize.capture.registry import registered
from specialize.capture.scores import UNKNOWN, find_score_function, sums_to_one
from specialize.capture.verification import (
    Candidate,
    Inputs,
    Neighbour,
    check_hookable,
    encoder_of,
    paths_above,
    run_verification_pass,
)
from specialize.errors import CaptureError
from specialize.trace import RouterSpec

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
REGISTER = "describe other kinds of layers with specialize.register_router"


@dataclass(frozen=True)
class _Finding:
    """What was learned of a routing point from its decision."""

    choice: Choice
    score_function: str
    logits: LogitsSource | None
    router: Neighbour | None


def find_routers(model: nn.Module, inputs: Inputs | None = None) -> tuple[RoutingPoint, ...]:
    """Find the routing points of a model and prove each of them in one short forward pass, the verification pass.

    A part of the model that the pass does not enter, such as the vision experts of a multimodal model, is left out.
    Recorders that are attached to the model do not see the pass.

    Args:
        model: a language model that takes ``input_ids``, or any module if `inputs` are given.
        inputs: keywords or a tuple of arguments to call the model with; default: a few token ids.

    Returns:
        The routing points in the order of their decisions, with specifications learned in the pass.

    Raises:
        CaptureError: the model has no routing, a module that resembles a routing point made no decision or several,
            gate weights are not finite, or the model is compiled, has no weights, or cannot be run.
    """
    check_hookable(model)
    candidates = _find_candidates(model)
    if not candidates:
        raise CaptureError(
            f"{type(model).__name__}: expected Mixture-of-Experts layers, found no module named 'experts'; a dense "
            f"model has no routing to trace; {REGISTER}"
        )
    with unseen(model):
        decided, called = run_verification_pass(model, candidates, inputs)
    _check_decisions(model, candidates, called)
    points: list[RoutingPoint] = []
    before: _Finding | None = None
    encoder = _paths_in_encoder(model)
    for order, candidate in enumerate(candidates[path] for path in decided):
        if inputs is None:  # without padding, whose routing may be anything
            _check_finite(candidate)
        finding = _learn(candidate, before)
        points.append(_point(model, candidate, finding, order, in_encoder=candidate.path in encoder))
        before = finding
    return tuple(points)


def _find_candidates(model: nn.Module) -> dict[str, Candidate]:
    modules = dict(model.named_modules())
    claimed: dict[str, Adapter] = {}
    for adapters in (registered(), BUILT_IN, (CONVENTION,)):
        taken = set(claimed)
        above = {path for claim in taken for path in paths_above(claim)}
        blocks = {claim.rpartition(".")[0] for claim in taken if claim}
        blocks -= {path for path in blocks if isinstance(modules[path], CONTAINERS)}
        for path, module in modules.items():
            if path in taken or path in above or path.rpartition(".")[0] in blocks:
                continue
            if taken.intersection(paths_above(path)):
                continue
            adapter = next((adapter for adapter in adapters if adapter.matches(path, module)), None)
            if adapter is not None:
                claimed[path] = adapter
    return {
        path: Candidate(path, module, claimed[path], _declared_experts(claimed[path], module))
        for path, module in modules.items()
        if path in claimed
    }


def _declared_experts(adapter: Adapter, module: nn.Module) -> int | None:
    try:
        return adapter.num_experts(module)
    except CaptureError:
        return None  # reported once the module is known to route


def _check_decisions(model: nn.Module, candidates: Mapping[str, Candidate], called: Collection[str]) -> None:
    """Raise CaptureError unless each candidate made one decision, or belongs to a part that the pass did not need."""
    silent = [path for path, candidate in candidates.items() if not candidate.choices]
    deciding = {path for path in candidates if path not in silent}
    unexcused = [path for path in silent if not deciding or not _is_excused(model, path, deciding, called)]
    if unexcused:
        raise CaptureError(
            f"{type(model).__name__}: {len(unexcused)} of {len(candidates)} "
            + _describe_silence(unexcused[0], candidates[unexcused[0]].adapter)
        )
    for path, candidate in candidates.items():
        if len(candidate.choices) > 1:
            raise CaptureError(
                f"{path or type(model).__name__}: expected one routing decision in a pass, got "
                f"{len(candidate.choices)}; layers that are shared between several depths are not supported"
            )


def _describe_silence(first: str, adapter: Adapter) -> str:
    where = f"in the verification pass (the first is {first or 'the model itself'})"
    if adapter is not CONVENTION:
        return f"routing points of {adapter.name} made no routing decision {where}; check that the model calls them"
    return (
        f"modules named 'experts' received no routing decision {where}: expected calls with hidden states, expert ids "
        "[tokens, k] and weights [tokens, k]. If the model is compiled, attach before torch.compile; if it runs "
        f"kernels from the hub, load it with use_kernels=False; else {REGISTER}"
    )


def _is_excused(model: nn.Module, path: str, deciding: Collection[str], called: Collection[str]) -> bool:
    """Return whether a candidate without a decision belongs to a part that the pass did not need.

    Such a part is a tower, above the numbered layers, that was not called; or a block that was not called while
    another one of its class beside it was, such as experts for another modality.
    """
    above = paths_above(path)
    for tower in above[1:-1]:
        numbered = any(part.isdigit() for part in tower.split("."))
        if not numbered and tower not in called and not isinstance(model.get_submodule(tower), CONTAINERS):
            return True
    if len(above) < 2 or above[-1] in called:
        return False
    block, around = model.get_submodule(above[-1]), above[-2]
    twins = [
        f"{around}.{name}".lstrip(".")
        for name, module in model.get_submodule(around).named_children()
        if type(module) is type(block) and not isinstance(model.get_submodule(around), CONTAINERS)
    ]
    return any(twin in called and any(path.startswith(f"{twin}.") for path in deciding) for twin in twins)


def _check_finite(candidate: Candidate) -> None:
    """Raise CaptureError if gate weights are not finite, or router logits are NaN."""
    choice = candidate.choices[0]
    checks = [("gate weights", choice.weights, ~choice.weights.isfinite() & (choice.experts >= 0))]
    for neighbour in candidate.neighbours:
        scores = [values.reshape(-1, values.shape[-1]) for _, values in neighbour.scores]
        checks += [("router logits", values, values.isnan()) for values in scores]
    for name, values, wrong in checks:
        if bool(wrong.any()):
            token, column = wrong.nonzero()[0].tolist()
            raise CaptureError(
                f"{candidate.path or candidate.adapter.name}: expected finite {name}, got "
                f"{float(values[token, column])} for token {token} of the verification pass; {REMEDY}"
            )


def _learn(candidate: Candidate, before: _Finding | None) -> _Finding:
    choice = candidate.choices[0]
    if not choice.experts.numel():
        raise CaptureError(
            f"{candidate.path or candidate.adapter.name}: expected at least one expert per token, got none; set the "
            "number of experts per token in the configuration of the model"
        )
    num_experts = candidate.num_experts
    if num_experts is None:
        num_experts = candidate.adapter.num_experts(candidate.module)  # its error says what is missing
    lowest, highest = int(choice.experts.min()), int(choice.experts.max())
    if lowest < -1 or highest >= num_experts:
        raise CaptureError(
            f"{candidate.path or candidate.adapter.name} ({candidate.adapter.name}): expected expert ids of 0 to "
            f"{num_experts - 1}, or -1 for none, got {lowest} to {highest}"
        )
    outputs = [scores for neighbour in candidate.neighbours for scores in neighbour.scores]
    if choice.logits is not None:
        outputs = [(None, choice.logits)]
    name, logits = find_score_function(choice, outputs, num_experts)
    if name == UNKNOWN and before is not None and _same(choice, before.choice):
        return _Finding(choice, before.score_function, before.logits, None)  # it follows the layer before it
    return _Finding(choice, name, logits, _router_beside(candidate, logits))


def _router_beside(candidate: Candidate, logits: LogitsSource | None) -> Neighbour | None:
    experts = candidate.choices[0].experts
    for neighbour in candidate.neighbours:
        if logits is not None and any(source is logits for source, _ in neighbour.scores):
            return neighbour
        if any(ids.numel() == experts.numel() and torch.equal(ids.view_as(experts), experts) for ids in neighbour.ids):
            return neighbour
    return None


def _point(model: nn.Module, candidate: Candidate, finding: _Finding, order: int, *, in_encoder: bool) -> RoutingPoint:
    adapter, module, router = candidate.adapter, candidate.module, finding.router
    spec = RouterSpec(
        layer=_layer_number(candidate.path, order),
        name=candidate.path or type(module).__name__,
        num_experts=candidate.num_experts or count_experts(module),
        top_k=finding.choice.experts.shape[1],
        score_function=finding.score_function,
        normalized=sums_to_one(finding.choice),
        static=adapter.static(module) or (router is not None and router.read_ids),
        unit=getattr(getattr(model, "config", None), "routing_unit", "token"),
        stack="encoder" if in_encoder else "decoder",
        identity_experts=adapter.identity_experts(module),
        found_by=adapter.name,
    )
    own = router is not None and router.hidden is not None and not _are_equal(router.hidden, finding.choice.hidden)
    return RoutingPoint(spec, module, adapter, finding.logits, router.module if router and own else None)


def _are_equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    return other is not None and one.shape == other.shape and torch.equal(one.float(), other.float())


def _paths_in_encoder(model: nn.Module) -> set[str]:
    encoder = encoder_of(model)
    inside = set(encoder.modules()) if encoder is not None else set()
    return {path for path, module in model.named_modules() if module in inside}


def _layer_number(path: str, order: int) -> int:
    """Return the model's own number of the layer: the first number in the module's path."""
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return int(number.group(1)) if number else order


def _same(one: Choice, other: Choice) -> bool:
    return torch.equal(one.experts, other.experts) and torch.equal(one.weights, other.weights)
