"""The table of all experts: its numbers are those of the results, and it sorts, filters and leads to the explorer."""

import re

import numpy as np
import pytest

from browser import ask_page, needs_chromium
from plot.planted_frames import planted_frame
from reporting.planted_runs import make_ablated, make_run
from specialize.reporting import expert_table, write_report
from specialize.reporting.expert_table import collect_expert_tables
from specialize.reporting.reading import read_runs

HOSTILE = "<img src=x alt=in onerror=alert(1)>"
# goes to the table and waits for it to be drawn
READY = """
  const part = page.getElementById("experts");
  view.location.hash = "#experts";
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  for (let tries = 0; tries < 200 && !part.querySelector(".tabulator-row"); tries++) await wait(20);
  const find = (field) => part.querySelectorAll(`.tabulator-row [tabulator-field="${field}"]`);
  const cells = (field) => [...find(field)].map((each) => each.textContent);
  const change = (name, value, kind) => {
    const input = part.querySelector(`[name="${name}"]`);
    if (typeof value === "boolean") input.checked = value; else input.value = value;
    input.dispatchEvent(new view.Event(kind || "change", { bubbles: true }));
    return wait(100);
  };
"""


def tables_of(runs):
    return collect_expert_tables(runs)["runs"]


def test_its_numbers_are_those_of_the_results(pair_runs):
    runs = read_runs(pair_runs)
    tables = tables_of(runs)
    assert [table["name"] for table in tables] == [run.label for run in runs]
    for run, table in zip(runs, tables, strict=True):
        assert len(table["layer"]) == 4 * 8
        assert table["sets"][0]["name"] == "POS"
        for found, frame in zip(table["sets"], run.frames.values(), strict=True):
            learned = frame[(frame["routing"] == "learned") & frame["expert"].notna()]
            places = {label: place for place, label in enumerate(found["labels"])}
            checked = 0
            for row in learned[learned["metric"] == "lift"].itertuples():
                at = table["layer"].index(int(row.layer)) + int(row.expert)
                assert (table["layer"][at], table["expert"][at]) == (row.layer, row.expert)
                place = places.get(row.label)
                if place is None:
                    continue  # a long label, cut
                cell = at * len(places) + place
                for name, value in (
                    ("lift", row.value),
                    ("low", row.ci_low),
                    ("high", row.ci_high),
                    ("q", row.q_value),
                ):
                    expected = None if np.isnan(value) else pytest.approx(value, rel=5e-3)
                    assert found[name][cell] == expected
                checked += 1
            assert checked
            for row in learned[learned["metric"] == "specific_information"].itertuples():
                at = table["layer"].index(int(row.layer)) + int(row.expert)
                assert found["information"][at] == pytest.approx(row.value, rel=5e-3)


def test_the_effects_of_a_run_whose_experts_were_switched_off(tmp_path):
    [run] = read_runs([make_ablated(tmp_path / "run")])
    [table] = tables_of([run])
    rows = run.ablation["experts"].query("metric == 'effect' and expert.notna()")
    assert len(rows)
    for row in rows.itertuples():
        at = table["layer"].index(int(row.layer)) + int(row.expert)
        assert table["effect"][at] == pytest.approx(row.value, rel=5e-3)


def test_of_very_many_cells_the_intervals_are_left_out(pair_runs, monkeypatch):
    monkeypatch.setattr(expert_table, "MOST_CELLS", 10)
    for table in tables_of(read_runs(pair_runs)):
        for found in table["sets"]:
            assert {"lift", "q"} < found.keys()
            assert not {"low", "high"} & found.keys()


def test_a_run_of_which_nothing_is_measured_has_no_table(tmp_path):
    assert collect_expert_tables(read_runs([make_run(tmp_path / "run")])) is None


def test_the_licence_of_the_library_is_in_the_page(pair):
    text = pair[1].read_text(encoding="utf-8")
    assert "Copyright (c) 2015-2026 Oli Folkerd" in text
    assert "sourceMappingURL" not in text


@pytest.mark.browser
@needs_chromium
class TestInABrowser:
    @pytest.mark.parametrize(("width", "dark"), [(320, False), (1280, True)])
    def test_it_sorts_and_filters(self, pair, tmp_path, width, dark):
        script = (
            READY
            + """
        told.first = cells("information").map(Number);
        told.number = part.querySelector(".told").textContent;
        part.querySelector('.tabulator-col[tabulator-field="load"]').click();
        await wait(100);
        told.loads = cells("load").map(Number);
        await change("layer", "2");
        told.layers = [...new Set(cells("layer"))];
        told.fewer = part.querySelector(".told").textContent;
        await change("layer", "");
        await change("words", "noun", "input");
        told.words = cells("strongest");
        await change("words", "no such label", "input");
        told.none = part.querySelector(".tabulator-placeholder").textContent;
        await change("words", "", "input");
        await change("set", "1");
        told.topics = [...part.querySelectorAll(".tabulator-col")].map((each) => each.textContent);
        told.over = page.documentElement.scrollWidth - page.documentElement.clientWidth;
        """
        )
        told, console = ask_page(pair[1].as_uri(), tmp_path, script, width=width, dark=dark)
        assert console == []
        assert told["first"] == sorted(told["first"], reverse=True)
        assert len(told["first"]) > 4
        assert told["number"] == "32 of 32 experts"
        assert told["loads"] == sorted(told["loads"], reverse=True)
        assert told["layers"] == ["2"]
        assert told["fewer"] == "8 of 32 experts"
        assert told["words"]
        assert all("NOUN" in words for words in told["words"])
        assert told["none"] == "No expert fits."
        assert any("river" in head for head in told["topics"])
        assert told["over"] == 0

    def test_a_cell_that_is_chosen_tells_its_interval_and_a_row_leads_to_the_explorer(self, pair, tmp_path):
        script = (
            READY
            + """
        const cell = part.querySelector('.tabulator-row [tabulator-field="label0"]');
        cell.click();
        await wait(50);
        told.cell = part.querySelector(".told").textContent;
        const link = part.querySelector('.tabulator-row [tabulator-field="expert"] a');
        told.link = link && link.getAttribute("href");
        """
        )
        told, _ = ask_page(pair[1].as_uri(), tmp_path, script)
        assert re.fullmatch(
            r"Layer \d, expert \d: \w+: lift [\d.]+, 95 % interval [\d.]+ to [\d.]+, q = [\d.]+", told["cell"]
        )
        assert told["link"] is None  # these runs have no trace, and the page has no explorer

    def test_labels_and_tokens_are_texts(self, tmp_path):
        labels = [HOSTILE, "b", "c"]
        topics = {"topic": planted_frame("run", label_set="topic", labels=labels, strengths=(0.4,))}
        run = make_run(tmp_path / "run", topics=topics, num_layers=1)
        page = write_report([run], tmp_path / "out", formats=())
        script = (
            READY
            + """
        const cell = part.querySelector('.tabulator-row [tabulator-field="label0"]');
        const over = new view.MouseEvent("mouseenter", { bubbles: true });
        cell.dispatchEvent(over);
        cell.click();
        await wait(600);
        told.cell = part.querySelector(".told").textContent;
        told.heads = [...part.querySelectorAll(".tabulator-col-title")].map((each) => each.textContent);
        told.images = page.querySelectorAll("img").length;
        """
        )
        told, console = ask_page(page.as_uri(), tmp_path, script)
        assert HOSTILE in told["cell"]
        assert HOSTILE in told["heads"]
        assert told["images"] == 0
        assert console == []
