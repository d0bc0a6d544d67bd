"""Figures of what was measured while a model trained: curves over its optimizer steps."""

import pandas as pd

from specialize import plot
from specialize.measure.results.curves import STEP
from specialize.names import name_label_set
from specialize.reporting.corpora import CorpusRuns
from specialize.reporting.spec import FigureSpec, slugify

_LINES = "Thick: mean over the layers; thin: each layer"
_CHANCE = "dotted: chance, two routers that choose independently at these loads"
_CAPTIONS = {
    "saturation_to_previous": "Share of slots with the same expert as at the snapshot before, by optimizer step. "
    f"{_LINES}; {_CHANCE}.",
    "saturation": "Share of slots with the same expert as at the end of training, by optimizer step. "
    f"{_LINES}; {_CHANCE}.",
    "load_entropy": "Entropy of the load in bits, by optimizer step; log2 of the number of experts if it is even. "
    f"{_LINES}.",
    "dead_experts": f"Number of experts that no token of the sample is routed to, by optimizer step. {_LINES}.",
}


def plan_training(group: CorpusRuns) -> list[FigureSpec]:
    """Return the curves over training that the results on a sample allow: of U by label set, saturation, and load."""
    watched = [run.training for run in group.runs if run.training is not None]
    if not watched:
        return []
    curves = pd.concat(watched, ignore_index=True)
    curves = curves[(curves["routing"] == "learned") & curves["expert"].isna() & curves["value"].notna()]
    specs = []
    for label_set, rows in curves[curves["metric"] == "uncertainty_coefficient"].groupby("label_set", sort=False):
        names = name_label_set(str(label_set))
        specs.append(
            FigureSpec(
                f"training-{slugify(str(label_set))}{group.suffix}",
                "training",
                "curves",
                f"{group.opening}U({names.long} | expert), the share of H({names.short}) that routing explains, on the "
                f"fixed sample by optimizer step. {_LINES}; dotted: mean of the null.",
                plot.training_curves,
                rows,
                {"metric": "uncertainty_coefficient", "label_set": str(label_set), "time": STEP},
            )
        )
    for metric, caption in _CAPTIONS.items():
        rows = curves[curves["metric"] == metric]
        if len(rows):
            arguments = {"metric": metric, "time": STEP}
            name, told = f"training-{metric.replace('_', '-')}{group.suffix}", group.opening + caption
            specs.append(FigureSpec(name, "training", "curves", told, plot.training_curves, rows, arguments))
    return specs
