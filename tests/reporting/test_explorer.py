"""The expert explorer shows the contents of the trace, whatever the text is."""

import base64
import html
import json
import re
import shutil

import numpy as np
import pytest

import specialize.models  # noqa: F401 (registers the model type with transformers)
from browser import ask_page, needs_chromium
from reporting.own_text import read_packed, strip_libraries
from specialize.capture import TraceOptions, load_checkpoint, trace_documents
from specialize.corpus import open_corpus
from specialize.demo import checkpoint_path
from specialize.errors import TraceError
from specialize.reporting import write_report
from specialize.reporting.explorer import PASSAGES, TOKENS, collect_explorer
from specialize.reporting.reading import read_runs
from specialize.trace import open_trace

MARKUP = "</script><script>document.title='in'</script> <img src=x onerror=alert(1)>"
HOSTILE = f'{MARKUP} \u202eevil\u202c & "quoted" naïve 東京'
RIVER = "The river carries cold water to the sea. " * 20
TEXTS = [HOSTILE, RIVER, *(f"Document {n} about music and song." for n in range(20))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explorer")
    lines = [json.dumps({"id": f"<b>{n}</b>", "text": text}) for n, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    checkpoint = load_checkpoint(str(checkpoint_path("token")))
    corpus = open_corpus(str(folder / "corpus.jsonl"))
    return trace_documents(checkpoint, corpus, folder / "run", options=TraceOptions()).path


@pytest.fixture(scope="module")
def page(run):
    return write_report([run], run.parent / "report", formats=())


def test_experts_and_weights_are_those_of_the_trace(run):
    (view,) = collect_explorer(read_runs([run]))["runs"]
    trace = open_trace(run)
    shown = [len(passage["tokens"]) for passage in view["passages"]]
    assert len(shown) == PASSAGES
    assert max(shown) == TOKENS  # the river's document is longer
    documents = trace.tokens()["document"].to_numpy()
    chosen = np.unique(np.linspace(0, len(TEXTS) - 1, PASSAGES).astype(int))
    rows = np.concatenate([np.flatnonzero(documents == document)[:TOKENS] for document in chosen])
    assert len(view["layers"]) == len(trace.layers)
    for layer in view["layers"]:
        experts = np.frombuffer(base64.b64decode(layer["chosen"]), np.uint8).reshape(-1, layer["k"])
        np.testing.assert_array_equal(experts, trace.experts(layer["layer"])[rows])
        weights = np.frombuffer(base64.b64decode(layer["weights"]), np.uint8).reshape(-1, layer["k"]) / 255
        np.testing.assert_allclose(weights, trace.weights(layer["layer"])[rows], atol=0.5 / 255 + 1e-3)


def test_the_tokens_spell_the_text(run):
    (view,) = collect_explorer(read_runs([run]))["runs"]
    plain = "".join(view["passages"][-1]["tokens"])
    assert plain == TEXTS[-1]
    first = "".join(view["passages"][0]["tokens"])
    assert "東京" in first
    assert "\u202e" not in first


def test_nothing_of_the_text_is_markup(page):
    source = page.read_text(encoding="utf-8")
    [data] = read_packed(source)
    assert "<b>0</b>" in [passage["title"] for passage in data["runs"][0]["passages"]]
    assert len(re.findall("<script", source)) == 3  # the data and the page's own two
    assert html.unescape(source).count("'sha256-") == 2
    assert "<b>0</b>" not in source


def test_a_damaged_trace_is_noticed_before_anything_is_written(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run/trace/documents.arrow").unlink()
    with pytest.raises(TraceError, match=r"documents\.arrow: expected a file of the trace, found none"):
        write_report([tmp_path / "run"], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_without_a_trace_there_is_no_explorer(pair):
    assert collect_explorer(read_runs(pair[0])) is None
    page = pair[1].read_text(encoding="utf-8")
    assert not [name for name in ("#explorer", 'id="explorer', "passages") if name in strip_libraries(page)]


CHOOSE = """
    view.location.hash ||= "#layer-0";  // an address needs no frame to be drawn, unlike scrolling
    for (let tries = 0; tries < 200 && !page.querySelector("#explorer [name=run] option"); tries++) {
      await new Promise((done) => setTimeout(done, 20));
    }
    view.scrollTo(0, 0);
    page.querySelector("#explorer .passages > button")?.click();  // all passages
    const find = (selector) => page.querySelector("#explorer " + selector);
    const choose = (name, value) => {
      const select = find(`[name=${name}]`);
      select.value = value;
      select.dispatchEvent(new view.Event("change"));
    };
"""


def own_rows(trace):
    """Return the rows of the tokens of each passage, in the order of the corpus."""
    documents = trace.tokens()["document"].to_numpy()
    chosen = np.unique(np.linspace(0, len(TEXTS) - 1, PASSAGES).astype(int))
    return chosen, [np.flatnonzero(documents == document)[:TOKENS] for document in chosen]


@pytest.mark.browser
@needs_chromium
def test_choosing_an_expert_changes_the_passages(run, page, tmp_path):
    """First everything, then one expert of one layer, then a passage over the layers; as wide as a phone."""
    expert, layer = 3, 2
    script = f"""{CHOOSE}
    const titles = () => [...page.querySelectorAll(".passages h3")].map((h) => h.firstChild.textContent);
    const count = () => page.querySelectorAll(".passages span[style]").length;
    Object.assign(told, {{ all: titles(), hidden: find(".over").hidden, painted: count() }});
    choose("layer", {layer}); choose("expert", {expert + 1});
    told.titles = titles();
    told.shares = [...page.querySelectorAll(".passages small")].map((s) => parseInt(s.textContent));
    told.highlighted = count();
    told.note = find(".tokens").textContent;
    find("button").click();
    const cells = (row) => [...row.cells].slice(1).map((cell) => cell.textContent);
    told.rows = [...page.querySelectorAll(".over tbody tr")].map(cells);
    told.wide = page.documentElement.scrollWidth - page.documentElement.clientWidth;
    told.title = page.title;
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=375)
    assert console == []
    trace = open_trace(run)
    experts = trace.experts(layer)
    chosen, own = own_rows(trace)
    shares = np.array([(experts[rows] == expert).any(axis=1).mean() for rows in own])
    order = np.argsort(-shares, kind="stable")
    assert told["all"] == [f"<b>{document}</b>" for document in chosen]
    assert told["titles"] == [f"<b>{chosen[place]}</b>" for place in order]
    np.testing.assert_allclose(told["shares"], 100 * shares[order], atol=0.51)
    assert told["painted"] == sum(map(len, own))
    assert told["highlighted"] == sum((experts[rows] == expert).any(axis=1).sum() for rows in own)
    assert told["note"].startswith(f"Layer {layer}, expert {expert}")
    assert told["hidden"]
    assert told["rows"] == [
        [str(each) for each in trace.experts(n)[own[order[0]], 0]] for n in range(len(trace.layers))
    ]
    assert told["wide"] == 0
    assert told["title"].startswith("Expert specialization")


@pytest.mark.browser
@needs_chromium
def test_click_and_keys_show_the_experts_of_a_token(run, page, tmp_path):
    script = f"""{CHOOSE}
    choose("layer", 1);
    const passage = find(".passage"), line = find(".routed");
    told.before = line.hidden;
    told.focusable = passage.tabIndex;
    passage.children[2].click();
    told.click = line.textContent;
    const press = (key) => passage.dispatchEvent(new view.KeyboardEvent("keydown", {{ key, bubbles: true }}));
    press("ArrowRight"); told.right = line.textContent;
    press("Home"); told.home = line.textContent;
    press("ArrowLeft"); told.stays = line.textContent;
    press("End"); told.end = line.textContent;
    told.current = page.querySelectorAll(".current").length;
    press("Escape"); told.after = line.hidden;
    """
    told, console = ask_page(page.as_uri(), tmp_path, script)
    assert console == []
    trace = open_trace(run)
    rows = own_rows(trace)[1][0]
    experts = trace.experts(1)[rows]

    def names(text):
        return [int(each) for each in re.findall(r"expert (\d+)", text.partition("layer 1: ")[2])]

    for key, place in (("click", 2), ("right", 3), ("home", 0), ("stays", 0), ("end", len(rows) - 1)):
        assert names(told[key]) == experts[place].tolist(), key
    assert (told["before"], told["after"], told["current"], told["focusable"]) == (True, True, 1, 0)


@pytest.mark.browser
@needs_chromium
def test_what_is_chosen_has_an_address_and_back_leads_to_what_was_before(page, tmp_path):
    script = f"""{CHOOSE}
    const wait = () => new Promise((done) => setTimeout(done, 60));
    const number = (name) => Number(find(`[name=${{name}}]`).value);
    const state = () => [view.location.hash, number("layer"), number("expert")];
    told.opened = state();
    choose("layer", 1); choose("expert", 3);
    told.chosen = state();
    view.history.back(); await wait();
    told.back = state();
    view.location.hash = "#layer-2-expert-0"; await wait();
    told.sent = state();
    told.top = page.getElementById("explorer").getBoundingClientRect().top;
    view.location.hash = "#passage-3"; await wait();
    told.passage = page.getElementById("passage-3").getBoundingClientRect().top;
    view.location.hash = "#layer-99-expert-0"; await wait();
    told.unknown = state().slice(1);
    """
    told, console = ask_page(f"{page.as_uri()}#layer-3-expert-4", tmp_path, script)
    assert told["opened"] == ["#layer-3-expert-4", 3, 5]
    assert told["chosen"] == ["#layer-1-expert-2", 1, 3]
    assert told["back"] == ["#layer-1-expert-4", 1, 5]
    assert told["sent"] == ["#layer-2-expert-0", 2, 1]
    assert abs(told["top"]) < 200
    assert abs(told["passage"]) < 2500
    assert told["unknown"] == [2, 1]  # what is not there changes nothing
    assert console == []


@pytest.fixture(scope="module")
def three(run, tmp_path_factory):
    """Two runs of a corpus, with routing of tokens and of sequences, and one of another corpus with the same ids."""
    folder = tmp_path_factory.mktemp("three")
    lines = [json.dumps({"id": f"<b>{n}</b>", "text": text[:9]}) for n, text in enumerate(TEXTS)]
    (folder / "other.jsonl").write_text("\n".join(lines))
    checkpoint = load_checkpoint(str(checkpoint_path("sequence")))
    traces = [
        trace_documents(checkpoint, open_corpus(str(corpus)), folder / name, options=TraceOptions())
        for name, corpus in (("sequence", run.parent / "corpus.jsonl"), ("other", folder / "other.jsonl"))
    ]
    return [open_trace(run), *traces], write_report(
        [run, *(trace.path for trace in traces)], folder / "report", formats=()
    )


@pytest.mark.browser
@needs_chromium
@pytest.mark.parametrize("width", [320, 1280])
def test_two_runs_are_shown_side_by_side(three, tmp_path, width):
    (token, sequence, _), page = three
    script = f"""{CHOOSE}
    const offered = () => [...find("[name=beside]").options].map((option) => option.textContent);
    const hidden = () => find("[name=beside]").parentElement.hidden;
    told.offered = offered();
    choose("run", 2); told.other = [offered(), hidden()];
    choose("run", 0); choose("layer", 1);
    told.before = find("article").querySelectorAll(".passage").length;
    choose("beside", 1);
    told.address = view.location.hash;
    told.names = [...find("article").querySelectorAll("h4")].map((each) => each.textContent);
    told.experts = [...page.querySelectorAll("article")].map((article) =>
      [...article.querySelectorAll(".passage")].map((text) =>
        [...text.children].map((span) => Number(/expert (\\d+)/.exec(span.title)[1]))));
    told.wide = page.documentElement.scrollWidth - page.documentElement.clientWidth;
    choose("beside", "");
    view.location.hash = told.address;
    await new Promise((done) => setTimeout(done, 60));
    told.opened = [find("[name=beside]").value, find("article").querySelectorAll(".passage").length];
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=width)
    assert console == []
    assert told["offered"] == ["no other run", "sequence"]  # not that of another corpus
    assert told["other"] == [["no other run"], True]
    assert told["before"] == 1
    assert told["address"] == "#run-1-layer-1-beside-2"
    assert told["names"] == ["run", "sequence"]
    assert told["opened"] == ["1", 2]
    assert told["wide"] == 0
    rows = own_rows(token)[1]
    for trace, shown in zip((token, sequence), zip(*told["experts"], strict=True), strict=True):
        first = trace.experts(1)[:, 0]
        assert list(shown) == [first[own].tolist() for own in rows]


@pytest.mark.browser
@needs_chromium
def test_passages_are_searched_and_it_is_said_when_none_is_routed_to_the_expert(three, tmp_path):
    (_, sequence, _), page = three
    rows = own_rows(sequence)[1][1]
    [unused, *_] = set(range(sequence.layers[1].num_experts)) - set(sequence.experts(1)[rows].ravel().tolist())
    script = f"""{CHOOSE}
    const search = (text) => {{
      find("[name=words]").value = text;
      find("[name=words]").dispatchEvent(new view.Event("input"));
      return [page.querySelectorAll("article").length, find(".passages > .note")?.textContent || ""];
    }};
    choose("run", 1); choose("layer", 1);
    told.river = search("RIVER carries");
    told.nothing = search("no such words");
    choose("expert", {unused + 1});
    told.unused = search("river");
    told.all = search("")[0];
    """
    told, console = ask_page(page.as_uri(), tmp_path, script)
    assert console == []
    assert told["river"] == [1, ""]
    assert told["nothing"] == [0, f"None of the {PASSAGES} passages has this text."]
    assert told["unused"] == [1, "No token of these passages is routed to this expert."]
    assert told["all"] == PASSAGES
