"""Every Python snippet of the documentation runs, page by page, on a tiny model and corpus."""

import ast
import warnings

import matplotlib.pyplot as plt
import pytest

from docs.snippets import ROOT, blocks, name_of, pages


def python_of(page):
    return [block for block in blocks(page) if block.language == "python"]


START = ROOT / "docs" / "index.md"  # shows what README shows
WITH_PYTHON = [page for page in pages() if python_of(page) and page != START]
TRACING = {  # pages that make runs/olmoe themselves
    "README.md",
    "docs/how-to/trace-a-model.md",
    "docs/how-to/random-router.md",
}


def test_python_is_found_in_the_documentation():
    assert {name_of(page) for page in WITH_PYTHON} >= TRACING
    assert len(WITH_PYTHON) >= 15
    assert [block.text for block in python_of(START)] == [block.text for block in python_of(ROOT / "README.md")]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_snippets_run(page, here):
    if name_of(page) in TRACING:
        (here / "runs").rename(here / "kept")
    names: dict[str, object] = {}
    for block in python_of(page):
        code = compile(ast.parse("\n" * block.line + block.text), str(page), "exec")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)  # of transformers, which users may see
            warnings.filterwarnings("ignore", message="'pin_memory'")  # of a Trainer where there is no GPU
            exec(code, names)
    plt.close("all")


def test_sql(here):
    import duckdb

    import specialize

    [query] = [each.text for page in pages() for each in blocks(page) if each.language == "sql"]
    specialize.export("runs/olmoe", "parquet")
    rows = duckdb.sql(query).fetchall()
    assert 0 < len(rows) <= 10
    assert all(text and times > 0 for text, times in rows)


def test_toml(here):
    from specialize.models.settings import read_train_config

    [settings] = [each.text for page in pages() for each in blocks(page) if each.language == "toml"]
    (here / "shown.toml").write_text(settings, encoding="utf-8")
    config = read_train_config(here / "shown.toml")
    assert config.training.steps == 2000
