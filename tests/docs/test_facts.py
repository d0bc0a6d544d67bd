"""Lists and numbers that the documentation repeats are those of the package."""

import re
import tomllib

import pytest

from docs.snippets import ROOT
from specialize.annotators.tagging import TAGS
from specialize.annotators.token_classes import CLASSES
from specialize.corpus.files import COMPRESSIONS
from specialize.corpus.readers import READERS
from specialize.measure import RESULT_COLUMNS
from specialize.pipeline.stage import DEFAULT_PERMUTATIONS
from specialize.trace.imports import FORMATS
from specialize.trace.schema import (
    CONTENTS,
    FORMAT,
    FORMAT_VERSION,
    PREDICTION_FIELDS,
    READABLE_VERSIONS,
    ROLE_FIELD,
    TOKEN_SCHEMA,
)
from specialize.tracing.plan import HALF_BYTES, TOKEN_BYTES


def read(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def first_cells(text, heading):
    """Names in the first column of the table under a header row."""
    table = text[text.index(heading) :].split("\n\n", maxsplit=1)[0]
    rows = [row.split(" | ")[0] for row in table.splitlines()[2:]]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(first_cells(read("index.md"), "| Extra |")) == set(project["optional-dependencies"])
    assert f"Python {project['requires-python'].removeprefix('>=')} or newer" in (ROOT / "README.md").read_text("utf-8")


def test_formats():
    assert first_cells(read("how-to/import-routing.md"), "| Format |") == list(FORMATS)


def test_kinds_of_corpora():
    named = re.findall(r"`(\.\w+)`", read("how-to/trace-a-model.md"))
    assert set(named) == {*READERS, *COMPRESSIONS}


def test_tags():
    rows = read("how-to/syntax.md").split("| Label of |")[1].split("\n\n")[0].splitlines()[2:]
    words, tokens = (re.findall(r"`(\w+)`", row) for row in rows)
    assert set(words) == set(TAGS)
    assert set(tokens) == set(CLASSES)


def test_run_folder():
    text = read("run-folder.md")
    assert f"The format is named `{FORMAT}`, its version is {FORMAT_VERSION}." in text
    assert READABLE_VERSIONS == (1, 2, 3, 4)
    assert "Versions 1 to 3 can still be read" in text
    columns = first_cells(text, "| Column | Type | Meaning |\n|---|---|---|\n| `document`")
    assert columns == [*TOKEN_SCHEMA.names, *(field.name for field in PREDICTION_FIELDS), ROLE_FIELD.name]
    of_routers = first_cells(text, "| Column | Type | Meaning |\n|---|---|---|\n| `experts.r`")
    assert of_routers == ["experts.r", *(f"{name}.r" for name in CONTENTS if name not in ("predictions", "roles"))]


def test_result_columns():
    assert set(first_cells(read("numbers.md"), "| Column |")) == set(RESULT_COLUMNS)


@pytest.mark.parametrize("level", DEFAULT_PERMUTATIONS)
def test_permutations(level):
    assert f"{DEFAULT_PERMUTATIONS[level]:,} " + {"token": "permutations for token", "document": "for document"}[
        level
    ] in " ".join(read("numbers.md").split())


def test_estimate_of_size():
    assert f"{TOKEN_BYTES} bytes + " in read("how-to/big-models.md")
    assert f"{HALF_BYTES} bytes · number of half-precision values" in read("how-to/big-models.md")
