"""A command and the Python call of its name leave the same bytes, with the same defaults."""

import inspect
from pathlib import Path

import pytest

import specialize
from specialize.cli.app import app, load_commands
from specialize.pipeline.demo import demo

load_commands()

# Options of a command that its function calls otherwise, or does without; and arguments that only Python has.
OTHERWISE = {"as_json", "output", "against_random", "help", "folder", "run", "model", "corpus"}
ONLY_PYTHON = {"reporter", "command", "tokenizer"}
FUNCTIONS = {
    "inspect": specialize.inspect,
    "trace": specialize.trace_corpus,
    "plan": specialize.plan,
    "merge": specialize.merge,
    "import": specialize.import_trace,
    "export": specialize.export,
    "validate": specialize.validate,
    "syntax": specialize.syntax,
    "topics": specialize.topics,
    "annotate": specialize.annotate,
    "routing": specialize.routing,
    "vocabulary": specialize.vocabulary,
    "probe": specialize.probe,
    "ablate": specialize.ablate,
    "compare": specialize.compare,
    "affinity": specialize.affinity,
    "report": specialize.report,
    "figures": specialize.figures,
    "run": specialize.run,
    "demo": demo,
    "train": specialize.train,
}


NAMES = ("upos", "pdf,png", "trace,syntax,topics,ablate")


def commands():
    return {command.name or command.callback.__name__: command.callback for command in app.registered_commands}


def plain(value):
    """A default as both sides mean it: names in one text are a tuple of names."""
    return tuple(value.split(",")) if isinstance(value, str) and value in NAMES else value


def test_every_command_has_a_function():
    assert commands().keys() == FUNCTIONS.keys()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_are_the_arguments_of_the_function_with_its_defaults(name):
    options = inspect.signature(commands()[name]).parameters
    arguments = inspect.signature(FUNCTIONS[name]).parameters
    given = {key: plain(option.default) for key, option in options.items() if key not in OTHERWISE}
    left_out = OTHERWISE | (ONLY_PYTHON - options.keys())
    taken = {key: argument.default for key, argument in arguments.items() if key not in left_out}
    assert given == taken
    assert list(arguments)[-1] == "reporter" or "reporter" not in arguments


@pytest.fixture(scope="module")
def both(checkpoint, corpus, tmp_path_factory) -> tuple[Path, Path]:
    """Two folders in which runs of the same names are made, by commands and by Python."""
    return tmp_path_factory.mktemp("commands"), tmp_path_factory.mktemp("python")


def tables(folder: Path) -> dict[str, bytes]:
    """Bytes of everything but what names the command or a time: tables, annotations, shards."""
    kinds = {".csv", ".parquet", ".arrow"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in kinds and path.is_file()
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*n_jobs value:UserWarning", "ignore::DeprecationWarning")
def test_commands_and_python_leave_the_same_tables(both, checkpoint, corpus, call, monkeypatch):
    by_command, by_python = both
    few = ("--permutations", 19)
    steps = {
        "trace": (
            ("trace", checkpoint, corpus, "-o", "mine", "--text-column", "body", "--id-column", "name"),
            lambda: specialize.trace_corpus(checkpoint, corpus, "mine", text_column="body", id_column="name"),
        ),
        "trace of another model": (
            ("trace", checkpoint, corpus, "-o", "other", "--text-column", "body", "--id-column", "name",
             "--control", "random-router", "--seed", 1),
            lambda: specialize.trace_corpus(
                checkpoint, corpus, "other", text_column="body", id_column="name", control="random-router", seed=1
            ),
        ),
        "syntax": (("syntax", "mine", *few), lambda: specialize.syntax("mine", permutations=19)),
        "topics": (("topics", "mine", *few), lambda: specialize.topics("mine", permutations=19)),
        "routing": (("routing", "mine", *few), lambda: specialize.routing("mine", permutations=19)),
        "vocabulary": (("vocabulary", "mine", *few), lambda: specialize.vocabulary("mine", permutations=19)),
        "probe": (
            ("probe", "mine", "--label-set", "upos", *few),
            lambda: specialize.probe("mine", label_sets=["upos"], permutations=19),
        ),
        "ablate": (
            ("ablate", checkpoint, "mine", "--documents", 9, "--layers", 1, "--experts", "0,2",
             "--label", "theme=music", "--top", 1, "--random", 3, "--ranking", "load", "--mode", "replace",
             "--seed", 5, *few),
            lambda: specialize.ablate(
                checkpoint, "mine", documents=9, layers=[1], experts=[0, 2], labels=["theme=music"], top=1, random=3,
                rankings=["load"], mode="replace", seed=5, permutations=19,
            ),
        ),
        "compare": (("compare", "mine", "other"), lambda: specialize.compare("mine", "other")),
        "report": (
            ("report", "mine", "-o", "page", "--figure-format", "png"),
            lambda: specialize.report(["mine"], "page", formats=("png",)),
        ),
    }  # fmt: skip
    for name, (command, function) in steps.items():
        monkeypatch.chdir(by_command)
        code, _, err = call(*command)
        assert code == 0, err
        monkeypatch.chdir(by_python)
        function()
        left, right = tables(by_command), tables(by_python)
        assert left.keys() == right.keys(), name
        assert [path for path, content in left.items() if right[path] != content] == [], name
    assert {path.split("/")[1] for path in left} >= {
        "trace", "annotations", "syntax", "topics", "routing", "vocabulary", "probe", "ablation", "compare", "figures"
    }  # fmt: skip
