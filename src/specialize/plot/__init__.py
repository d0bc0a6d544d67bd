"""Figures: a result frame in, matplotlib axes out."""

from specialize.plot.heatmap import expert_label_heatmap
from specialize.plot.load import expert_load
from specialize.plot.plane import syntax_topic_plane
from specialize.plot.profile import layer_profile
from specialize.plot.style import COLUMN_WIDTH, PAGE_WIDTH, save_figure, use_style

__all__ = [
    "COLUMN_WIDTH",
    "PAGE_WIDTH",
    "expert_label_heatmap",
    "expert_load",
    "layer_profile",
    "save_figure",
    "syntax_topic_plane",
    "use_style",
]
