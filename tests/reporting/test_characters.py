"""Labels that no installed font can draw are reported in one line, to whoever listens."""

import pytest
from matplotlib import font_manager

import specialize
from plot.planted_frames import planted_frame
from reporting.planted_runs import make_run

LABELS = ["ประวัติศาสตร์", "自然科学", "plain"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    bundled = [entry for entry in font_manager.fontManager.ttflist if entry.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", bundled)
    topics = planted_frame("run", label_set="topic", labels=LABELS, strengths=(0.4,))
    return make_run(tmp_path / "run", topics={"topic": topics}, num_layers=1)


class Listener(type(specialize.events.SILENT)):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def test_a_listener_receives_one_line_for_all_figures(run, tmp_path):
    listener = Listener()
    written = specialize.figures(run, tmp_path / "out", formats=("png",), reporter=listener)
    assert len(written) > 2
    [line] = [line for line in listener.lines if "no installed font" in line]
    assert "Noto Sans Thai" in line
    assert "Noto Sans CJK" in line
    listener.lines.clear()
    specialize.figures(run, tmp_path / "svg", formats=("svg",), reporter=listener)
    assert not [line for line in listener.lines if "no installed font" in line]


def test_without_a_listener_it_is_a_warning(run, tmp_path):
    with pytest.warns(UserWarning, match=r"no installed font has the characters .* install Noto Sans") as caught:
        specialize.figures(run, tmp_path / "out", only=["heatmap-*"], formats=("png",))
    assert len(caught) == 1
