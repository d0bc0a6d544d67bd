"""Preparing a matplotlib SVG to be embedded in an HTML page."""

import re
from xml.etree import ElementTree

from specialize.plot.style import GRID, INK, MUTED, PALETTE, PAPER

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_PIXELS_PER_INCH = 112  # a little above CSS' 96: 7.5 pt labels read like the page's small print

# The page redefines these for a dark background. Colours of heat maps are not among them and stay.
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--rule", PAPER: "--paper"} | {
    color: f"--series-{index}" for index, color in enumerate(PALETTE, 1)
}
_COLOR = re.compile("|".join(map(re.escape, _VARIABLES)))
_FONT = re.compile(r"font-family: [^;]+")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def inline_svg(source: str, *, name: str, title: str, width: float) -> str:
    """Return the ``<svg>`` element of `source` for use inside a page that holds several.

    Identifiers get the prefix `name`, the style's colours become the page's CSS variables, fonts the page's, and
    `title` is read by screen readers. Metadata and doctype are dropped.

    Args:
        source: SVG as matplotlib writes it.
        name: prefix of identifiers, letters, digits and hyphens.
        title: what the figure shows.
        width: of the figure in inches; the element is at most that wide on screen.
    """
    root = ElementTree.fromstring(source)
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    for element in root.iter():
        _adopt(element, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    root.set("style", f"max-width:{round(width * _PIXELS_PER_INCH)}px")
    heading = ElementTree.Element("title", {"id": f"{name}-title"})
    heading.text = title
    root.insert(0, heading)
    return ElementTree.tostring(root, encoding="unicode")


def _adopt(element: ElementTree.Element, name: str) -> None:
    """Rename identifiers and references of `element`, recolour it, and drop the SVG namespace, which HTML implies."""
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    reference = element.attrib.pop(f"{{{_XLINK}}}href", None)
    if reference is not None:
        element.set("href", f"#{name}-{reference[1:]}" if reference.startswith("#") else reference)
    if "id" in element.attrib:
        element.set("id", f"{name}-{element.attrib['id']}")
    for attribute, value in element.attrib.items():
        value = _REFERENCE.sub(lambda match: f"url(#{name}-{match[1]})", value)
        if attribute == "style":
            value = _COLOR.sub(lambda match: f"var({_VARIABLES[match[0]]})", value)
            value = _FONT.sub("font-family: var(--figure-font)", value)
        element.set(attribute, value)
    # matplotlib's global rule sits in a <style> element, which in HTML would reach the whole page.
    if element.tag == "style":
        element.text = ""
