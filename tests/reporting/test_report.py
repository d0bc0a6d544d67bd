import base64
import hashlib
import json
import re
from contextlib import contextmanager
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from planted.manifests import edit_manifest
from plot.planted_frames import planted_frame
from reporting.own_text import strip_libraries
from reporting.planted_runs import TOPICS, make_run
from specialize import __version__
from specialize.errors import MeasurementError, SpecializeError, TraceError
from specialize.reporting import write_report
from specialize.reporting.caveats import list_caveats
from specialize.reporting.findings import read_records
from specialize.reporting.reading import read_runs
from specialize.reporting.verdict import judge_runs

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects what a page loads, links to, says and runs, and checks that its elements nest."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.ids, self.texts, self.open = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def read(path):
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_returns_the_page_and_writes_each_figure_with_its_frame_and_sidecar(pair):
    _, page = pair
    assert page.name == "report.html"
    figures = page.parent / "figures"
    stems = {path.stem for path in figures.iterdir()}
    assert stems == {
        "profile-upos", "profile-bertopic", "profile-topic", "plane-bertopic", "plane-topic",
        "load-1-toy-token", "load-2-toy-sequence",
        *(f"{kind}-{run}-{name}" for kind in ("heatmap", "forest") for run in ("1-toy-token", "2-toy-sequence")
          for name in ("upos", "bertopic", "topic")),
    }  # fmt: skip
    for stem in stems:
        assert sorted(path.suffix for path in figures.glob(f"{stem}.*")) == [".csv", ".json", ".png"]
    _, parsed = read(page)
    assert parsed.tags.count("svg") == len(stems) + 6  # a curve on each card


def test_the_page_loads_nothing(pair):
    html, page = read(pair[1])
    for tag, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            local = value.startswith(("#", "data:image/png;base64,", "data:application/gzip;base64,"))
            assert local, (tag, name, value[:80])
        assert not name.startswith("on"), (tag, name)
        assert not value.lower().startswith("javascript:")
    own = re.sub(r"<script>/\*!.*?</script>", "", html, flags=re.DOTALL)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", own))
    assert not {"link", "iframe", "object", "embed", "img", "base"} & set(page.tags)
    assert "@import" not in html
    assert "fetch(" not in strip_libraries(html)
    scripts = re.findall("<script>(.*?)</script>", html, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(digests) == 3
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    policy = [v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v]
    assert policy == [f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {sources}"]


def test_identifiers_are_unique_and_every_reference_has_its_target(pair):
    html, page = read(pair[1])
    assert len(page.ids) == len(set(page.ids))
    references = {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")}
    references |= set(re.findall(r"url\(#([^)]*)\)", html))
    references |= {value for _, name, value in page.attributes if name == "aria-labelledby"}
    assert references <= set(page.ids)


def test_figures_take_the_colours_and_fonts_of_the_page(pair):
    html, _ = read(pair[1])
    svg = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert "var(--ink)" in svg
    assert "var(--series-1)" in svg
    assert "font-family: var(--figure-font)" in svg
    assert "DejaVu" not in svg
    assert "#22262b" not in svg
    assert "prefers-color-scheme: dark" in html


def test_the_findings_distinguish_what_is_above_chance_from_what_is_not(pair):
    _, page = read(pair[1])
    text = page.text
    assert (
        "Routing explains 19.1 % of the entropy of part of speech at layer 1, the maximum over 4 layers "
        "(95 % interval 17.9 to 20.3 %; null mean 0.20 %; p = 0.005; q = 0.006 over 6 tests)."
    ) in text
    assert (
        "At the same layer, on the same hidden states, 5 random routers explain 7.80 % on average (7.33 to 8.27 %); "
        "the learned router explains 11.3 percentage points more (95 % interval of the difference 10.3 to 12.3; "
        "p = 0.002), and more than each of the 5 (p = 0.167, the smallest that 5 random routers allow)."
    ) in text
    assert "toy-token: the learned router was compared with 5 random routers, so the p-value of its place" in text
    assert "with 19 random routers (--control-draws 19) it can reach 0.05" in text
    assert "The association of routing with part of speech is not distinguishable from chance: even at layer" in text
    assert "p = 0.340" in text
    assert (
        "Part of speech: routing explains the largest share of H(POS) in toy-token (19.1 %) and the smallest in "
        "toy-sequence (non-causal) (0.16 %)" in text
    )
    assert "their 95 % intervals do not overlap" in text
    assert "Limitations" in text
    assert "toy-sequence (non-causal): no random router was recorded" in text
    assert "adjusted Rand index of only 0.61" in text


def test_non_causal_is_said_wherever_the_run_is_named(pair):
    _, page = read(pair[1])
    for found in re.finditer("toy-sequence", page.text):
        context = page.text[found.start() : found.start() + 40]
        assert "non-causal" in context or ": the router reads" in context or re.match(r"toy-sequence['/ -]", context)
    assert "toy-token (non-causal)" not in page.text
    sidecar = json.loads((pair[1].parent / "figures" / "profile-upos.json").read_text())
    assert [run["causal"] for run in sidecar["runs"]] == [True, False]


def test_tables_hold_the_numbers_of_the_frame(pair):
    runs, path = pair
    _, page = read(path)
    frame = pd.read_parquet(runs[0] / "syntax" / "upos.parquet")
    rows = frame[(frame["metric"] == "uncertainty_coefficient")]
    for row in rows.itertuples():
        assert f"{100 * row.value:.2f}" in page.text
        assert f"[{100 * row.ci_low:.2f}, {100 * row.ci_high:.2f}]" in page.text
    assert "river, lake, water, dam, stream" in page.text
    assert "normalised mutual information with “topic”, without outliers" in page.text
    assert "model.layers.3.mlp.router" in page.text
    assert "9d9d9d" in page.text  # the corpus digest
    for term in ("Theil", "DeWeese", "Quenouille", "circularly", "permuted", "Benjamini", "Random router"):
        assert term in page.text


def test_topics_fitted_on_one_corpus_are_shown_once(pair):
    _, page = read(pair[1])
    assert (
        page.text.count("protein, cell, gene, acid") == len(re.findall("8: protein, cell, gene, acid", page.text)) + 1
    )


def test_sidecars_say_how_and_hold_the_numbers_drawn(pair):
    runs, path = pair
    figures = path.parent / "figures"
    for sidecar_path in sorted(figures.glob("*.json")):
        sidecar = json.loads(sidecar_path.read_text(encoding="utf-8"))
        assert sidecar["specialize"] == __version__
        assert sidecar["command"].startswith("specialize report ")
        assert sidecar["function"].startswith("specialize.plot.")
        assert all(re.fullmatch("[0-9a-f]{64}", run["manifest_sha256"]) for run in sidecar["runs"])
        numbers = pd.DataFrame(sidecar["numbers"]["rows"], columns=sidecar["numbers"]["columns"])
        csv = pd.read_csv(figures / sidecar["data"])
        assert len(numbers) == len(csv) > 0
        np.testing.assert_allclose(numbers["value"].astype(float), csv["value"])
    sidecar = json.loads((figures / "profile-upos.json").read_text())
    drawn = pd.DataFrame(sidecar["numbers"]["rows"], columns=sidecar["numbers"]["columns"])
    frame = pd.read_parquet(runs[0] / "syntax" / "upos.parquet")
    expected = frame[frame["metric"].str.startswith("uncertainty_coefficient")]  # also among random routers
    np.testing.assert_array_equal(drawn[drawn["run"] == "toy-token"]["value"], expected["value"])


def test_the_same_runs_give_the_same_bytes(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.3,)))
    for folder in ("a", "b"):
        write_report([run], tmp_path / folder, command="specialize report run")
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert any(name.suffix == ".pdf" for name in names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert not list((tmp_path / "a").rglob("*.partial"))


def test_only_syntax(tmp_path):
    run = make_run(tmp_path / "my run", syntax=planted_frame("solo", strengths=(0.2, 0.3)))
    _, page = read(write_report([run], tmp_path / "out", formats=()))
    assert f"solo : topics not measured yet. Run specialize topics '{run}'" in page.text
    assert "There is no figure of syntax against topics" in page.text
    assert "Comparison" not in page.text
    assert not list((tmp_path / "out" / "figures").glob("plane*"))


def test_only_a_known_label(tmp_path):
    frame = planted_frame("solo", label_set="genre", labels=["a", "b", "c"], strengths=(0.2, 0.3))
    run = make_run(tmp_path / "solo", topics={"genre": frame})
    _, page = read(write_report([run], tmp_path / "out", formats=()))
    assert "part of speech not measured yet. Run specialize syntax" in page.text
    assert "of the entropy of the known label “genre” at layer" in page.text
    assert "No topics were fitted; the labels of documents are known label “genre”" in page.text


def test_nothing_measured_yet(tmp_path):
    run = make_run(tmp_path / "fresh")
    _, page = read(write_report([run], tmp_path / "out"))
    assert "Nothing has been measured on this run yet." in page.text
    assert "specialize syntax" in page.text
    assert "specialize topics" in page.text
    assert page.tags.count("svg") == 0
    assert list((tmp_path / "out" / "figures").iterdir()) == []


def test_one_layer_one_expert_one_label_and_missing_numbers(tmp_path):
    frame = planted_frame("tiny", labels=["NOUN"], num_experts=1, strengths=(0.3,))
    frame[["ci_low", "ci_high", "null_mean", "null_low", "null_high", "p_value"]] = np.nan
    run = make_run(tmp_path / "tiny", syntax=frame)
    _, page = read(write_report([run], tmp_path / "out", formats=("png",)))
    assert not re.search(r"\bnan\b", page.text, flags=re.IGNORECASE)


def test_a_value_without_null_is_not_claimed(tmp_path):
    frame = planted_frame("bare", strengths=(0.3,))
    frame[["null_mean", "null_low", "null_high", "p_value"]] = np.nan
    run = make_run(tmp_path / "bare", syntax=frame)
    _, page = read(write_report([run], tmp_path / "out", formats=()))
    assert "no null; no p-value). It was not tested against chance." in page.text


def test_results_of_csv_files_alone(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2, 0.3)))
    expected = read(write_report([run], tmp_path / "a", formats=(), command="c"))[0]
    (run / "syntax" / "upos.parquet").unlink()
    page = read(write_report([run], tmp_path / "b", formats=(), command="c"))[0]
    added = [line for line in page.splitlines() if line not in expected.splitlines()]
    assert added == [
        "<li>run: some results do not name the trace that was measured, so that it could not be checked: "
        "syntax/upos.csv.</li>",
        '<tr><th scope="row" class="text"><bdi>results</bdi></th><td class="text wide"><bdi>not of a named trace: '
        "syntax/upos.csv</bdi></td></tr>",
    ]
    unnamed = [line for line in expected.splitlines() if "all name this trace" not in line]
    assert [line for line in page.splitlines() if line not in added] == unnamed


def test_runs_of_one_name_are_distinguished(tmp_path):
    runs = [
        make_run(tmp_path / parent / "run", syntax=planted_frame("run", strengths=(0.2, 0.3), seed=seed))
        for seed, parent in enumerate(("first", "second"))
    ]
    _, page = read(write_report(runs, tmp_path / "out", formats=()))
    assert "first/run" in page.text
    assert "second/run" in page.text
    profile = pd.read_csv(tmp_path / "out" / "figures" / "profile-upos.csv")
    assert profile["run"].unique().tolist() == ["first/run", "second/run"]


def test_user_errors_are_one_clear_line(tmp_path):
    with pytest.raises(TraceError, match="expected at least one run folder"):
        write_report([], tmp_path / "out")
    with pytest.raises(TraceError, match=r"expected a run folder, found none"):
        write_report([tmp_path / "absent"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TraceError, match=r"expected a run folder with a manifest\.json, found none in it"):
        write_report([tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "empty" / "manifest.json").write_text("{nope")
    with pytest.raises(TraceError, match="expected JSON"):
        write_report([tmp_path / "empty"], tmp_path / "out")
    (tmp_path / "empty" / "manifest.json").write_text("[]")
    with pytest.raises(TraceError, match="expected the manifest of a specialize-trace"):
        write_report([tmp_path / "empty"], tmp_path / "out")
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2,)))
    with pytest.raises(SpecializeError, match="Did you mean 'png'"):
        write_report([run], tmp_path / "out", formats=("pgn",))
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecializeError, match="expected a folder to write the report to, got a file"):
        write_report([run], tmp_path / "file")
    assert not (tmp_path / "out").exists()
    (run / "syntax" / "upos.parquet").write_bytes(b"damaged")
    with pytest.raises(
        MeasurementError, match=r"upos.parquet: expected results, got an unreadable file \(.*\); measure again"
    ):
        write_report([run], tmp_path / "out")


def test_a_trace_of_a_model_that_is_not_known(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2, 0.3)))
    edit_manifest(run, lambda manifest: {key: value for key, value in manifest.items() if key != "model"})
    _, page = read(write_report([run], tmp_path / "out", formats=()))
    assert "The manifest does not describe the model." in page.text


def test_a_token_level_model_is_causal_whatever_its_unused_summary_says(tmp_path):
    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2,)), model={"sequence_summary": "full"})
    _, page = read(write_report([run], tmp_path / "out", formats=()))
    assert "non-causal" not in page.text.lower()


HOSTILE = (
    "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "' onload='alert(1)", "\u202egnp.exe", "nul\0nul",
    "</svg></style></title><script>", "{{ 7*7 }}", "$\\frac{1}{0}$", "=HYPERLINK(1)", "&lt;b&gt;", "]]><!--",
    "\u200fعربي",
)  # fmt: skip


def test_text_of_corpora_and_models_is_never_markup(tmp_path):
    name = "<b onclick=alert(1)>run</b>"
    syntax = planted_frame(name, labels=HOSTILE, strengths=(0.3, 0.5))
    topics = {
        "bertopic": planted_frame(name, label_set="bertopic", labels=HOSTILE, strengths=(0.3, 0.5)),
        "column": planted_frame(name, label_set="<i>column</i>", labels=HOSTILE, strengths=(0.3, 0.5)),
    }
    run = make_run(
        tmp_path / "run",
        syntax=syntax,
        topics=topics,
        topic_labels=[f"0: {label}" for label in HOSTILE],
        model={"<script>key": "<script>value</script>", "url": "javascript:alert(1)"},
    )
    path = write_report([run], tmp_path / "out", formats=(), command="specialize report '<script>'")
    html, page = read(path)
    assert not {"img", "i"} & set(page.tags)
    assert page.tags.count("script") == len(re.findall("<script", html)) == 4  # three that run, and the experts
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "\0" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert "<i>column</i>" in page.text
    assert "<b onclick=alert(1)>run</b>" in page.text
    figures = path.parent / "figures"
    assert all(re.fullmatch(r"[a-z0-9.-]+", file.name) for file in figures.iterdir())
    labels = pd.read_csv(next(figures.glob("heatmap-*-upos.csv")))["label"].dropna()
    assert "'=HYPERLINK(1)" in set(labels)
    assert not labels.str.startswith(("=", "+", "@")).any()


def test_topics_without_an_embedding_of_words(tmp_path):
    run = make_run(
        tmp_path / "run",
        topics={"bertopic": planted_frame("run", label_set="bertopic", labels=TOPICS, strengths=(0.2, 0.4))},
    )
    _, page = read(write_report([run], tmp_path / "out", formats=()))
    assert "topics are fitted, and another fit may give other topics" in page.text


@pytest.mark.parametrize("measured", [True, False])
def test_the_caveats_name_a_missing_control_for_token_identity(tmp_path, measured):
    frame = planted_frame("run", strengths=(0.2, 0.3))
    row = {"run": "run", "routing": "learned", "layer": 1, "label_set": "upos", "unit": "bits"}
    more = [
        row | {"metric": "conditional_information", "value": 0.01, "null_mean": 0.002, "p_value": 0.005},
        row | {"metric": "ambiguous_mutual_information", "value": 0.5},
    ]
    if measured:
        frame = pd.concat([frame, pd.DataFrame(more)], ignore_index=True)
    runs = read_runs([make_run(tmp_path / "run", syntax=frame)])
    records = read_records(runs)
    caveats = [each for each in list_caveats(runs, records, judge_runs(runs, records)) if "token identity" in each]
    assert len(caveats) == (not measured)


FORBIDDEN = ("tells", "goes with", "is told", "not to be had", "gone on with", "a mistake is", "shadow", "foretell")


@pytest.mark.parametrize("page_format", ["html", "md"])
def test_the_report_is_written_in_the_terms_of_the_field(pair_runs, tmp_path, page_format):
    page = write_report(pair_runs, tmp_path, formats=("svg",), page_format=page_format)
    drawn = [path.read_text(encoding="utf-8") for path in (tmp_path / "figures").glob("*.svg")]
    for text in (page.read_text(encoding="utf-8"), *drawn):
        text = re.sub(r"data:[a-z/]+;base64,\S+", "", strip_libraries(text)).lower()
        assert not [words for words in FORBIDDEN if re.search(rf"\b{words}\b", text)]


def test_the_reporter_hears_of_every_figure(tmp_path):
    heard = []

    class Listener:
        def say(self, message):
            heard.append(message)

        @contextmanager
        def progress(self, title, unit):
            heard.append((title, unit))
            yield lambda done, total, rate=None: heard.append((done, total))

    run = make_run(tmp_path / "run", syntax=planted_frame("run", strengths=(0.2,)))
    page = write_report([run], tmp_path / "out", formats=(), reporter=Listener())
    total = len(list((page.parent / "figures").glob("*.csv")))
    assert heard == [("drawing", "figures"), *((done, total) for done in range(1, total + 1))]
