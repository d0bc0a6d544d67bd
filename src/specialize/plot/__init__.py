"""Figures: a result frame in, matplotlib axes out."""

from specialize.plot.effect_lift import effect_against_lift
from specialize.plot.effects import EFFECTS, effect_heatmap
from specialize.plot.forest import expert_forest
from specialize.plot.heatmap import expert_label_heatmap
from specialize.plot.load import expert_load
from specialize.plot.overlap import label_overlap
from specialize.plot.pairs import coactivation, layer_flow
from specialize.plot.plane import syntax_topic_plane
from specialize.plot.prediction import PREDICTIONS, expert_prediction
from specialize.plot.profile import layer_profile
from specialize.plot.removal import removal_curves
from specialize.plot.repeats import repeats_by_label
from specialize.plot.sets import set_selectivity
from specialize.plot.sizes import COLUMN_WIDTH, PAGE_WIDTH, WIDTHS
from specialize.plot.style import save_figure, use_style
from specialize.plot.tokens import expert_tokens
from specialize.plot.training import perplexity_by_choice, training_curves

__all__ = [
    "COLUMN_WIDTH",
    "EFFECTS",
    "PAGE_WIDTH",
    "PREDICTIONS",
    "WIDTHS",
    "coactivation",
    "effect_against_lift",
    "effect_heatmap",
    "expert_forest",
    "expert_label_heatmap",
    "expert_load",
    "expert_prediction",
    "expert_tokens",
    "label_overlap",
    "layer_flow",
    "layer_profile",
    "perplexity_by_choice",
    "removal_curves",
    "repeats_by_label",
    "save_figure",
    "set_selectivity",
    "syntax_topic_plane",
    "training_curves",
    "use_style",
]
