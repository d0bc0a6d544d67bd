"""The report as Markdown."""

import re

import pytest

from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run
from specialize.errors import SpecializeError
from specialize.reporting import write_report
from specialize.reporting.markdown import escape_markdown, lay_out_table, quote_code
from specialize.reporting.tables import Cell, Table


def test_the_page_says_what_the_html_says_and_shows_files_that_exist(pair_runs, tmp_path):
    page = write_report(pair_runs, tmp_path, formats=("png",), page_format="md")
    text = page.read_text(encoding="utf-8")
    assert page.name == "report.md"
    assert "**Summary: U at the layer where it is largest, in % of H(label)**" in text
    shown = re.findall(r"\]\((figures/[^)]*)\)", text)
    assert len(shown) > 10
    assert all((tmp_path / name).is_file() for name in shown)
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|") or not line]
    blocks = [set(group.split()) for group in " ".join(map(str, widths)).split(" 0 ")]
    assert all(len(block - {"0"}) <= 1 for block in blocks)  # as many cells in each row of a table


def test_text_of_corpora_is_never_markup(tmp_path):
    labels = ["<script>x</script>", "a|b", "[x](javascript:alert(1))", "`code`", "**bold**"]
    run = make_run(tmp_path / "run", syntax=planted_frame("<b>run</b>", labels=labels, strengths=(0.3, 0.5)))
    text = write_report([run], tmp_path / "out", formats=("png",), page_format="md").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert r"\<b\>run\</b\>" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("text", "escaped"), [("a_b|c", r"a\_b\|c"), ("- item", r"\- item"), ("1. item", r"1\. item"), ("x\ny", "x y")]
)
def test_escaping(text, escaped):
    assert escape_markdown(text) == escaped


def test_code_holds_backticks():
    assert quote_code("a ``b`` c") == "```a ``b`` c```"
    assert quote_code("`x`") == "`` `x` ``"


def test_heads_of_two_rows_become_one():
    head = [[Cell(""), Cell("U", span=2)], [Cell("layer"), Cell("value"), Cell("null")]]
    table = Table("T", head, [[Cell("0"), Cell("0.1", "number strong"), Cell("0.0", "number")]])
    assert lay_out_table(table).splitlines()[2:] == [
        "| layer | U value | U null |",
        "| --- | ---: | ---: |",
        "| 0 | **0.1** | 0.0 |",
    ]


def test_an_unknown_format_is_an_error(pair_runs, tmp_path):
    with pytest.raises(SpecializeError, match="expected html or md, got 'doc'"):
        write_report(pair_runs, tmp_path / "out", page_format="doc")
    assert not (tmp_path / "out").exists()
