"""The notebook runs from start to end, and its outputs and its prose are correct."""

import ast
import base64
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from matplotlib.image import imread
from nbclient import NotebookClient
from sklearn.metrics import mutual_info_score

import specialize
from specialize import measure
from specialize.annotators.store import load_annotation

NOTEBOOK = Path(__file__).parents[2] / "analyses" / "walkthrough.ipynb"
FIGURES = ("profile", "profile-topics", "heatmap", "forest", "effect-lift")
STAGES = ("trace_corpus", "syntax", "topics", "report")
LONGEST = 1200  # seconds of a cell; ends a notebook that hangs, whatever else the machine is doing


@dataclass(frozen=True)
class Walkthrough:
    """The notebook after it ran, and a copy of the folder that it wrote and deleted."""

    cells: dict[str, Any]
    kept: Path
    left_behind: list[Path]

    def text(self, cell: str) -> str:
        """What the cell shows, as plain text."""
        return "".join(output["data"]["text/plain"] for output in self.cells[cell].outputs if "data" in output)

    def values(self, cell: str) -> Any:
        """What the cell shows, as Python values."""
        return ast.literal_eval(self.text(cell))

    def table(self, cell: str) -> dict[int, list[float]]:
        """Rows of numbers of the frame that the cell shows, by layer."""
        rows = re.findall(r"^(\d)((?: +-?[\d.]+)+) *$", self.text(cell), flags=re.MULTILINE)
        return {int(layer): [float(number) for number in numbers.split()] for layer, numbers in rows}


@pytest.fixture(scope="module")
def walkthrough(tmp_path_factory: pytest.TempPathFactory) -> Walkthrough:
    folder = tmp_path_factory.mktemp("walkthrough")
    for name in ("work", "temporary"):
        (folder / name).mkdir()
    kept = folder / "kept"
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    copy = f"import shutil, sys\nshutil.copytree(folder.name, {str(kept)!r})\nsys.executable"
    notebook.cells.insert(-1, nbformat.v4.new_code_cell(copy, id="keep"))
    resources = {"metadata": {"path": str(folder / "work")}}
    client = NotebookClient(notebook, timeout=LONGEST, kernel_name="python3", resources=resources)
    # the only warning that is ignored is that of tqdm: progress bars in Jupyter need ipywidgets
    environment = {"TMPDIR": str(folder / "temporary"), "PYTHONWARNINGS": "ignore:IProgress not found"}
    client.execute(env=os.environ | environment)
    left_behind = [*(folder / "work").iterdir(), *(folder / "temporary").glob("specialize-*")]
    return Walkthrough({cell.id: cell for cell in notebook.cells}, kept, left_behind)


def code_cells(cells: list[Any]) -> Iterator[Any]:
    return (cell for cell in cells if cell.cell_type == "code")


def test_committed_clean() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    for cell in code_cells(notebook.cells):
        assert cell.outputs == []
        assert cell.execution_count is None
        compile(TransformerManager().transform_cell(cell.source), cell.id, "exec")


def test_ten_lines_lead_from_a_model_to_a_report() -> None:
    cells = {cell.id: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}
    assert len([line for line in cells["stages"].source.splitlines() if line.strip()]) <= 10
    tree = ast.parse(cells["stages"].source)
    calls = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [call.removeprefix("specialize.") for call in calls if call.startswith("specialize.")] == list(STAGES)
    before = {alias.name for cell in code_cells([cells["setup"]]) for alias in find_imports(cell.source)}
    assert not any("specialize" in name for name in before)


def test_nothing_is_imported_from_the_command_line() -> None:
    for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4).cells):
        assert not [alias.name for alias in find_imports(cell.source) if alias.name.startswith("specialize.cli")], (
            cell.id
        )


def find_imports(source: str) -> Iterator[ast.alias]:
    """Yield what a cell imports, by its full name."""
    for node in ast.walk(ast.parse(TransformerManager().transform_cell(source))):
        if isinstance(node, ast.Import):
            yield from node.names
        elif isinstance(node, ast.ImportFrom):
            yield from (ast.alias(f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.slow
def test_runs_and_leaves_nothing(walkthrough: Walkthrough) -> None:
    for cell in code_cells(list(walkthrough.cells.values())):
        assert cell.execution_count is not None
        noise = [output for output in cell.outputs if output.output_type in ("error", "stream")]
        assert noise == [], cell.id
    assert walkthrough.left_behind == []
    assert walkthrough.values("keep") == sys.executable  # not the kernel of another environment


@pytest.mark.slow
def test_figures_are_shown(walkthrough: Walkthrough) -> None:
    shown = {
        name: output["data"]["image/png"]
        for name, cell in walkthrough.cells.items()
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }
    assert tuple(shown) == FIGURES
    for name, encoded in shown.items():
        pixels = imread(BytesIO(base64.b64decode(encoded)))
        assert min(pixels.shape[:2]) > 300, name
        assert pixels.std() > 0.05, name
    name, size = walkthrough.values("save")
    assert (walkthrough.kept / "token" / name).stat().st_size == size > 0


@pytest.mark.slow
def test_report_is_written(walkthrough: Walkthrough) -> None:
    name, size, figures = walkthrough.values("report")
    page = walkthrough.kept / "report" / name
    assert page.stat().st_size == size
    assert figures == sorted(path.name for path in (page.parent / "figures").glob("*.png"))
    assert {"profile-upos.png", "profile-gold-topic.png", "heatmap-1-token-upos.png"} <= set(figures)
    text = page.read_text(encoding="utf-8")
    assert "gold_topic" in text
    assert "random" in text


@pytest.mark.slow
def test_numbers_are_those_of_other_ways(walkthrough: Walkthrough) -> None:
    trace = specialize.open_trace(walkthrough.kept / "token")
    upos = load_annotation(trace, "upos")
    assert walkthrough.values("trace") == (trace.num_documents, trace.num_tokens)
    as_counted, by_hand, in_frame = walkthrough.values("by-hand")
    assert by_hand == pytest.approx(in_frame, abs=1e-9)

    # uncorrected: each slot of a labelled token is an observation with half the weight
    labelled = upos.codes >= 0
    labels, experts = np.repeat(upos.codes[labelled], 2), trace.experts(3)[labelled].ravel()
    u = mutual_info_score(labels, experts) / mutual_info_score(labels, labels)
    assert as_counted == pytest.approx(u, rel=1e-9)

    written = measure.read_results(trace.path / "syntax", "upos")
    rows = written[written["metric"] == "uncertainty_coefficient"].set_index(["routing", "layer"])
    learned, control = rows.loc["learned"], rows.loc["random"]
    assert walkthrough.values("tables") == pytest.approx(learned["value"].tolist(), abs=1e-9)
    columns = ["value", "ci_low", "ci_high", "null_mean", "null_high", "p_value"]
    shown = walkthrough.table("measure")
    assert list(shown) == [0, 1, 2, 3]
    for layer, numbers in shown.items():
        assert numbers == pytest.approx(learned.loc[layer, columns].tolist(), abs=6e-5)
    beside = walkthrough.table("random")
    for layer, (own, random, gain, low, high) in beside.items():
        assert [own, random] == pytest.approx([learned["value"][layer], control["value"][layer]], abs=6e-5)
        assert gain == pytest.approx(own - random, abs=2e-4)
        assert low < gain < high
    assert list(beside) == [0, 1, 2, 3]


@pytest.mark.slow
def test_the_prose_is_correct(walkthrough: Walkthrough) -> None:
    lines = [line for line in walkthrough.text("sentence").splitlines() if line.split()[0] == "can"]
    firsts = [re.findall(r"\[(\d), \d\]", line) for line in lines]
    assert len(firsts) == 3
    assert firsts[0] == firsts[1] == firsts[2]
    assert len(firsts[0]) == 4

    syntax, topics = (
        measure.read_results(walkthrough.kept / "token" / folder, name)
        for folder, name in (("syntax", "upos"), ("topics", "gold_topic"))
    )
    # the random router is far above its null, and training adds to it
    of_syntax = syntax[syntax["metric"] == "uncertainty_coefficient"].set_index(["routing", "layer"])
    assert (of_syntax["value"] > 50 * of_syntax["null_high"]).all()
    assert all(low > 0 for _, _, _, low, _ in walkthrough.table("random").values())
    # every p-value is as small as it can be, and in three of four layers the random router has the larger value
    of_topics = topics[topics["metric"] == "uncertainty_coefficient"].set_index(["routing", "layer"])
    assert of_topics["p_value"].tolist() == pytest.approx([1 / 1001] * 8)
    assert (of_topics.loc["random", "value"] > of_topics.loc["learned", "value"]).sum() == 3
    # at most a few hundredths remain within a word, and about half of that is found under the null, too
    own = syntax[syntax["routing"] == "learned"].set_index(["metric", "layer"])
    within, whole = own.loc["conditional_information"], own.loc["ambiguous_mutual_information", "value"]
    assert (within["value"] < 0.05 * whole).all()
    assert (within["null_mean"] / within["value"]).between(0.4, 0.7).all()


@pytest.mark.slow
def test_experts_are_switched_off(walkthrough: Walkthrough) -> None:
    """Effect = exposure × per-use effect + indirect effect, of each expert; of the last layer nothing is indirect."""
    table = walkthrough.table("function")  # means over the eight experts of a layer
    assert list(table) == [0, 1, 2, 3]
    assert table[0][0] == max(row[0] for row in table.values()) > 0.05
    assert all(exposure == pytest.approx(2 / 8, abs=0.001) for _, exposure, *_ in table.values())
    assert table[3][3] == 0
