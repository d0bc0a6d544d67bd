"""The demo, on fewer documents, and its report as a browser shows it."""

import json

import pandas as pd
import pytest

from browser import CONTRASTS, ask_page, console_lines, needs_chromium, requested, run_chromium
from specialize.pipeline.demo import demo as run_demo
from specialize.trace import open_trace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the run folders and the page."""
    return run_demo(tmp_path_factory.mktemp("demo") / "out", limit=150)


def test_the_demo_leads_to_a_report(demo):
    runs, page = demo
    assert [run.name for run in runs] == ["token", "sequence"]
    assert page.stat().st_size < 5e6
    everything = [(run, path) for run in runs for path in sorted(run.glob("*/*.parquet"))]
    switched_off = {"upos", "next_upos", "bertopic", "gold_topic", "experts"}
    ablated = {
        (run.name, path.stem): pd.read_parquet(path) for run, path in everything if path.parent.name == "ablation"
    }
    assert set(ablated) == {(run.name, name) for run in runs for name in switched_off}
    experts = ablated["token", "experts"]
    indirect = experts[experts["metric"] == "indirect_effect"].set_index("layer")["value"]
    assert (indirect[0] != 0).all()
    assert (indirect[3] == 0).all()  # nothing follows the last layer
    assert 'id="function"' in page.read_text(encoding="utf-8")
    frames = {
        (run.name, path.stem): pd.read_parquet(path) for run, path in everything if path.parent.name != "ablation"
    }
    measured = {"upos", "bertopic", "gold_topic", "routing", "vocabulary", "topic_info", "topic_quality", "top_tokens"}
    assert set(frames) == {(run.name, name) for run in runs for name in measured} | {("token", "against-sequence")}
    labelled = {key: frame for key, frame in frames.items() if key[1] in ("upos", "bertopic", "gold_topic")}
    for frame in labelled.values():
        u = frame[frame["metric"] == "uncertainty_coefficient"]
        for routing in ("learned", "random"):
            assert u.loc[u["routing"] == routing, "layer"].tolist() == [0, 1, 2, 3]
        assert u[["value", "ci_low", "ci_high", "null_mean", "p_value"]].notna().all(axis=None)
    best = {
        key: frame.loc[(frame["metric"] == "uncertainty_coefficient") & (frame["routing"] == "learned"), "value"].max()
        for key, frame in labelled.items()
    }
    assert best["token", "upos"] > best["sequence", "upos"]
    manifests = [json.loads((run / "manifest.json").read_text()) for run in runs]
    assert manifests[0]["corpus"]["digest"] == manifests[1]["corpus"]["digest"]


@pytest.mark.browser
@needs_chromium
class TestBrowser:
    """What a reader of the report does with it."""

    def test_it_opens_without_an_error_and_asks_for_nothing(self, demo, tmp_path):
        log = tmp_path / "net.json"
        done = run_chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", demo[1].as_uri())
        assert console_lines(done) == []
        assert requested(log) == set()
        assert done.stdout.count('class="answer"') == 6

    def test_choosing_an_expert_changes_the_passages(self, demo, tmp_path):
        script = """
        view.location.hash = "#layer-0";
        for (let tries = 0; tries < 200 && !page.querySelector("#explorer [name=run] option"); tries++) {
          await new Promise((done) => setTimeout(done, 20));
        }
        page.querySelector("#explorer .passages > button")?.click();  // all passages
        const choose = (name, value) => {
          const select = page.querySelector(`#explorer [name=${name}]`);
          select.value = value;
          select.dispatchEvent(new view.Event("change"));
        };
        const painted = () => [...page.querySelectorAll(".passages span[style]")].map((span) => span.textContent);
        choose("run", 0); choose("layer", 0); choose("expert", 0);
        told.all = painted().length;
        told.chosen = [1, 2, 3, 4, 5, 6, 7, 8].map((expert) => { choose("expert", expert); return painted().length; });
        told.labels = page.querySelectorAll("#explorer .labels tbody tr").length;
        """
        told, console = ask_page(demo[1].as_uri(), tmp_path, script)
        assert console == []
        assert told["labels"] == 15  # five of each label set
        assert len(set(told["chosen"])) > 4
        # each token has two experts: over all experts every token is painted twice
        assert sum(told["chosen"]) == open_trace(demo[0][0]).layers[0].top_k * told["all"]

    @pytest.mark.parametrize("dark", [False, True])
    def test_on_a_phone_nothing_overflows_and_every_text_can_be_read(self, demo, tmp_path, dark):
        script = f"{CONTRASTS} told.over = page.documentElement.scrollWidth - page.documentElement.clientWidth;"
        told, console = ask_page(demo[1].as_uri(), tmp_path, script, width=375, dark=dark)
        assert console == []
        assert told["over"] == 0
        assert told["poor"] == []
        assert told["texts"] > 1000
        assert (told["paper"] < 0.05) == dark
