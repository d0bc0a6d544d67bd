"""Figures of the routing itself, which need no labels."""

from collections.abc import Iterable, Sequence

import pandas as pd

from specialize import plot
from specialize.names import name_label_set
from specialize.reporting.runs import RunResults
from specialize.reporting.spec import FigureSpec, slugify


def plan_routing(runs: Sequence[RunResults]) -> list[FigureSpec]:
    """Return the figures of load, repeats, co-activation and flow that the results of `runs` allow."""
    numbered = list(enumerate(runs, 1))
    return [
        *(spec for number, run in numbered for spec in _plan_loads(run, number)),
        *_plan_profiles(runs),
        *(spec for number, run in numbered for spec in _plan_pairs(run, number)),
        *(spec for number, run in numbered for spec in _plan_repeats(run, number)),
    ]


def _plan_loads(run: RunResults, number: int) -> Iterable[FigureSpec]:
    frame = run.load_frame
    if frame is None:
        return
    rows = frame[(frame["metric"] == "load") & (frame["routing"] == "learned") & frame["value"].notna()]
    if not rows.empty:
        yield FigureSpec(
            f"load-{number}-{slugify(run.name)}",
            "routing",
            "load",
            f"{run.label}: the share of the routed mass that each expert gets, divided by an even share. The dashed "
            "line is an even spread; crosses at the foot mark experts that get almost nothing.",
            plot.expert_load,
            rows,
            {},
        )


def _plan_profiles(runs: Sequence[RunResults]) -> Iterable[FigureSpec]:
    """Over the layers: flow to the next one, and repeats, which a router of sequences cannot but make."""
    flowing = [run.routing for run in runs if run.routing is not None]
    repeating = [run.routing for run in runs if run.routing is not None and run.routing_unit != "sequence"]
    captions = {
        "flow_uncertainty_coefficient": "What an expert of one layer tells about the expert of the next.",
        "first_expert_repeats": "How often two neighbouring tokens have the same first expert, over all documents; the "
        "null is the same tokens in random order.",
    }
    for (metric, caption), frames in zip(captions.items(), (flowing, repeating), strict=True):
        if not frames:
            continue
        rows = pd.concat(frames, ignore_index=True)
        rows = rows[(rows["metric"] == metric) & (rows["label"].isna() | (rows["label_set"] == "next_router"))]
        if rows["value"].notna().any():
            name = metric.removesuffix("_uncertainty_coefficient").replace("_", "-")
            arguments = {"metric": metric}
            yield FigureSpec(f"profile-{name}", "routing", "profile", caption, plot.layer_profile, rows, arguments)


def _plan_pairs(run: RunResults, number: int) -> Iterable[FigureSpec]:
    if run.routing is None:
        return
    own = run.routing[run.routing["routing"] == "learned"]
    flow = own[(own["metric"] == "flow_uncertainty_coefficient") & own["value"].notna()]
    layer = int(flow.loc[flow["value"].idxmax(), "layer"]) if len(flow) else None
    together = own[own["metric"] == "coactivation"]
    if together["value"].fillna(0.0).ne(0.0).any():  # a router of one slot never chooses two
        shown = layer if layer in set(together["layer"]) else int(together["layer"].min())
        yield FigureSpec(
            f"coactivation-{number}-{slugify(run.name)}",
            "routing",
            "pairs",
            f"{run.label}: how much more often than chance two experts of layer {shown} are chosen for one token.",
            plot.coactivation,
            together[together["layer"] == shown],
            {"layer": shown},
        )
    if layer is not None:
        yield FigureSpec(
            f"flow-{number}-{slugify(run.name)}",
            "routing",
            "pairs",
            f"{run.label}: how much more often than by chance an expert of layer {layer}, which foretells the next "
            "layer best, is followed by each expert of that.",
            plot.layer_flow,
            own[(own["metric"] == "transition") & (own["layer"] == layer)],
            {"layer": layer},
        )


def _plan_repeats(run: RunResults, number: int) -> Iterable[FigureSpec]:
    if run.routing is None or run.routing_unit == "sequence":
        return
    own = run.routing[run.routing["routing"] == "learned"]
    repeats = own[(own["metric"] == "first_expert_repeats") & own["label"].notna()]
    for label_set, rows in repeats.groupby("label_set", sort=False):
        yield FigureSpec(
            f"repeats-{number}-{slugify(run.name)}-{slugify(str(label_set))}",
            "routing",
            "repeats",
            f"{run.label}: how often two neighbouring tokens have the same first expert, by "
            f"{name_label_set(str(label_set)).long}, against the same tokens in random order.",
            plot.repeats_by_label,
            rows,
            {"label_set": str(label_set)},
        )
