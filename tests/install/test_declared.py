"""What the package declares is what its source imports, and what each extra brings."""

import ast
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from install.fresh import PROJECT, ROOT, close_requirements

# Packages that a user is asked to install where they are needed: no extra brings them.
ASKED_FOR = {"datasets": "a corpus hf://DATASET"}


def imported() -> dict[str, set[str]]:
    """Top-level modules of other projects that `src` imports, each with the files that do."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            else:
                continue
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != PROJECT["name"]:
                    found.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_import_of_the_source_is_declared():
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    owners = packages_distributions()
    missing = {
        module: sorted(files)
        for module, files in imported().items()
        if module not in ASKED_FOR and not {canonicalize_name(owner) for owner in owners.get(module, ())} & declared
    }
    assert not missing


@pytest.mark.parametrize(
    ("extras", "brings", "lacks"),
    [
        ("", {"numpy", "pyarrow", "matplotlib", "typer"}, {"torch", "transformers", "tokenizers", "spacy", "bertopic"}),
        ("capture", {"torch", "transformers", "tokenizers"}, {"spacy", "bertopic", "sentence-transformers"}),
        ("serve", {"httpx", "transformers", "tokenizers"}, {"torch", "accelerate", "spacy", "bertopic"}),
        ("syntax", {"spacy"}, {"torch", "transformers", "bertopic"}),
        ("topics", {"bertopic", "sentence-transformers", "umap-learn", "hdbscan"}, {"spacy"}),
        ("large", {"accelerate", "transformers"}, {"spacy", "bertopic"}),
        ("remote", {"fsspec", "s3fs"}, {"torch", "transformers", "spacy", "bertopic"}),
        ("ray", {"ray", "threadpoolctl"}, {"torch", "transformers", "spacy", "bertopic"}),
        ("all", {"torch", "httpx", "spacy", "bertopic"}, {"ray"}),
    ],
)
def test_what_an_extra_brings(extras, brings, lacks):
    names = set(close_requirements([f"specialize[{extras}]"]))
    assert brings <= names
    assert not lacks & names


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [("all", "capture,serve,syntax,topics,large,remote"), ("demo", "all"), ("test", "demo"), ("test", "ray")],
)
def test_an_extra_brings_all_of_another(larger, smaller):
    assert set(close_requirements([f"specialize[{smaller}]"])) <= set(close_requirements([f"specialize[{larger}]"]))
