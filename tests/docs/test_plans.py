"""The plans of the documentation are what their commands print."""

import pytest

from docs.snippets import ROOT


@pytest.fixture
def plans(generators):
    import plans

    return plans


def test_page(plans, call, monkeypatch):
    monkeypatch.chdir(ROOT)

    def run(words):
        code, out, err = call(*words)
        assert (code, err) == (0, "")
        return out

    page = plans.PAGE.read_text(encoding="utf-8")
    assert page.count("<!-- plan: ") == 4
    assert page == plans.insert(page, run), "run `.venv/bin/python docs/generate/plans.py`"
