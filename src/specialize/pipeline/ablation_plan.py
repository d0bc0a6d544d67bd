"""Which experts an ablation switches off: single ones, sets that lead a label, and the first of a ranking."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from specialize.choices import InterventionMode, Ranking, check_choice, check_whole
from specialize.errors import MeasurementError, did_you_mean
from specialize.pipeline.stage import check_at_least

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RouterSpec, RoutingTrace
    from specialize.trace.ablation import Condition, LeadingSet, Removal

FEWEST_USES = 20  # tokens of a label that an expert needs to lead it
Pairs = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class AblationOptions:
    """What is switched off, and how; the attributes are the arguments of `ablate`.

    Raises:
        MeasurementError: a value is out of range, or there is nothing to switch off.
    """

    singles: bool = True
    layers: Sequence[int] | None = None
    experts: Sequence[int] | None = None
    labels: Sequence[str] | None = None
    top: int = 2
    random: int = 20
    rankings: Sequence[str] = ()
    mode: InterventionMode = "drop"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, InterventionMode, error=MeasurementError)
        for name in ("top", "random"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("seed", self.seed, 0)
        for each in self.rankings:
            check_choice("ranking", each, Ranking, error=MeasurementError)
        for name in ("layers", "experts"):
            for value in getattr(self, name) or ():
                check_whole(name, value, error=MeasurementError)
        if not (self.singles or self.labels or self.rankings):
            raise MeasurementError(
                "expected experts to switch off, got none: allow singles, or give labels or rankings"
            )


@dataclass(frozen=True)
class Usage:
    """How the documents that are run again use the experts.

    Attributes:
        routers: the routers whose experts are switched off.
        experts: experts of each token by name of the router, int16 [tokens, k].
        documents: document of each token, integers [tokens].
        rows: row of each token in the trace, int64 [tokens].
    """

    routers: "Sequence[RouterSpec]"
    experts: dict[str, NDArray[np.int16]]
    documents: NDArray[np.integer]
    rows: NDArray[np.int64]

    def loads(self) -> list[NDArray[np.float64]]:
        """Count the tokens of each expert, float64 [router][expert]."""
        return [
            np.bincount(chosen[chosen >= 0], minlength=router.num_experts).astype(np.float64)
            for router, chosen in ((router, self.experts[router.name]) for router in self.routers)
        ]

    def count_labels(self, annotation: "Annotation") -> list[NDArray[np.int64]]:
        """Count the tokens of each label at each expert, int64 [router][label, expert]."""
        codes = annotation.codes[self.rows if annotation.level == "token" else self.documents]
        counted = []
        for router in self.routers:
            counts = np.zeros((len(annotation.labels), router.num_experts), dtype=np.int64)
            for chosen in self.experts[router.name].T:
                used = (chosen >= 0) & (codes >= 0)
                np.add.at(counts, (codes[used], chosen[used]), 1)
            counted.append(counts)
        return counted


def choose_routers(trace: "RoutingTrace", layers: Sequence[int] | None) -> "tuple[RouterSpec, ...]":
    """Return the model's routers in some layers, by default in all."""
    known = {router.layer for router in trace.layers}
    unknown = [layer for layer in layers or () if layer not in known]
    if unknown:
        names = ", ".join(map(str, sorted(known)))
        raise MeasurementError(f"layers: expected layers with a router ({names}), got {unknown[0]}")
    return tuple(router for router in trace.layers if layers is None or router.layer in layers)


def single_experts(routers: "Sequence[RouterSpec]", experts: Sequence[int] | None) -> list[Pairs]:
    """Return each expert of each router alone, or those of some numbers."""
    most = max(router.num_experts for router in routers)
    wrong = [expert for expert in experts or () if not 0 <= expert < most]
    if wrong:
        raise MeasurementError(f"experts: expected numbers from 0 to {most - 1}, got {wrong[0]}")
    return [
        ((router.name, expert),)
        for router in routers
        for expert in range(router.num_experts)
        if experts is None or expert in experts
    ]


def find_leading_sets(
    usage: Usage, annotations: "dict[str, Annotation]", options: AblationOptions
) -> "tuple[list[LeadingSet], list[str]]":
    """Find the sets that lead the labels that were asked for, and draw random sets of their load.

    A set has the `top` experts of each layer with the largest lift P(label | expert) / P(label), of those that at least
    20 tokens of the label use.

    Args:
        usage: how the documents use the experts.
        annotations: the label sets of the run.
        options: labels, top, random and seed.

    Returns:
        The sets, and why labels have none.

    Raises:
        MeasurementError: there is no such label set or label, or all experts of a layer would be switched off.
    """
    from specialize.measure.estimators.matched_sets import draw_matched_sets
    from specialize.trace.ablation import LeadingSet

    found, notes = [], []
    loads = usage.loads()
    fewest = min(router.num_experts for router in usage.routers)
    if options.labels and options.top >= fewest:
        raise MeasurementError(f"top: expected fewer than the {fewest} experts of a layer, got {options.top}")
    asked = _resolve(options.labels or (), annotations)
    counted = {name: usage.count_labels(annotations[name]) for name, _ in asked}
    for name, label in asked:
        experts = _lead(usage.routers, counted[name], annotations[name].labels.index(label), options.top)
        if not experts:
            notes.append(f"{name}={label}: no expert is used by {FEWEST_USES} of its tokens")
            continue
        places = {router.name: place for place, router in enumerate(usage.routers)}
        chosen = [(places[router], expert) for router, expert in experts]
        sets = draw_matched_sets(loads, chosen, count=options.random, seed=options.seed).sets
        random = tuple(tuple((usage.routers[place].name, expert) for place, expert in each) for each in sets)
        if len(random) < options.random:
            notes.append(f"{name}={label}: {len(random)} random sets, as no more different ones exist")
        found.append(LeadingSet(name, label, experts, random))
    return found, notes


def _resolve(labels: Sequence[str], annotations: "dict[str, Annotation]") -> list[tuple[str, str]]:
    """Return (label set, label) of each ``SET=LABEL``, and of all labels of each ``SET``."""
    pairs: dict[tuple[str, str], None] = {}
    for given in labels:
        name, equals, label = given.partition("=")
        if name not in annotations:
            known = ", ".join(annotations) or "none"
            raise MeasurementError(
                f"label: expected a label set of the run ({known}), got {name!r}."
                + did_you_mean(name, list(annotations))
            )
        names = annotations[name].labels
        if equals and label not in names:
            raise MeasurementError(
                f"label: expected a label of {name} ({', '.join(names[:12])}), got {label!r}."
                + did_you_mean(label, list(names))
            )
        pairs |= dict.fromkeys((name, each) for each in ([label] if equals else names))
    return list(pairs)


def _lead(routers: "Sequence[RouterSpec]", counted: Sequence[NDArray[np.int64]], code: int, top: int) -> Pairs:
    """Return the experts with the largest lift for a label, the `top` of each layer, from `Usage.count_labels`."""
    pairs: list[tuple[str, int]] = []
    for router, counts in zip(routers, counted, strict=True):
        # the lift but for P(label), which is the same for all experts
        lift = np.where(counts[code] >= FEWEST_USES, counts[code] / np.maximum(counts.sum(axis=0), 1), -1.0)
        best = np.argsort(-lift, kind="stable")[:top]
        pairs += [(router.name, int(expert)) for expert in sorted(best) if lift[expert] >= 0]
    return tuple(pairs)


def make_removals(
    usage: Usage, saliency: "pd.DataFrame | None", annotations: "dict[str, Annotation]", *, options: AblationOptions
) -> "tuple[list[Removal], list[str]]":
    """Rank the experts of all layers together, and take the first 1, 2, 4, … of them, up to half.

    Args:
        usage: how the documents use the experts.
        saliency: the saliency of each expert; None if it could not be measured.
        annotations: the label sets of the run, of which the first of tokens gives the lift.
        options: rankings, mode and seed.

    Returns:
        The sets to switch off, and why rankings have none.
    """
    from specialize.trace.ablation import Removal

    loads = usage.loads()
    pairs = [(router.name, expert) for router in usage.routers for expert in range(router.num_experts)]
    found, notes = [], []
    for ranking in dict.fromkeys(options.rankings):
        scores = _score(ranking, usage, saliency, annotations, np.concatenate(loads), options.seed)
        if scores is None:
            needed = "labels of tokens" if ranking == "lift" else "experts that can be run separately"
            notes.append(f"ranking by {ranking} is left out: it needs {needed}")
            continue
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
        for count in 2 ** np.arange(int(np.log2(max(len(order) // 2, 1))) + 1):
            experts = tuple(pairs[place] for place in order[:count])
            if options.mode in ("reroute", "replace") and not _leaves_enough(usage.routers, experts):
                notes.append(f"ranking by {ranking}: mode {options.mode}: {count} experts leave too few in a layer")
                break
            found.append(Removal(ranking, experts))
    return found, notes


def _leaves_enough(routers: "Sequence[RouterSpec]", experts: Pairs) -> bool:
    """Return whether each router keeps as many experts as a token chooses."""
    taken = Counter(router for router, _ in experts)
    return all(router.num_experts - taken[router.name] >= router.top_k for router in routers)


def _score(
    ranking: str,
    usage: Usage,
    saliency: "pd.DataFrame | None",
    annotations: "dict[str, Annotation]",
    load: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64] | None:
    """Return the score of each expert of all routers, float64 [experts]; None if it cannot be computed."""
    if ranking == "load":
        return load
    if ranking == "random":
        return np.random.default_rng(seed).permutation(len(load)).astype(np.float64)
    if ranking == "saliency":
        if saliency is None:
            return None
        by_router = dict(list(saliency.sort_values("expert").groupby("router")["saliency"]))
        return np.concatenate([by_router[router.name].to_numpy() for router in usage.routers])
    annotation = next((each for each in annotations.values() if each.level == "token"), None)
    return None if annotation is None else np.concatenate(_largest_lifts(usage, annotation))


def _largest_lifts(usage: Usage, annotation: "Annotation") -> list[NDArray[np.float64]]:
    """Return the largest lift of any label in each expert, float64 [router][expert]; 0 with few tokens of all."""
    codes = annotation.codes[usage.rows]
    shares = np.bincount(codes[codes >= 0], minlength=len(annotation.labels)) / max((codes >= 0).sum(), 1)
    largest = []
    for counts in usage.count_labels(annotation):
        with np.errstate(divide="ignore", invalid="ignore"):
            lift = counts / counts.sum(axis=0) / shares[:, None]
        largest.append(np.where(counts >= FEWEST_USES, lift, 0.0).max(axis=0))
    return largest


def list_conditions(
    singles: Sequence[Pairs], sets: "Sequence[LeadingSet]", removals: "Sequence[Removal]", *, options: AblationOptions
) -> "list[Condition]":
    """Return all conditions, each once.

    Args:
        singles: experts that are switched off alone.
        sets: the sets that lead labels, with their random sets.
        removals: the first experts of rankings.
        options: mode and seed.
    """
    from specialize.trace.ablation import Condition

    wanted = [*singles, *(each.experts for each in sets), *(drawn for each in sets for drawn in each.random)]
    wanted += [each.experts for each in removals]
    return list(dict.fromkeys(Condition.of(experts, options.mode, options.seed) for experts in wanted))
