"""Figures of the routing itself, which need no labels."""

from collections.abc import Iterable, Sequence

import pandas as pd

from specialize import plot
from specialize.names import name_label_set
from specialize.reporting.corpora import CorpusRuns, group_by_corpus
from specialize.reporting.runs import RunResults
from specialize.reporting.spec import FigureSpec, slugify


def plan_routing(runs: Sequence[RunResults]) -> list[FigureSpec]:
    """Return the figures of load, repeats, prediction, co-activation, flow and overlap that the results allow."""
    numbered = list(enumerate(runs, 1))
    return [
        *(spec for number, run in numbered for spec in _plan_loads(run, number)),
        *(spec for group in group_by_corpus(runs) for spec in _plan_profiles(group)),
        *(spec for number, run in numbered for spec in _plan_predictions(run, number)),
        *(spec for number, run in numbered for spec in _plan_pairs(run, number)),
        *(spec for number, run in numbered for spec in _plan_repeats(run, number)),
        *(spec for number, run in numbered for spec in _plan_overlaps(run, number)),
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
            f"{run.label}: load of each expert divided by the uniform load, 1 / number of experts (dashed line). "
            "Crosses at the bottom mark experts with almost no load.",
            plot.expert_load,
            rows,
            {},
        )


def _plan_profiles(group: CorpusRuns) -> Iterable[FigureSpec]:
    """By layer: flow to the next one, and repeats, which are trivial where a whole sequence is routed as one."""
    runs = group.runs
    flowing = [run.routing for run in runs if run.routing is not None]
    repeating = [run.routing for run in runs if run.routing is not None and run.routing_unit != "sequence"]
    captions = {
        "flow_uncertainty_coefficient": "U(next expert | expert): the share of H(next expert) that is explained by the "
        "expert of this layer.",
        "first_expert_repeats": "Share of consecutive token pairs with the same first expert, over all documents; the "
        "null is the same tokens in shuffled order.",
    }
    for (metric, caption), frames in zip(captions.items(), (flowing, repeating), strict=True):
        if not frames:
            continue
        rows = pd.concat(frames, ignore_index=True)
        rows = rows[(rows["metric"] == metric) & (rows["label"].isna() | (rows["label_set"] == "next_router"))]
        if rows["value"].notna().any():
            name = metric.removesuffix("_uncertainty_coefficient").replace("_", "-")
            yield FigureSpec(
                f"profile-{name}{group.suffix}",
                "routing",
                "profile",
                group.opening + caption,
                plot.layer_profile,
                rows,
                {"metric": metric},
            )


def _plan_predictions(run: RunResults, number: int) -> Iterable[FigureSpec]:
    if run.routing is None or run.routing_unit == "sequence":
        return
    own = run.routing[run.routing["routing"] == "learned"]
    rows = own[own["metric"].isin(plot.PREDICTIONS) & own["expert"].isna()]
    if rows["value"].notna().any():
        yield FigureSpec(
            f"prediction-{number}-{slugify(run.name)}",
            "routing",
            "profile",
            f"{run.label}: share of slots whose expert is among the k that the layer before predicts; is in a cache, "
            "which evicts the least recently used expert or knows the future; and is shared by another occurrence of "
            "the token id. Dotted, chance: the most loaded experts, the tokens in shuffled order, any other token.",
            plot.expert_prediction,
            rows,
            {},
        )


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
            f"{run.label}: how often two experts of layer {shown} are chosen for the same token, divided by the "
            "frequency expected from their loads.",
            plot.coactivation,
            together[together["layer"] == shown],
            {"layer": shown},
        )
    if layer is not None:
        yield FigureSpec(
            f"flow-{number}-{slugify(run.name)}",
            "routing",
            "pairs",
            f"{run.label}: P(next expert | expert) / P(next expert) from layer {layer} to the next, the pair of layers "
            "with the largest flow U(next expert | expert).",
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
            f"{run.label}: share of consecutive token pairs with the same first expert, by "
            f"{name_label_set(str(label_set)).long}; ticks: the same tokens in shuffled order.",
            plot.repeats_by_label,
            rows,
            {"label_set": str(label_set)},
        )


def _plan_overlaps(run: RunResults, number: int) -> Iterable[FigureSpec]:
    """The first label set of documents, at the layer where its labels differ most."""
    if run.routing is None:
        return
    own = run.routing[run.routing["routing"] == "learned"]
    for label_set, rows in list(own[own["metric"] == "label_overlap"].groupby("label_set", sort=False))[:1]:
        layer = int(rows.groupby("layer")["value"].mean().idxmin())
        at = (own["layer"] == layer) & (own["label_set"] == label_set)
        yield FigureSpec(
            f"overlap-{number}-{slugify(run.name)}-{slugify(str(label_set))}",
            "routing",
            "pairs",
            f"{run.label}: how far two labels of {name_label_set(str(label_set)).noun} use the same experts of layer "
            f"{layer}, where labels differ most: the weighted Jaccard similarity of their shares of mass.",
            plot.label_overlap,
            own[at & own["metric"].isin(["label_overlap", "committee_size"])],
            {"layer": layer, "label_set": str(label_set)},
        )
