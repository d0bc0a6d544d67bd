"""A page of four runs, two of large models with everything measured, as it is read on phones and desks."""

import pytest

from browser import AXE, CONTRASTS, add_axe, ask_page, console_lines, needs_chromium, requested, run_chromium
from reporting.synthetic_runs import make_four
from specialize.reporting import write_report

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_chromium]

WIDTHS = (320, 375, 768, 1280)
LONGEST = 12_000  # pixels on a desk, before anything is opened
# goes to an address and waits until something is there
GO = """
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const go = async (address, selector) => {
    view.location.hash = address;
    for (let tries = 0; tries < 200 && !page.querySelector(selector); tries++) await wait(20);
  };
  const choose = (part, name, value) => {
    const select = page.querySelector(`${part} [name=${name}]`);
    select.value = value;
    select.dispatchEvent(new view.Event("change", { bubbles: true }));
    return wait(100);
  };
"""
DRAW_ALL = """
  for (const details of page.querySelectorAll("details")) details.open = true;
  await go("#experts", "#experts .tabulator-row");
  await go("#layer-3-expert-5", "#explorer .passage");
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    return write_report(make_four(folder), folder / "report", formats=())


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_window_and_tells_the_runs_apart(page, tmp_path, width):
    script = """
    const root = page.documentElement;
    told.height = root.scrollHeight;
    for (const details of page.querySelectorAll("details")) details.open = true;
    told.over = root.scrollWidth - root.clientWidth;
    const bar = page.querySelector("nav");
    told.hidden = bar.scrollWidth - bar.clientWidth;
    told.planes = [...page.querySelectorAll("#together figure")].map((each) => each.id);
    told.compared = [...page.querySelectorAll("#summary > p")].map((each) => each.textContent);
    told.limits = [...page.querySelectorAll("#summary li")].map((each) => each.textContent);
    told.runs = [...page.querySelectorAll("#summary h2")].map((each) => each.textContent);
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=width)
    assert console == []
    assert told["over"] == 0
    assert told["runs"] == ["olmoe-base", "olmoe-tuned", "toy-token", "toy-sequence"]
    of_corpora = [f"plane-{name}{suffix}" for suffix in ("", "-corpus-2") for name in ("bertopic", "domain")]
    assert told["planes"] == of_corpora
    pairs = {("olmoe-base", "olmoe-tuned"), ("toy-token", "toy-sequence")}
    sentences = [each for each in told["compared"] if "routing explains the largest share" in each]
    assert len(sentences) == 6
    for sentence in sentences:  # each of two runs of one corpus
        assert {name for pair in pairs for name in pair if name in sentence} in map(set, pairs)
    assert any("The runs are of 2 corpora, and are not compared across them" in each for each in told["limits"])
    assert width < 1280 or told["hidden"] == 0  # every section is reached at once
    assert width < 1280 or told["height"] <= LONGEST


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)])
def test_axe_finds_no_serious_fault(page, tmp_path, width, dark):
    told, _ = ask_page(add_axe(page, tmp_path), tmp_path, GO + DRAW_ALL + AXE, width=width, dark=dark)
    assert told["passes"] > 20
    assert told["faults"] == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read_with_everything_drawn(page, tmp_path, dark):
    drawn = (
        f'{GO}; await go("#experts", "#experts .tabulator-row"); await go("#layer-3-expert-5", "#explorer .passage");'
    )
    told, console = ask_page(page.as_uri(), tmp_path, drawn + CONTRASTS, dark=dark)
    assert told["texts"] > 1000
    assert told["poor"] == []
    assert console == []


def test_it_asks_for_nothing(page, tmp_path):
    log = tmp_path / "net.json"
    done = run_chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", page.as_uri())
    assert console_lines(done) == []
    assert requested(log) == set()


@pytest.mark.parametrize("width", [320, 1280])
def test_an_expert_beside_a_random_router_by_keyboard(page, tmp_path, width):
    """The expert's part has labels, relatives and passages; the same passage under the random router is below."""
    script = f"""
    {GO}
    await go("#run-1-layer-3-expert-5", "#explorer .passage");
    told.labels = page.querySelectorAll("#explorer .labels tbody tr").length;
    told.relatives = page.querySelector("#explorer .relatives").textContent;
    const offered = [...page.querySelector("#explorer [name=beside]").options];
    told.beside = offered.map((each) => each.text);
    await choose("#explorer", "beside", offered.find((each) => each.text.includes("random")).value);
    const heads = [...page.querySelectorAll("#explorer article:first-child h4")];
    told.heads = heads.map((each) => each.firstChild.textContent);
    told.address = view.location.hash;
    const passage = page.querySelector("#explorer .passage");
    passage.focus();
    const press = (key) => passage.dispatchEvent(new view.KeyboardEvent("keydown", {{ key, bubbles: true }}));
    press("ArrowRight");
    press("ArrowRight");
    told.routed = page.querySelector("#explorer .routed").textContent;
    const link = page.querySelector("#explorer .relatives a");
    told.target = link.getAttribute("href");
    link.click();
    await wait(100);
    told.expert = page.querySelector("#explorer [name=expert]").selectedOptions[0].text;
    view.history.back();
    await wait(200);
    told.back = page.querySelector("#explorer [name=expert]").selectedOptions[0].text;
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=width)
    assert console == []
    assert told["labels"] > 3
    assert "Most similar by POS: expert" in told["relatives"]
    # runs of the other corpus are not offered
    assert told["beside"] == [
        "no other run", "olmoe-tuned", "olmoe-base, first random router", "olmoe-tuned, first random router"
    ]  # fmt: skip
    assert told["heads"] == ["olmoe-base", "olmoe-base, first random router"]
    assert told["address"] == "#run-1-layer-3-expert-5-beside-5"
    assert "layer 3: expert" in told["routed"]
    assert told["target"] == f"#run-1-layer-3-expert-{told['expert']}-beside-5"
    assert told["expert"] != told["back"] == "5"


def test_64_experts_are_told_apart_by_what_most_tokens_have(page, tmp_path):
    script = f"""
    {GO}
    await go("#run-1-layer-3", "#explorer .passage");
    const chips = () => [...page.querySelectorAll("#explorer .legend .chip")].map((each) => each.textContent);
    told.experts = chips();
    await choose("#explorer", "colour", "set POS");
    told.labels = chips();
    told.title = page.querySelector("#explorer .passage span").title;
    """
    told, console = ask_page(page.as_uri(), tmp_path, script)
    assert console == []
    assert len(told["experts"]) == 8
    assert told["experts"][-1].startswith("others ")
    assert all(each.startswith("expert ") for each in told["experts"][:-1])
    assert not any(each.startswith("expert ") for each in told["labels"])
    assert len(told["labels"]) == 8
    assert told["title"].split("; ")[1].isalpha() or told["title"].endswith("no label")


def test_a_label_has_an_address_that_sorts_the_experts_by_it(page, tmp_path):
    script = f"""
    {GO}
    await go("#label-topic-science", "#experts .tabulator-row");
    const read = (selector) => [...page.querySelectorAll(`#experts ${{selector}}`)].map((each) => each.textContent);
    const heads = () => read("[aria-sort=descending] .tabulator-col-title");
    told.set = page.querySelector("#experts [name=set]").selectedOptions[0].text;
    told.head = heads();
    const column = page.querySelector('#experts .tabulator-row [tabulator-field="label3"]').getBoundingClientRect();
    const table = page.querySelector("#experts .tabulator").getBoundingClientRect();
    told.seen = column.left >= table.left && column.right <= table.right + 1;
    told.values = read('.tabulator-row [tabulator-field="label3"]').map(Number);
    page.querySelector("#experts [tabulator-field=label0] .tabulator-col-title").click();
    await wait(100);
    told.address = view.location.hash;
    told.after = heads();
    """
    told, console = ask_page(page.as_uri(), tmp_path, script)
    assert console == []
    assert told["set"] == "topic"
    assert told["seen"]
    assert told["head"] == ["science"]
    assert told["values"] == sorted(told["values"], reverse=True)
    assert told["values"][0] > 1
    assert told["address"] == "#label-topic-arts"
    assert told["after"] == ["arts"]


def test_the_table_of_experts_of_a_large_run_by_touch(page, tmp_path):
    script = f"""
    {GO}
    await go("#experts", "#experts .tabulator-row");
    const cells = (field) => [...page.querySelectorAll(`#experts .tabulator-row [tabulator-field="${{field}}"]`)];
    await choose("#experts", "layer", "15");
    await choose("#experts", "set", "2");
    told.told = page.querySelector("#experts .told").textContent;
    cells("label0")[0].click();
    told.cell = page.querySelector("#experts .told").textContent;
    told.heads = [...page.querySelectorAll("#experts .tabulator-col-title")].map((each) => each.textContent);
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=375)
    assert console == []
    assert told["told"] == "64 of 1,024 experts"
    assert told["cell"].startswith("Layer 15, expert ")
    assert "interval" in told["cell"]
    assert "effect, bits" in told["heads"]
