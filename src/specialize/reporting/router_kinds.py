"""Models that route a layer more than once: the routers of each kind are shown as a run of their own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from specialize.reporting.runs import RunResults
from specialize.text import clean_text


def split_kinds(run: RunResults) -> list[RunResults]:
    """Return a run for each kind of router, or the run itself where no layer has several.

    An encoder-decoder model has kinds ``encoder`` and ``decoder``, one that routes attention and feed-forward layers
    has those two. Quantities over all layers together belong to no kind and are left out.
    """
    routers = [router for router in run.manifest.get("routers") or [] if isinstance(router, dict) and "name" in router]
    # random routers bear the names of the learned ones
    own = [router for router in routers if router.get("routing", "learned") == "learned"]
    if max(Counter(router.get("layer") for router in own).values(), default=1) == 1:
        return [run]
    kinds = name_kinds([(router.get("layer"), str(router["name"])) for router in own])
    return [
        _take_kind(run, kind, [router for router in routers if kinds.get(str(router["name"])) == kind], first=not place)
        for place, kind in enumerate(dict.fromkeys(kinds.values()))
    ]


def name_kinds(routers: Sequence[tuple[Any, str]]) -> dict[str, str]:
    """Return the kind of each router, given its layer and module: the part of the name that differs within a layer.

    Modules that differ in numbers alone are of one kind; several of one kind in a layer are numbered.
    """
    patterns = {name: [part for part in name.split(".") if not part.isdigit()] for _, name in routers}
    places = Counter((layer, tuple(patterns[name])) for layer, name in routers)
    if max(places.values()) > 1:
        seen: Counter[Any] = Counter()
        numbered = {}
        for layer, name in routers:
            seen[layer] += 1
            numbered[name] = f"router {seen[layer]}"
        return numbered
    distinct = list(map(list, dict.fromkeys(map(tuple, patterns.values()))))
    shared = [_count_shared(distinct), _count_shared([pattern[::-1] for pattern in distinct])]
    return {
        name: ".".join(pattern[shared[0] : len(pattern) - shared[1]]) or ".".join(pattern)
        for name, pattern in patterns.items()
    }


def _count_shared(patterns: Sequence[Sequence[str]]) -> int:
    """How many leading parts all patterns share; at least one part of each is left."""
    most = min(map(len, patterns)) - 1
    return next((place for place in range(most) if len({pattern[place] for pattern in patterns}) > 1), most)


def _take_kind(run: RunResults, kind: str, routers: list[dict[str, Any]], *, first: bool) -> RunResults:
    names = {str(router["name"]) for router in routers}

    def take(frame: pd.DataFrame | None) -> pd.DataFrame | None:
        if frame is None or "router" not in frame:
            return frame
        return frame[frame["router"].isin(names)].reset_index(drop=True)

    def take_all(frames: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        taken = {name: take(frame) for name, frame in frames.items()}
        return {name: frame for name, frame in taken.items() if frame is not None and len(frame)}

    compared = {name: frame for name, frame in run.others.items() if name.startswith("compare-")}
    single = {name: frame for name, frame in run.others.items() if name not in compared}
    return replace(
        run,
        name=clean_text(f"{run.name}, {kind}"),
        manifest=run.manifest | {"routers": routers},
        syntax=take_all(run.syntax),
        topics=take_all(run.topics),
        taggers=run.taggers if first else {},
        ablation=take_all(run.ablation),
        routing=take(run.routing),
        training=take(run.training),
        top_tokens=take(run.top_tokens),
        others=take_all(single) | (compared if first else {}),
        unverified=run.unverified if first else "",
    )
