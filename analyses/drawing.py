"""Figures of the studies and how they are written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from specialize import __version__
from specialize.plot import use_style
from specialize.reporting.figures import write_figure

FORMATS = ("pdf", "png")


@dataclass(frozen=True)
class StudyFigure:
    """A figure to be drawn.

    Attributes:
        name: file name without suffix.
        caption: what the figure shows and how to read it.
        function: draws the figure from the frame alone.
        frame: the rows that are drawn.
        about: further entries of the sidecar, about the origin of the rows.
    """

    name: str
    caption: str
    function: Callable[[pd.DataFrame], Figure]
    frame: pd.DataFrame
    about: dict[str, Any] = field(default_factory=dict)


def draw_planned(figures: Iterable[StudyFigure], folder: Path, *, command: str) -> list[Path]:
    """Draw each figure into `folder`, with its data (CSV) and its provenance (JSON).

    Args:
        figures: the figures.
        folder: the folder, created if it is missing.
        command: the command that draws them again.

    Returns:
        The paths of the images.
    """
    drawn: list[Path] = []
    for planned in figures:
        with use_style():
            figure = planned.function(planned.frame)
        sidecar = {
            "command": command,
            "specialize": __version__,
            "figure": planned.name,
            "caption": planned.caption,
            "function": f"{planned.function.__module__}.{planned.function.__name__}",
        }
        path = folder / planned.name
        files = write_figure(figure, planned.frame, path, formats=FORMATS, sidecar=sidecar | planned.about)
        drawn += files[: len(FORMATS)]
    return drawn
