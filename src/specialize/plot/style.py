"""The style of every figure: sizes, fonts, colours, and writing figures to disk."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from specialize.atomic import replacing
from specialize.choices import FigureWidth
from specialize.errors import SpecializeError, did_you_mean
from specialize.plot.fonts import BUNDLED, cover_characters, tell_missing
from specialize.plot.sizes import choose_width, print_at

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

# The largest ratios print darkest and the smallest stay light, so that the map is legible in greyscale.
LIFT_COLORS = LinearSegmentedColormap.from_list(
    "specialize_lift",
    list(
        zip((0, 0.25, 0.5, 0.66, 0.83, 1), ("#5fa8ca", "#b2d5e5", CENTER, "#f2b281", "#c4501b", "#6a1f0b"), strict=True)
    ),
).with_extremes(bad=NO_DATA)

# Of shares from 0 to 1: the larger, the darker.
SHARE_COLORS = LinearSegmentedColormap.from_list(
    "specialize_share", (CENTER, "#a3cce0", "#3f8fb5", "#1d4f74", "#0d2940")
).with_extremes(bad=NO_DATA)


@dataclass(frozen=True)
class SeriesLook:
    """Colour and marker of one run."""

    color: str
    marker: str


Palette = str | Sequence[str]


def series_look(index: int, palette: Sequence[str] = PALETTE) -> SeriesLook:
    """Return colour and marker of the run at `index`; they cycle with different lengths."""
    return SeriesLook(palette[index % len(palette)], MARKERS[index % len(MARKERS)])


def read_palette(palette: Palette | None) -> tuple[str, ...]:
    """Return colours as hexadecimal numbers.

    Args:
        palette: colours as matplotlib names them, or the name of a palette of seaborn; None is the package's own.

    Raises:
        SpecializeError: an unknown palette or colour, or no colour at all.
    """
    if palette is None:
        return PALETTE
    try:
        colors = tuple(map(to_hex, seaborn.color_palette(palette)))
    except (ValueError, TypeError):
        colors = ()
    if not colors:
        raise SpecializeError(
            "palette: expected colours such as ['#0072b2', 'orange'] or the name of a palette such as 'colorblind', "
            f"got {palette!r}"
        )
    return colors


@contextmanager
def use_style(*, width: FigureWidth | None = None) -> Iterator[None]:
    """Apply the style of `specialize` figures within a ``with`` block.

    Args:
        width: printed width of the figures that are made within the block, by its name in `WIDTHS`; by default each
            figure has its own. Text has the same size in points at every width, 6 at least.

    Raises:
        SpecializeError: no such width.
    """
    settings: Any = {
        "figure.dpi": 150,
        "figure.facecolor": "white",
        "savefig.dpi": 300,
        "savefig.facecolor": "auto",
        "font.family": [BUNDLED, "sans-serif"],
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
    with matplotlib.rc_context(settings), print_at(width):
        yield


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of `width` by `height` inches, which pyplot does not manage.

    Where a printed width was asked for, it is that wide.
    """
    width = choose_width(width)
    with use_style():
        return Figure(figsize=(width, height), layout="constrained").add_subplot()


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` to `path` in the format of its suffix: the same bytes for the same figure.

    The file is written atomically. Characters that the bundled font lacks are drawn in another installed font that has
    them. Those that none has are drawn as boxes in PDF and PNG, and a warning says which they are and what to install;
    SVG keeps the text.

    Raises:
        SpecializeError: the suffix is none of `FORMATS`.
    """
    path = Path(path)
    missing = cover_characters(figure)
    store_figure(figure, path)
    if missing and path.suffix.lower() != ".svg":
        warnings.warn(tell_missing(missing), stacklevel=2)
    return path


def store_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` as `save_figure` does, without a warning."""
    data = render_figure(figure, path.suffix.lower().lstrip("."))
    with replacing(path) as partial:
        partial.write_bytes(data)
    return path


def render_figure(figure: Figure, image_format: str, *, transparent: bool = False, dpi: float | None = None) -> bytes:
    """Return the bytes of `figure` in `image_format`, without a date; images have `dpi` dots per inch, or 300."""
    check_formats([image_format])
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {}}[image_format]
    buffer = BytesIO()
    cover_characters(figure)
    with use_style(), warnings.catch_warnings():
        # Whoever writes the figure says in one line which characters have no glyph.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        resolution: Any = {} if dpi is None else {"dpi": dpi}
        figure.savefig(buffer, format=image_format, metadata=metadata, transparent=transparent, **resolution)
    return buffer.getvalue()


def check_formats(formats: Any) -> None:
    """Raise `SpecializeError` where one of `formats` cannot be written."""
    for image_format in formats:
        if image_format not in FORMATS:
            raise SpecializeError(
                f"figure format: expected one of {', '.join(FORMATS)}, got {image_format!r}."
                + did_you_mean(str(image_format), FORMATS)
            )
