"""The specification of a figure, before it is drawn."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes


@dataclass(frozen=True)
class FigureSpec:
    """A figure to draw.

    Attributes:
        name: file name without suffix.
        section: part of the report it belongs to: ``together``, ``syntax``, ``topics``, ``routing``,
            ``function`` or ``training``.
        kind: what the figures of a section are grouped by: ``plane``, ``profile``, ``heatmap``, ``forest``,
            ``tokens``, ``load``, ``pairs``, ``repeats``, ``effects``, ``agreement``, ``sets``, ``removal`` or
            ``curves``.
        caption: what it shows and how to read it, in one to three sentences.
        function: the function of `specialize.plot` that draws it.
        frame: the rows it draws.
        arguments: the keyword arguments of `function`, JSON-serialisable.
        fold: title of what the page folds it into, with others; empty if it is shown at once.
    """

    name: str
    section: str
    kind: str
    caption: str
    function: Callable[..., Axes]
    frame: pd.DataFrame
    arguments: dict[str, Any]
    fold: str = ""


def name_profile(label_set: str) -> str:
    """Return the name of the figure of U of a label set over the layers."""
    return f"profile-{slugify(label_set)}"


def slugify(text: str) -> str:
    """Return `text` as part of a file name: ASCII letters, digits and hyphens, at most 40, never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40].strip("-") or "x"
