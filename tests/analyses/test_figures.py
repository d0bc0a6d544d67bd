"""The figures that are checked in: whole, drawn by one command, and showing the numbers of their sidecars."""

import csv
import importlib
import json
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analyses.design_choices.figures import FUNCTION, LABELS, METRIC, UNITS, plan_figures
from analyses.drawing import draw_planned
from analyses.figures import COMMAND, DEMO_FIGURES, draw_demo, plan_studies
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from plot.planted_frames import planted_frame
from plot.test_extremes import overlaps, pairs, predictions, repeats, tokens
from reporting.planted_runs import make_run
from specialize.measure.results.files import as_results, write_both, write_results
from specialize.trace import open_trace

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "figures"
STUDY = ROOT / "analyses" / "design_choices" / "results" / "cpu"
NAMES = sorted(path.stem for path in FIGURES.glob("*.json"))
SUFFIXES = {".pdf", ".png", ".csv", ".json"}


def read_sidecar(name: str, folder: Path = FIGURES) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def read_numbers(name: str) -> pd.DataFrame:
    numbers = read_sidecar(name)["numbers"]
    return pd.DataFrame(numbers["rows"], columns=numbers["columns"])


def without_guard(text: str) -> str:
    """Drop the apostrophe that keeps a spreadsheet from taking a text for a formula."""
    return re.sub(r"^'(?=\s*[=+\-@])", "", text)


def draw(name: str) -> Figure:
    """Draw a figure from its rows (CSV), by the function and the arguments that its sidecar names."""
    sidecar = read_sidecar(name)
    frame = pd.read_csv(FIGURES / sidecar["data"], keep_default_na=False, na_values=[""])
    frame = frame.map(lambda cell: without_guard(cell) if isinstance(cell, str) else cell)
    module, function = sidecar["function"].rsplit(".", 1)
    return getattr(importlib.import_module(module), function)(frame, **sidecar.get("arguments", {})).figure


def find(place: Figure | Axes, gid: str) -> Any:
    (found,) = find_all(place, gid)
    return found


def find_all(place: Figure | Axes, gid: str) -> list[Any]:
    return place.findobj(lambda artist: artist.get_gid() == gid)


def segment_ends(artist: Any, axis: int) -> np.ndarray:
    return np.array([segment[:, axis] for segment in artist.get_segments() if len(segment)])


U, AMONG = "uncertainty_coefficient", "uncertainty_coefficient_among_random_routers"


def select(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """Return the folder of the studies' figures, drawn anew from their tables."""
    folder = tmp_path_factory.mktemp("figures")
    draw_planned(plan_studies(), folder, command=COMMAND)
    return folder


def test_every_figure_is_whole_and_known(anew):
    found = defaultdict(set)
    for path in FIGURES.iterdir():
        found[path.stem].add(path.suffix)
    studies = {path.stem for path in anew.iterdir()}
    assert found == dict.fromkeys(studies | set(DEMO_FIGURES), SUFFIXES)


def test_the_pictures_of_the_readmes_are_among_them():
    for readme in (ROOT / "README.md", *(ROOT / "analyses").glob("*/README.md")):
        pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", readme.read_text(encoding="utf-8"))
        assert pictures or readme.parent != ROOT
        for picture in pictures:
            path = (readme.parent / picture).resolve()
            assert path.parent in (FIGURES, ROOT / "docs" / "images")  # the latter are pictures of the report
            assert path.is_file()


def test_a_table_names_them_all():
    table = (ROOT / "analyses" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| `([^`]+)` \|$", table, flags=re.MULTILINE)
    assert sorted(rows) == [(name, COMMAND) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_sidecar_describes_its_figure(name):
    sidecar = read_sidecar(name)
    assert sidecar["figure"] == name
    assert sidecar["command"] == COMMAND
    assert sidecar["caption"]
    assert sidecar["data"] == f"{name}.csv"
    assert "runs" in sidecar or "study" in sidecar or "preset" in sidecar
    for run in sidecar.get("runs", ()):
        assert not Path(run["path"]).is_absolute()
        assert re.fullmatch("[0-9a-f]{64}", run["manifest_sha256"])


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_of_a_sidecar_are_those_of_the_table(name):
    """Digit by digit, as they are printed."""
    text = (FIGURES / f"{name}.json").read_text(encoding="utf-8")
    numbers = json.loads(text, parse_float=str, parse_int=str)["numbers"]
    with (FIGURES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    kept = [place for place in range(len(header)) if any(row[place] for row in rows)]
    assert numbers["columns"] == [header[place] for place in kept]
    assert [["" if cell is None else cell for cell in row] for row in numbers["rows"]] == [
        [without_guard(row[place]) for place in kept] for row in rows
    ]


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DEMO_FIGURES)))
def test_a_figure_of_a_study_is_that_of_its_tables(anew, name):
    assert (anew / f"{name}.csv").read_bytes() == (FIGURES / f"{name}.csv").read_bytes()
    fresh, kept = read_sidecar(name, anew), read_sidecar(name)
    del fresh["specialize"], kept["specialize"]
    assert fresh == kept


def test_drawn_twice_a_figure_has_the_same_bytes(anew, tmp_path):
    draw_planned(plan_studies(), tmp_path, command=COMMAND)
    for path in anew.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_figures_of_the_demo_are_drawn_from_its_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("token", "sequence"):
        labels = ["arts", "science", "sport"]
        topics = {
            label_set: planted_frame(name, label_set=label_set, labels=labels, null=0.01)
            for label_set in ("bertopic", "gold_topic")
        }
        run = make_run(tmp_path / "demo" / name, unit=name, syntax=planted_frame(name), topics=topics)
        trace = open_trace(run)
        write_results(as_results(plant_routing().assign(run=name)), run / "routing", "routing", trace=trace)
        top = pd.concat([tokens(8, 3).assign(layer=layer, router="") for layer in range(4)])
        write_both(top, run / "vocabulary", "top_tokens", text_columns=("text",), trace=trace)
    images = draw_demo(Path("demo"), Path("figures"))
    assert {(path.stem, path.suffix) for path in images} == {
        (name, suffix) for name in DEMO_FIGURES for suffix in (".pdf", ".png")
    }
    for name in DEMO_FIGURES:
        sidecar = read_sidecar(name, tmp_path / "figures")
        assert sidecar["command"] == COMMAND
        assert [run["path"] for run in sidecar["runs"]] == ["demo/token", "demo/sequence"]


def plant_routing() -> pd.DataFrame:
    """Everything that the figures of the routing show."""
    flow = pairs("transition")(8, 0).assign(label_set="next_router")
    share = {"metric": "flow_uncertainty_coefficient", "value": 0.2, "label_set": "next_router", "expert": np.nan}
    frames = [
        pairs("coactivation")(8, 0),
        flow,
        flow.head(1).assign(**share),
        repeats(0, 3).assign(label_set="gold_topic"),
        overlaps(0, 3).assign(label_set="gold_topic"),
        predictions(0, 4),
        planted_frame("run", labels=("a", "b")).query("metric == 'load'").assign(label_set=None),
    ]
    return pd.concat([frame.dropna(axis="columns", how="all") for frame in frames], ignore_index=True)


@pytest.mark.parametrize("name", ["profile-upos", "profile-gold-topic"])
def test_a_profile_shows_its_numbers(name):
    figure, numbers = draw(name), read_numbers(name)
    for index, run in enumerate(pd.unique(numbers["run"])):
        own, among = (
            select(numbers, run=run, routing="learned", metric=metric).sort_values("layer") for metric in (U, AMONG)
        )
        assert_array_equal(find(figure, f"value-learned-{index}").get_ydata(), own["value"])
        assert_array_equal(segment_ends(find(figure, f"interval-learned-{index}"), 1), own[["ci_low", "ci_high"]])
        assert_array_equal(find(figure, f"null-mean-{index}").get_ydata(), own["null_mean"])
        (band,) = find(figure, f"null-band-{index}").get_paths()
        assert set(band.vertices[:, 1]) == set(own["null_low"]) | set(own["null_high"])
        assert_array_equal(find(figure, f"value-random-{index}").get_ydata(), among["null_mean"])
        (drawn,) = find(figure, f"range-random-{index}").get_paths()
        assert set(drawn.vertices[:, 1]) == set(among["null_low"]) | set(among["null_high"])


def test_the_plane_shows_its_numbers():
    figure, numbers = draw("plane-gold-topic"), read_numbers("plane-gold-topic")
    for index, run in enumerate(pd.unique(numbers["run"])):
        across, up = (
            select(numbers, run=run, routing="learned", label_set=name, metric=U).sort_values("layer")
            for name in ("upos", "gold_topic")
        )
        line = find(figure, f"value-learned-{index}")
        assert_array_equal(line.get_xdata(), across["value"])
        assert_array_equal(line.get_ydata(), up["value"])
        for axis, name, own in ((0, "x", across), (1, "y", up)):
            crosses = segment_ends(find(figure, f"interval-{name}-learned-{index}"), axis)
            assert_array_equal(crosses, own[["ci_low", "ci_high"]])
        drawn = [
            select(numbers, run=run, label_set=name, metric=AMONG).sort_values("layer")
            for name in ("upos", "gold_topic")
        ]
        hollow = find(figure, f"value-random-{index}")
        assert_array_equal(hollow.get_xdata(), drawn[0]["null_mean"])
        assert_array_equal(hollow.get_ydata(), drawn[1]["null_mean"])
        for axis, name, own in ((0, "x", drawn[0]), (1, "y", drawn[1])):
            crosses = segment_ends(find(figure, f"interval-{name}-random-{index}"), axis)
            assert_array_equal(crosses, own[["null_low", "null_high"]])
        null = find(figure, f"null-mean-{index}")
        assert_allclose((*null.get_xdata(), *null.get_ydata()), (across["null_mean"].mean(), up["null_mean"].mean()))


@pytest.mark.parametrize("name", [name for name in NAMES if "heatmap" in name])
def test_a_heatmap_shows_its_numbers(name):
    figure, numbers = draw(name), read_numbers(name)
    cells = find(figure, "cells")
    labels = [text.get_text() for text in cells.axes.get_yticklabels()]
    experts = [int(text.get_text()) for text in cells.axes.get_xticklabels()]
    lifts = select(numbers, metric="lift").pivot(index="label", columns="expert", values="value")
    assert lifts.shape == (len(labels), len(experts))
    with np.errstate(divide="ignore"):
        expected = np.log2(lifts.loc[labels, experts].to_numpy()).clip(-60, 60)
    assert_array_equal(cells.get_array(), expected)
    specific = select(numbers, metric="specific_information").set_index("expert")["value"]
    assert list(specific.loc[experts]) == sorted(specific, reverse=True)


def test_perplexities_are_those_of_the_sidecar():
    figure, numbers = draw("design-perplexity"), read_numbers("design-perplexity")
    designs = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    for variant, own in numbers.groupby("variant"):
        points = find(figure, f"value-{variant}")
        assert_array_equal(points.get_xdata(), own["perplexity"])
        assert [designs[round(place)] for place in points.get_ydata()] == list(own["design"])
        ends = segment_ends(find(figure, f"interval-{variant}"), 0)
        assert_array_equal(ends[np.isfinite(ends).all(axis=1)], own[["ci_low", "ci_high"]].dropna())


def test_layers_are_those_of_the_sidecar():
    figure, numbers = draw("design-layers"), read_numbers("design-layers")
    panels = [(label_set, unit) for label_set in LABELS for unit in UNITS]
    for ax, (label_set, unit) in zip(figure.axes, panels, strict=True):
        rows = select(numbers, label_set=label_set, unit=unit)
        for index, router in enumerate(("learned", "frozen")):
            for routing in ("learned", "random"):
                own = select(rows, router=router, routing=routing).sort_values("layer")
                assert_array_equal(find(ax, f"value-{routing}-{index}").get_ydata(), own["value"])
                intervals = segment_ends(find(ax, f"interval-{routing}-{index}"), 1)
                assert_array_equal(intervals, own[["ci_low", "ci_high"]])
                low, high = ax.get_ylim()
                assert low < intervals.min()
                assert high > intervals.max()


def test_cells_lie_where_the_sidecar_says():
    figure, numbers = draw("design-plane"), read_numbers("design-plane")
    for (cell, routing), own in numbers.groupby(["cell", "routing"]):
        point = find(figure, f"{cell}-{routing}")
        values = own.set_index("label_set")["value"]
        assert (*point.get_xdata(), *point.get_ydata()) == (values["upos"], values["domain"])
    for unit, own in select(numbers, routing="learned").groupby("unit"):
        null = find(figure, f"null-{unit}")
        means = own.groupby("label_set")["null_mean"].mean()
        assert_allclose((*null.get_xdata(), *null.get_ydata()), (means["upos"], means["domain"]))


def test_curves_are_those_of_the_sidecar():
    figure, numbers = draw("design-curves"), select(read_numbers("design-curves"), routing="learned")
    measured = select(numbers, metric=METRIC)
    panels = (*(select(measured, label_set=name) for name in LABELS), select(numbers, metric="saturation"))
    for ax, rows in zip(figure.axes, panels, strict=True):
        rows = rows[rows["layer"].notna()]
        for index, run in enumerate(pd.unique(rows["run"])):
            own = select(rows, run=run)
            means = own.groupby("tokens")[["value", "null_mean"]].mean()
            for gid, column in ((f"mean-{index}", "value"), (f"null-{index}", "null_mean")):
                assert_array_equal(find(ax, gid).get_xdata(), means.index)
                assert_allclose(find(ax, gid).get_ydata(), means[column], rtol=1e-12)
            drawn = [tuple(line.get_ydata()) for line in find_all(ax, f"layer-{index}")]
            assert drawn == [tuple(layer.sort_values("tokens")["value"]) for _, layer in own.groupby("layer")]


def test_agreements_of_lift_and_harm_are_those_of_the_sidecar():
    figure, numbers = draw("design-function"), read_numbers("design-function")
    places = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert places == list(FUNCTION.values())
    routers = pd.unique(numbers["router"])
    assert [ax.get_title() for ax in figure.axes] == [f"{router} routers" for router in routers]
    for ax, router in zip(figure.axes, routers, strict=True):
        for (unit, top_k), own in select(numbers, router=router).groupby(["unit", "top_k"]):
            own = own.set_index("label_set").loc[list(FUNCTION)]
            for kind, column in (("value", "value"), ("null", "null_mean")):
                points = find(ax, f"{kind}-{unit}-top{top_k}")
                assert_array_equal(points.get_xdata(), own[column])
                assert [round(place) for place in points.get_ydata()] == list(range(len(own)))
            bars = segment_ends(find(ax, f"interval-{unit}-top{top_k}"), 0)
            assert_array_equal(bars, own[["ci_low", "ci_high"]].to_numpy())


def test_the_ratio_of_frozen_to_learned_over_training_is_that_of_the_sidecar():
    figure, numbers = draw("design-long-progress"), read_numbers("design-long-progress")
    (ax,) = figure.axes
    assert set(numbers["margin"]) == {1.02}
    for unit, own in numbers.groupby("unit"):
        logs = np.log(own["ratio"]).groupby([own["tokens"], own["seed"]]).mean().unstack()
        line, bars = find(ax, f"mean-{unit}"), find(ax, f"interval-{unit}")
        assert_allclose(line.get_xdata(), logs.index, rtol=0.03)  # a little apart from those of the other level
        assert_allclose(np.log(line.get_ydata()), logs.mean(axis=1), atol=1e-12)
        reach = stats.t.ppf(0.95, logs.shape[1] - 1) * logs.sem(axis=1)
        ends = np.log(segment_ends(bars, 1)) - logs.mean(axis=1).to_numpy()[:, None]
        assert_allclose(ends, np.outer(reach, [-1, 1]), atol=1e-12)
        for (top_k, seed), run in own.groupby(["top_k", "seed"]):
            assert_array_equal(find(ax, f"seed-{unit}-top{top_k}-{seed}").get_ydata(), run["ratio"])


@pytest.mark.parametrize(("router", "drawn"), [("learned", 0), ("frozen", 0), ("guided", 1)])
def test_perplexities_over_training_are_compared_where_both_routers_are_there(tmp_path, router, drawn):
    shutil.copytree(STUDY.parent / "long", tmp_path, dirs_exist_ok=True)
    progress = pd.read_csv(tmp_path / "progress.csv")
    progress[progress["router"] != router].to_csv(tmp_path / "progress.csv", index=False)
    assert [each.name for each in plan_figures(tmp_path, preset="long")].count("design-progress") == drawn


@pytest.mark.parametrize("has_table", [True, False], ids=["no agreement", "no table"])
def test_a_study_whose_experts_were_not_switched_off_has_no_figure_of_it(tmp_path, has_table):
    shutil.copytree(STUDY, tmp_path, dirs_exist_ok=True)
    with_it = [each.name for each in plan_figures(tmp_path, preset="cpu")]
    function = pd.read_csv(tmp_path / "function.csv")
    (tmp_path / "function.csv").unlink()
    if has_table:
        function[function["metric"] != "per_use_agreement"].to_csv(tmp_path / "function.csv", index=False)
    assert [each.name for each in plan_figures(tmp_path, preset="cpu")] == [
        name for name in with_it if name != "design-function"
    ]
    assert "design-function" in with_it


def test_the_calibration_shows_its_numbers():
    figure, numbers = draw("calibration"), read_numbers("calibration")
    for (null, design), own in numbers.groupby(["null", "design"]):
        line = find(figure, f"share-{null}-{design}")
        at_or_below = [own.loc[own["p_value"] <= p, "times"].sum() / own["times"].sum() for p in own["p_value"]]
        assert_array_equal(line.get_xdata(), [0, *own["p_value"]])
        assert_allclose(line.get_ydata(), [0, *at_or_below], rtol=1e-12)
    covered = numbers[numbers["method"].notna()]
    for (method, design), own in covered.groupby(["method", "design"]):
        if method != "plug-in":
            own = own.sort_values("documents")
            points, bars = find_all(figure, f"coverage-{method}-{design}")
            assert_array_equal(points.get_ydata(), own["coverage"])
            assert_allclose(segment_ends(bars, 1), own[["coverage_low", "coverage_high"]], atol=1e-15)
        if not method.startswith("percentile"):
            smallest = own[own["documents"] == covered["documents"].min()]
            points, bars = find_all(figure, f"bias-{method}-{design}")
            assert_array_equal(points.get_xdata(), smallest["bias"])
            assert_allclose(np.diff(segment_ends(bars, 0)) / 2, smallest[["deviation"]])


def test_costs_are_those_of_the_sidecar():
    figure, numbers = draw("measure-cost"), read_numbers("measure-cost")
    points = find(figure, "value")
    assert_array_equal(points.get_xdata(), numbers["tokens"] / 1e6)
    assert_array_equal(points.get_ydata(), numbers["seconds"] / numbers["layers"])
    slope, start = np.polyfit(points.get_xdata(), points.get_ydata(), 1)
    assert_allclose(find(figure, "fit").get_ydata(), [start, start + slope * numbers["tokens"].max() / 1e6])


def test_memory_and_time_are_those_of_the_sidecar():
    figure, numbers = draw("out-of-core"), read_numbers("out-of-core")
    for command, rows in numbers.groupby("command"):
        for column in ("peak_mb", "cpu_seconds_per_million"):
            line = find(figure, f"{command} {column}")
            assert_array_equal(line.get_xdata(), rows["tokens"] / 1e6)
            assert_array_equal(line.get_ydata(), rows[column])
