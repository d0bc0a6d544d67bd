"""The style of every figure: sizes, fonts, colours, and writing figures to disk."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from specialize.atomic import replacing
from specialize.errors import SpecializeError, did_you_mean

COLUMN_WIDTH = 3.35
"""Width of a figure in one column of a two-column paper, in inches."""
PAGE_WIDTH = 6.9
"""Width of a figure over both columns, in inches."""

INK = "#22262b"
MUTED = "#767c84"
GRID = "#e3e5e8"
PAPER = "#fefefe"
NO_DATA = "#d3d6da"
CENTER = "#f7f6f3"

# The colours of Okabe and Ito (2008), ordered so that neighbours also differ in lightness, for greyscale print.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#5b4a9e")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
FORMATS = ("pdf", "png", "svg")

# The largest ratios print darkest, so that the map is legible in greyscale.
LIFT_COLORS = LinearSegmentedColormap.from_list(
    "specialize_lift",
    list(
        zip((0, 0.25, 0.5, 0.66, 0.83, 1), ("#3f8fb5", "#a3cce0", CENTER, "#f2b281", "#c4501b", "#6a1f0b"), strict=True)
    ),
).with_extremes(bad=NO_DATA)

# Of shares from 0 to 1: the larger, the darker.
SHARE_COLORS = LinearSegmentedColormap.from_list(
    "specialize_share", (CENTER, "#a3cce0", "#3f8fb5", "#1d4f74", "#0d2940")
).with_extremes(bad=NO_DATA)

# Scripts that the bundled font lacks are drawn with one of these if it is installed.
_FALLBACK_FONTS = (
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "WenQuanYi Zen Hei",
)


@dataclass(frozen=True)
class SeriesLook:
    """Colour and marker of one run."""

    color: str
    marker: str


def series_look(index: int) -> SeriesLook:
    """Return colour and marker of the run at `index`; they cycle with different lengths."""
    return SeriesLook(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])


@contextmanager
def use_style() -> Iterator[None]:
    """Apply the style of `specialize` figures within a ``with`` block."""
    installed = set(font_manager.get_font_names())
    settings: Any = {
        "figure.dpi": 150,
        "figure.facecolor": "white",
        "savefig.dpi": 300,
        "savefig.facecolor": "auto",
        "font.family": ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed), "sans-serif"],
        "font.size": 7.5,
        "axes.titlesize": 7.25,
        "axes.titlelocation": "left",
        "axes.titlepad": 7,
        "axes.titlecolor": INK,
        "axes.labelsize": 7.5,
        "axes.labelcolor": INK,
        "axes.labelpad": 4,
        "axes.facecolor": "none",
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "axes.axisbelow": True,
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 4.5,
        "hatch.linewidth": 0.5,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "legend.handlelength": 2.2,
        "legend.borderaxespad": 0.4,
        "legend.labelcolor": INK,
        "text.color": INK,
        "text.usetex": False,
        # A dollar sign in a label is not mathematics.
        "text.parse_math": False,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        # Text stays text: it can be searched and read by screen readers, in the fonts of the reader.
        "svg.fonttype": "none",
        "svg.hashsalt": "specialize",
    }
    with matplotlib.rc_context(settings):
        yield


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of `width` by `height` inches, which pyplot does not manage."""
    with use_style():
        return Figure(figsize=(width, height), layout="constrained").add_subplot()


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` to `path` in the format of its suffix: the same bytes for the same figure.

    The file is written atomically. A script that no installed font covers is drawn as boxes in PDF and PNG; SVG keeps
    the text.

    Raises:
        SpecializeError: the suffix is none of `FORMATS`.
    """
    path = Path(path)
    image_format = path.suffix.lower().lstrip(".")
    data = render_figure(figure, image_format)
    with replacing(path) as partial:
        partial.write_bytes(data)
    return path


def render_figure(figure: Figure, image_format: str, *, transparent: bool = False) -> bytes:
    """Return the bytes of `figure` in `image_format`, without a date."""
    check_formats([image_format])
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[image_format]
    buffer = BytesIO()
    with use_style(), warnings.catch_warnings():
        # Labels may be in any script; missing glyphs are not an error.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure.savefig(buffer, format=image_format, metadata=metadata, transparent=transparent)
    return buffer.getvalue()


def check_formats(formats: Any) -> None:
    """Raise `SpecializeError` where one of `formats` cannot be written."""
    for image_format in formats:
        if image_format not in FORMATS:
            raise SpecializeError(
                f"figure format: expected one of {', '.join(FORMATS)}, got {image_format!r}."
                + did_you_mean(str(image_format), FORMATS)
            )
