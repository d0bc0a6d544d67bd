"""The page as a browser shows it."""

import pytest

from browser import CONTRASTS, ask_page, console_lines, needs_chromium, requested, run_chromium

pytestmark = [pytest.mark.browser, needs_chromium]


@pytest.fixture
def page(pair):
    return pair[1]


def test_the_page_opens_without_an_error_and_asks_for_nothing(page, tmp_path):
    log = tmp_path / "net.json"
    done = run_chromium(tmp_path, f"--log-net-log={log}", "--dump-dom", page.as_uri())
    assert console_lines(done) == []
    assert "<h1>Expert specialization" in done.stdout
    assert requested(log) == set()


def test_the_policy_of_the_page_stops_a_script_that_got_in(page, tmp_path):
    html = page.read_text(encoding="utf-8").replace("<main>", "<main><script>document.title = 'in'</script>")
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    done = run_chromium(tmp_path, "--dump-dom", (tmp_path / "page.html").as_uri())
    assert "<title>in</title>" not in done.stdout
    assert "Content Security Policy" in done.stderr


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_nothing_is_wider_than_the_window(page, tmp_path, width):
    script = """
    for (const details of page.querySelectorAll("details")) details.open = true;
    const root = page.documentElement;
    told.over = root.scrollWidth - root.clientWidth;
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=width)
    assert told["over"] == 0
    assert console == []


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read(page, tmp_path, dark):
    told, _ = ask_page(page.as_uri(), tmp_path, CONTRASTS, dark=dark)
    assert told["texts"] > 500
    assert told["poor"] == []
    assert (told["paper"] < 0.05) if dark else (told["paper"] > 0.9)


def test_the_first_screen_has_every_answer(page, tmp_path):
    script = """
    told.bottoms = [...page.querySelectorAll(".answer .verdict")].map((each) => each.getBoundingClientRect().bottom);
    """
    told, _ = ask_page(page.as_uri(), tmp_path, script)
    assert len(told["bottoms"]) == 6
    assert max(told["bottoms"]) < 768


def test_a_table_is_saved_as_the_csv_that_it_holds(page, tmp_path):
    script = """
    const saved = [];
    view.URL.createObjectURL = (blob) => { saved.push(blob); return "blob:none"; };
    view.HTMLAnchorElement.prototype.click = function () { saved.push(this.download); };
    page.querySelector("#data a").dispatchEvent(new view.MouseEvent("click", { bubbles: true, cancelable: true }));
    for (let tries = 0; tries < 100 && saved.length < 2; tries++) await new Promise((done) => setTimeout(done, 20));
    told.text = await saved[0].text();
    told.name = saved[1];
    """
    told, console = ask_page(page.as_uri(), tmp_path, script)
    assert told["name"] == "1-toy-token-upos.csv"
    assert told["text"].startswith("run,routing,layer,")
    assert "19.1" not in told["text"].splitlines()[0]
    assert "toy-token,learned,0" in told["text"]
    assert console == []


def test_the_experts_of_further_label_sets_are_folded_and_an_address_opens_them(page, tmp_path):
    script = """
    const figure = page.getElementById("heatmap-1-toy-token-topic");
    const fold = figure.closest("details");
    told.title = fold.querySelector("summary").textContent;
    told.figures = [...fold.querySelectorAll("figure")].map((each) => each.id);
    told.before = fold.open;
    view.location.hash = figure.id;
    await new Promise((done) => setTimeout(done, 100));
    told.after = fold.open;
    told.main = page.getElementById("heatmap-1-toy-token-bertopic").closest("details");
    """
    told, console = ask_page(page.as_uri(), tmp_path, script)
    assert told["title"] == "Experts by known label “topic”"
    assert told["figures"] == [
        f"{kind}-{run}-topic" for kind in ("heatmap", "forest") for run in ("1-toy-token", "2-toy-sequence")
    ]
    assert (told["before"], told["after"], told["main"]) == (False, True, None)
    assert console == []


def test_no_figure_stands_beside_an_empty_half_row(page, tmp_path):
    script = """
    for (const details of page.querySelectorAll("details")) details.open = true;
    const middle = ({ left, right }) => (left + right) / 2;
    told.alone = [];
    for (const grid of page.querySelectorAll(".grid")) {
      const boxes = [...grid.querySelectorAll("figure")].map((each) => each.getBoundingClientRect());
      for (const box of boxes) {
        const beside = boxes.filter((other) => other.top < box.bottom && other.bottom > box.top);
        if (beside.length === 1) told.alone.push(middle(box) - middle(grid.getBoundingClientRect()));
      }
    }
    """
    told, _ = ask_page(page.as_uri(), tmp_path, script, width=1280)
    assert told["alone"]
    assert max(map(abs, told["alone"])) < 1


@pytest.mark.parametrize("width", [320, 1280])
def test_an_address_of_a_figure_is_opened_below_the_links(page, tmp_path, width):
    script = """
    view.location.hash = "#profile-upos";
    await new Promise((done) => setTimeout(done, 50));
    const links = page.querySelector("nav").getBoundingClientRect();
    told.nav = [links.top, links.bottom];
    told.figure = page.getElementById("profile-upos").getBoundingClientRect().top;
    const bar = page.querySelector("nav");
    told.hidden = bar.scrollWidth - bar.clientWidth;
    """
    told, console = ask_page(page.as_uri(), tmp_path, script, width=width)
    assert told["nav"][0] == 0  # they stay at the top
    assert told["nav"][1] <= told["figure"] < 200
    assert console == []
    assert width < 1280 or told["hidden"] == 0  # all fit into a wide window
