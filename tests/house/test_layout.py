"""How the house is laid out: sizes of modules and signatures, rooms, and who may import whom."""

import ast
import json

from house.source import ROOT, SRC, defined, trees

LONGEST_MODULE = 300
MOST_POSITIONAL = 8
ROOMS = {"base", "estimators", "runs", "results"}


def test_no_module_is_long():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in trees()}
    long = [f"{path.relative_to(SRC)}: {count} lines" for path, count in lengths.items() if count > LONGEST_MODULE]
    assert not long, "\n".join(long)


def test_many_parameters_are_given_by_name():
    many = [str(each) for each in defined() if len(each.positional) > MOST_POSITIONAL]
    assert not many, "\n".join(many)


def test_measure_has_four_rooms_and_nothing_beside_them():
    inside = {path.name for path in (SRC / "measure").iterdir() if path.name != "__pycache__"}
    assert inside == ROOMS | {"__init__.py"}
    assert {path.parent.name for path in trees() if SRC / "measure" in path.parents} == ROOMS | {"measure"}


def test_only_the_command_line_imports_the_command_line():
    sources = {str(path.relative_to(ROOT)): tree for path, tree in trees().items()}
    for path in sorted((ROOT / "analyses").rglob("*.py")):
        sources[str(path.relative_to(ROOT))] = ast.parse(path.read_text(encoding="utf-8"))
    importing = {name for name, tree in sources.items() if any(_is_command_line(each) for each in _imports(tree))}
    assert {name for name in importing if not name.startswith("src/specialize/cli/")} == {"src/specialize/__main__.py"}


def test_the_notebook_imports_nothing_of_the_command_line():
    notebooks = sorted((ROOT / "analyses").rglob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert not [cell for cell in code if "specialize.cli" in cell or "specialize import cli" in cell], path.name


def _imports(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _is_command_line(name: str) -> bool:
    return name == "specialize.cli" or name.startswith("specialize.cli.")
