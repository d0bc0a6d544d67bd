"""The tutorial: the cells of a notebook as Markdown. What its cells show is not computed here."""

import json
from pathlib import Path

_INTRODUCTION = """
!!! note
    This page is the notebook `analyses/walkthrough.ipynb` without its output. Run it to see the tables and figures
    that the text discusses: it needs the `demo` extra and Jupyter, no GPU, and less than a minute.
"""


def page(path: Path) -> str:
    """Return the Markdown of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    first, *others = parts
    title, _, rest = first.partition("\n")
    return "\n\n".join([title, _INTRODUCTION.strip(), rest.strip(), *others]) + "\n"


def _cell(kind: str, source: str) -> str:
    return f"```python\n{source.strip()}\n```" if kind == "code" else source.strip()
