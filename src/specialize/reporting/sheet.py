"""A contact sheet: all figures on one page, each with its name."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from specialize.plot.style import render_figure, store_figure, use_style

SHEET = "sheet"
"""File name without suffix."""
_PAGE = (8.27, 11.69)  # inches of A4
_MARGIN, _GAP, _NAME = 0.35, 0.12, 0.16  # inches around the page, between figures, and of a figure's name
_DOTS = 300  # per inch of the page
_LETTER = 0.062  # inches of a letter of a name


def write_sheet(named: Sequence[tuple[str, Figure]], folder: Path) -> list[Path]:
    """Draw figures in their order on one page of A4, all to the same scale, and write sheet.pdf and sheet.png.

    The page is upright, or lies on its side where the figures are larger then. They are embedded as images.

    Args:
        named: figures with their names.
        folder: an existing folder.

    Returns:
        Both files.
    """
    sizes = np.array([figure.get_size_inches() for _, figure in named], dtype=float)
    fitted = [(*_fit(sizes, page), page) for page in (_PAGE, _PAGE[::-1])]
    scale, places, page = max(fitted, key=lambda each: each[0])
    with use_style():
        sheet = Figure(figsize=page)
        for (name, figure), size, (x, y) in zip(named, scale * sizes, places, strict=True):
            width, height = size
            ax = sheet.add_axes((x / page[0], 1 - (y + _NAME + height) / page[1], width / page[0], height / page[1]))
            ax.imshow(_render(figure, scale), interpolation="antialiased", aspect="auto")
            ax.set_axis_off()
            sheet.text(
                x / page[0],
                1 - (y + 0.75 * _NAME) / page[1],
                name,
                fontsize=min(6.5, 6.5 * width / (_LETTER * max(len(name), 1))),
                va="baseline",
                parse_math=False,
            )
    return [store_figure(sheet, folder / f"{SHEET}.{image_format}") for image_format in ("pdf", "png")]


def _render(figure: Figure, scale: float) -> np.ndarray:
    """Return the pixels of `figure`, [height, width, 4], with as many dots per inch as the page shows."""
    dpi = figure.dpi
    try:
        data = render_figure(figure, "png", dpi=_DOTS * scale)
    finally:
        figure.dpi = dpi
    return imread(BytesIO(data), format="png")


def _fit(sizes: np.ndarray, page: tuple[float, float]) -> tuple[float, list[tuple[float, float]]]:
    """Return the largest scale, 1 at most, at which figures of `sizes` [figures, 2] fit a page, and their places."""
    width, height = (side - 2 * _MARGIN for side in page)
    for scale in np.geomspace(1.0, 0.01, 400):  # not by halving: a smaller scale may need more lines
        places, reached = _place(scale * sizes, page)
        if scale * sizes[:, 0].max(initial=0.0) <= width and reached <= height:
            break
    return float(scale), places


def _place(sizes: np.ndarray, page: tuple[float, float]) -> tuple[list[tuple[float, float]], float]:
    """Return the upper left corners of figures that are set in lines like words, in inches, and their height."""
    places: list[tuple[float, float]] = []
    x, top, tallest = 0.0, 0.0, 0.0
    for width, height in sizes:
        if x > 0 and x + width > page[0] - 2 * _MARGIN:
            x, top, tallest = 0.0, top + tallest + _GAP, 0.0
        places.append((_MARGIN + x, _MARGIN + top))
        x, tallest = x + width + _GAP, max(tallest, height + _NAME)
    return places, top + tallest
