"""The tutorial: a notebook as Markdown, with what its cells showed when it was last run.

    python docs/generate/notebook.py

runs analyses/walkthrough.ipynb and keeps what its cells show in docs/tutorial/. The build of the site runs nothing: it
shows the kept output of a cell as long as its code and all code before it are what was run.
"""

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "analyses" / "walkthrough.ipynb"
KEPT = ROOT / "docs" / "tutorial"
_INTRODUCTION = """
!!! note
    This page is the notebook `analyses/walkthrough.ipynb` with its output.
"""


def page() -> str:
    """Return the Markdown of the notebook."""
    shown = json.loads((KEPT / "outputs.json").read_text(encoding="utf-8"))
    parts = []
    for cell, digest in _cells():
        source = "".join(cell["source"]).strip()
        parts.append(source if digest is None else f"```python\n{source}\n```")
        if digest is not None:
            parts += shown.get(cell["id"], {}).get(digest, [])
    title, _, rest = parts[0].partition("\n")
    return "\n\n".join([title, _INTRODUCTION.strip(), rest.strip(), *parts[1:]]) + "\n"


def outdated() -> list[str]:
    """Return the ids of the code cells whose output was not kept as they are now."""
    shown = json.loads((KEPT / "outputs.json").read_text(encoding="utf-8"))
    return [cell["id"] for cell, digest in _cells() if digest is not None and digest not in shown.get(cell["id"], {})]


def _cells() -> Iterator[tuple[dict[str, Any], str | None]]:
    """Each cell, and of a code cell the digest of its code and all code before it."""
    before = hashlib.sha256()
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            before.update("".join(cell["source"]).encode())
        yield cell, before.hexdigest()[:16] if cell["cell_type"] == "code" else None


def run() -> None:
    """Run the notebook and keep what its cells show."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute(
            env=os.environ | {"PYTHONWARNINGS": "ignore:IProgress not found"}
        )
    KEPT.mkdir(exist_ok=True)
    for old in KEPT.iterdir():
        old.unlink()
    digests = {cell["id"]: digest for cell, digest in _cells() if digest is not None}
    shown = {
        cell.id: {digests[cell.id]: [_show(output["data"], cell.id) for output in cell.outputs if "data" in output]}
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    (KEPT / "outputs.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _show(data: dict[str, Any], name: str) -> str:
    """What a cell shows, as Markdown; an image is written beside it."""
    if "image/png" in data:
        (KEPT / f"{name}.png").write_bytes(base64.b64decode(data["image/png"]))
        return f"![Output of the cell above](tutorial/{name}.png){{ width=480 }}"
    if "text/html" in data:
        [table] = re.findall(r"<table.*?</table>", data["text/html"], re.DOTALL)
        table = re.sub(r"<(table|tr|th|td)\b[^>]*>", _without_style, table)
        return re.sub(r">\s+<", "><", table)
    return f"```text\n{data['text/plain'].strip()}\n```"


def _without_style(tag: re.Match[str]) -> str:
    spans = re.findall(r"(?:col|row)span=\"\d+\"", tag[0])
    return f"<{' '.join([tag[1], *spans])}>"


if __name__ == "__main__":
    run()
