"""The public interface: what there is, how it is called, and that its documentation says so."""

import ast
import inspect
import re
from importlib import import_module
from types import ModuleType

import pytest

import specialize
from house.source import POSITIONAL, defined, packages, public_functions, stages, submodules, trees

# Every public function of the package itself, and what may be given to it by position.
CALLED_BY = {
    "ablate": ("model", "run"),
    "affinity": ("run",),
    "annotate": ("run", "labels"),
    "attach": ("model", "inputs"),
    "compare": ("run", "other"),
    "export": ("run", "folder"),
    "figures": ("runs", "folder"),
    "import_trace": ("format_name", "path", "run"),
    "inspect": ("model",),
    "intervene": ("model", "drop"),
    "merge": ("runs", "run"),
    "monitor": ("model", "sample", "run"),
    "open_trace": ("run",),
    "plan": ("model", "corpus"),
    "probe": ("run",),
    "record": ("model", "tokenizer", "run"),
    "report": ("runs", "folder"),
    "routing": ("run",),
    "run": ("model", "corpus", "run"),
    "syntax": ("run",),
    "topics": ("run",),
    "trace_corpus": ("model", "corpus", "run"),
    "train": ("config", "folder"),
    "validate": ("run",),
    "vocabulary": ("run",),
}
PIECES = ("annotators", "capture", "measure", "plot")
QUICK = {"attach", "intervene", "open_trace", "validate"}  # nothing to report
MOST_POSITIONAL = 3
FOUR_ARRAYS = {
    "specialize.measure.compare_selectivity",  # change, random changes, codes, documents
    "specialize.measure.measure_conditional_information",  # codes, types, experts, documents
    "specialize.measure.measure_effects",  # change, used, codes, documents
}
# Names of arguments that have another name here.
RIGHT_NAMES = {
    "callback": "progress or reporter",
    "directory": "folder",
    "draws": "permutations",
    "filename": "path",
    "n_jobs": "processes",
    "n_permutations": "permutations",
    "num_draws": "permutations",
    "num_permutations": "permutations",
    "on_note": "reporter",
    "on_progress": "progress or reporter",
    "on_step": "progress or reporter",
    "out": "output",
    "outdir": "folder",
    "output_dir": "folder",
    "random_state": "seed",
    "shadow": "control",
    "verbose": "reporter",
}


@pytest.mark.parametrize("name", CALLED_BY)
def test_what_is_given_by_position(name):
    assert name in specialize.__all__
    assert _positional(getattr(specialize, name)) == CALLED_BY[name]


def test_nothing_public_is_left_out_here():
    others = {"specialize.load_checkpoint", "specialize.register_router"}
    assert set(stages()) - others == {f"specialize.{name}" for name in CALLED_BY}


def test_the_pieces_are_packages():
    assert set(PIECES) <= set(specialize.__all__)
    for name in PIECES:
        assert getattr(specialize, name) is import_module(f"specialize.{name}")


def test_no_public_function_takes_many_arguments_by_position():
    given = {name: _positional(function) for name, function in public_functions().items()}
    many = [
        f"{name}: {', '.join(names)}"
        for name, names in given.items()
        if len(names) > MOST_POSITIONAL + (name in FOUR_ARRAYS)
    ]
    assert not many, "\n".join(many)


def test_stages_report_to_one_kind_of_listener():
    for name, function in stages().items():
        parameters = inspect.signature(function).parameters
        if name.removeprefix("specialize.") in CALLED_BY.keys() - QUICK:
            assert parameters["reporter"].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert "progress" not in parameters, name


def test_public_functions_are_documented():
    missing = []
    for name, function in public_functions().items():
        text, parameters = inspect.getdoc(function) or "", inspect.signature(function).parameters
        if not text:
            missing.append(f"{name}: no docstring")
        elif len(parameters) > 2:
            described = _described(text)
            missing += [f"{name}: {each} is not among Args" for each in parameters if each not in described]
    assert not missing, "\n".join(missing)


def test_arrays_are_documented_with_their_shapes():
    """An argument that is an array names its axes in square brackets; or all arguments together do, above Args."""
    missing = []
    for name, function in public_functions().items():
        text = inspect.getdoc(function) or ""
        described, opening = _described(text), text.partition("Args:")[0]
        for each, parameter in inspect.signature(function).parameters.items():
            if _is_array(parameter.annotation) and not _has_axes(described.get(each, opening)):
                missing.append(f"{name}: {each}")
        if _is_array(inspect.signature(function).return_annotation) and not _has_axes(text):
            missing.append(f"{name}: what it returns")
    assert not missing, "\n".join(missing)


def test_the_same_argument_has_the_same_name():
    wrong = [
        f"{each}: {argument.arg}, say {RIGHT_NAMES[argument.arg]}"
        for each in defined()
        for argument in each.parameters
        if argument.arg in RIGHT_NAMES
    ]
    assert not wrong, "\n".join(wrong)


def test_level_is_of_labels_and_run_is_a_folder():
    """A probability is a confidence, and the name of a run a run_name."""
    wrong = []
    for each in defined():
        for argument in each.parameters:
            kind = ast.unparse(argument.annotation) if argument.annotation else ""
            if (argument.arg, kind) == ("level", "float"):
                wrong.append(f"{each}: level, say confidence")
            if argument.arg == "run" and kind in ("str", "str | None"):
                wrong.append(f"{each}: run, say run_name")
    for path, tree in trees().items():
        fields = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign))
        wrong += [f"{path.name}: {field}, say confidence" for field in fields if field.startswith("level: float")]
    assert not wrong, "\n".join(wrong)


def test_no_name_hides_a_module():
    """`package.name` is the module of that name, where there is one, and nothing else."""
    hidden = []
    for package in packages():
        for name in set(getattr(package, "__all__", ())) & set(submodules(package)):
            if not isinstance(getattr(package, name), ModuleType):
                hidden.append(f"{package.__name__}.{name}")
    assert not hidden, "\n".join(hidden)


def test_listed_names_are_those_that_load():
    for package in packages():
        names = getattr(package, "__all__", [])
        assert len(set(names)) == len(names)
        assert [name for name in names if not hasattr(package, name)] == []


def _positional(function) -> tuple[str, ...]:
    return tuple(name for name, each in inspect.signature(function).parameters.items() if each.kind in POSITIONAL)


def _described(text: str) -> dict[str, str]:
    """What the section Args of a docstring says of each argument."""
    section = re.search(r"^Args:\n((?: .*\n|\n)*)", text + "\n", re.MULTILINE)
    if section is None:
        return {}
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section[1].splitlines():
        entry = re.match(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*): ?(.*)", line)
        if entry is not None:
            names = [name.strip("* ") for name in entry[1].split(",")]
        for name in names:
            found[name] = f"{found.get(name, '')} {entry[2] if entry is not None else line.strip()}"
    return found


def _is_array(annotation: object) -> bool:
    return bool(re.search(r"\b(ArrayLike|NDArray|ndarray)\b", str(annotation)))


def _has_axes(text: str) -> bool:
    return bool(re.search(r"\[[\w .,*+…-]+\]|scalar|shape", text))
