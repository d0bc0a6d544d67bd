"""Every figure function with one expert, one label, 512 experts and 60 labels, missing numbers, and a planted one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from plot.planted_frames import planted_frame
from plot.planted_function import planted_effects, planted_experts
from specialize import plot

LONG = "a label of very many words, more than any figure has room for"
SIZES = {"one expert": (1, 5), "one label": (8, 1), "one of each": (1, 1), "many": (512, 60)}


def name_labels(count: int) -> list[str]:
    return [f"{number}: {LONG}" for number in range(count)]


def measured(num_experts: int, num_labels: int) -> pd.DataFrame:
    labels = name_labels(num_labels)
    frames = [
        planted_frame("run", label_set=name, labels=labels, num_experts=num_experts, strengths=(0.3, 0.4), control=0.5)
        for name in ("upos", "bertopic")
    ]
    return pd.concat(frames, ignore_index=True)


def of_upos(num_experts: int, num_labels: int) -> pd.DataFrame:
    frame = measured(num_experts, num_labels)
    return frame[frame["label_set"] == "upos"]


def effects(num_experts: int, num_labels: int) -> pd.DataFrame:
    labels = name_labels(num_labels)
    return planted_effects("run", labels=labels, num_experts=num_experts, num_layers=2, selective=labels[:1])


def removals(num_experts: int, _: int) -> pd.DataFrame:
    frame = planted_experts("run", num_experts=min(num_experts, 8), num_layers=1, removed=range(1, num_experts + 1))
    return frame[frame["metric"] == "removal_effect"]


def pairs(metric: str) -> Callable[[int, int], pd.DataFrame]:
    def make(num_experts: int, _: int) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        rows = [
            {"run": "run", "routing": "learned", "layer": 0, "metric": metric, "expert": i,
             "label": str((i + step) % num_experts), "value": rng.uniform(0.05, 0.3), "null_mean": 0.1}
            for i in range(num_experts) for step in range(min(num_experts, 16))
        ]  # fmt: skip
        return pd.DataFrame(rows)

    return make


def repeats(_: int, num_labels: int) -> pd.DataFrame:
    rows = [
        {"run": "run", "routing": "learned", "layer": layer, "metric": "first_expert_repeats", "label_set": "domain",
         "label": label, "value": 0.3 + layer / 10, "ci_low": 0.25, "ci_high": 0.45, "null_mean": 0.125}
        for layer in range(2) for label in name_labels(num_labels)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def overlaps(_: int, num_labels: int) -> pd.DataFrame:
    labels = name_labels(max(num_labels, 2))
    common = {"run": "run", "routing": "learned", "layer": 0, "label_set": "domain"}
    rows = [common | {"metric": "committee_size", "label": label, "value": 2.0} for label in labels]
    rows += [
        common
        | {"metric": "label_overlap", "label": f"{first} × {second}", "value": 0.4, "q_value": 0.01 + 0.1 * place}
        for place, (first, second) in enumerate(combinations(labels, 2))
    ]
    return pd.DataFrame(rows)


def predictions(_: int, num_layers: int) -> pd.DataFrame:
    rows = [
        {"run": "run", "routing": "learned", "layer": layer, "metric": metric, "label_set": label_set, "label": label,
         "value": 0.5 + place / 10, "ci_low": 0.45, "ci_high": 0.7, "null_mean": 0.2}
        for place, (metric, label_set, label) in enumerate((
            ("next_layer_recall", "next_router", LONG), ("lru_hit_rate", "cache_size", "8"),
            ("optimal_hit_rate", "cache_size", "8"), ("same_token_overlap", None, None),
            ("any_token_overlap", None, None),
        ))
        for layer in range(num_layers)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def tokens(num_experts: int, num_labels: int) -> pd.DataFrame:
    rows = [
        {"run": "run", "routing": "learned", "layer": 0, "token": "input", "expert": expert, "rank": rank,
         "text": f"{LONG}{rank}", "share": 0.9 - rank / 100}
        for expert in range(num_experts) for rank in range(num_labels)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def curves(_: int, num_labels: int) -> pd.DataFrame:
    rows = [
        {"run": f"{number} {LONG}", "routing": "learned", "layer": layer, "metric": "saturation", "tokens": at,
         "value": 0.4 + layer / 10, "null_mean": 0.25}
        for number in range(min(num_labels, 9)) for layer in range(2) for at in (1e3, 1e4, 1e6)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def perplexities(num_experts: int, num_labels: int) -> pd.DataFrame:
    rows = [
        {"design": f"{label}", "variant": f"variant {number}", "perplexity": 20.0 + number, "ci_low": 19.0,
         "ci_high": 21.0 + number}
        for label in name_labels(num_labels) for number in range(min(num_experts, 4))
    ]  # fmt: skip
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Case:
    """A figure function, the frame it draws at a given size, its arguments, and the column of what it draws."""

    frame: Callable[[int, int], pd.DataFrame]
    arguments: dict
    value: str = "value"


CASES = {
    "coactivation": Case(pairs("coactivation"), {"layer": 0}),
    "effect_against_lift": Case(effects, {}),
    "effect_heatmap": Case(effects, {"layer": 0}),
    "expert_forest": Case(of_upos, {"layer": 0, "expert": 0}),
    "expert_label_heatmap": Case(of_upos, {"layer": 0}),
    "expert_load": Case(of_upos, {}),
    "expert_prediction": Case(predictions, {}),
    "expert_tokens": Case(tokens, {"layer": 0}, "share"),
    "label_overlap": Case(overlaps, {"layer": 0}),
    "layer_flow": Case(pairs("transition"), {"layer": 0}),
    "layer_profile": Case(of_upos, {}),
    "perplexity_by_choice": Case(perplexities, {}, "perplexity"),
    "removal_curves": Case(removals, {}),
    "repeats_by_label": Case(repeats, {}),
    "set_selectivity": Case(effects, {}),
    "syntax_topic_plane": Case(measured, {}),
    "training_curves": Case(curves, {}),
}


def draw(name: str, frame: pd.DataFrame):
    return getattr(plot, name)(frame, **CASES[name].arguments)


def written(ax):
    """Return title, axis labels and the tick labels within the axes' limits."""
    texts = [ax._left_title]
    if ax.axison:
        for axis, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            texts += [axis.label, *(text for place, text in ticks if low <= place <= high)]
    return [text for text in texts if text.get_text()]


def test_no_figure_function_is_left_out():
    functions = {name for name in plot.__all__ if callable(getattr(plot, name))}
    assert {name for name in functions if "ax" in inspect.signature(getattr(plot, name)).parameters} == set(CASES)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_every_size_is_drawn_within_the_page(name, size, tmp_path):
    ax = draw(name, CASES[name].frame(*SIZES[size]))
    figure = ax.figure
    assert figure.get_figwidth() <= plot.PAGE_WIDTH + 0.01
    figure.draw_without_rendering()
    for text in written(ax):
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.height + 1, text
    assert plot.save_figure(figure, tmp_path / "figure.pdf").stat().st_size < 3e6


@pytest.mark.parametrize("name", ["expert_label_heatmap", "expert_tokens", "training_curves"])
def test_every_character_can_be_drawn(name, monkeypatch, tmp_path):
    unseen = "\ufeff=1\u200b\u2060\u00ad\u200d\ufe0f$\\frac{\x1b\x00\uffff\u202e\U000e0001\u0301"
    monkeypatch.setitem(globals(), "LONG", unseen)
    assert plot.save_figure(draw(name, CASES[name].frame(2, 2)).figure, tmp_path / "figure.pdf").stat().st_size > 0


@pytest.mark.parametrize("name", CASES)
def test_missing_numbers_are_left_out(name, tmp_path):
    case = CASES[name]
    frame = case.frame(8, 5)
    frame.loc[frame.index[::3], case.value] = np.nan
    others = [column for column in ("ci_low", "ci_high", "null_mean", "q_value") if column in frame]
    frame.loc[frame.index[1::3], others] = np.nan
    plot.save_figure(draw(name, frame).figure, tmp_path / "some.png")
    frame[case.value] = np.nan
    ax = draw(name, frame)
    plot.save_figure(ax.figure, tmp_path / "none.svg")
    texts = " ".join(text.get_text() for text in ax.figure.findobj(lambda artist: hasattr(artist, "get_text")))
    assert "nan" not in texts.lower()


@pytest.mark.parametrize("name", ["coactivation", "expert_label_heatmap", "layer_flow"])
@pytest.mark.parametrize("size", [(8, 17), (64, 17), (512, 60)])
def test_the_planted_expert_is_the_darkest_cell(name, size):
    case = CASES[name]
    frame = case.frame(*size)
    planted = frame[(frame["layer"] == 0) & (frame["metric"].isin(["lift", "coactivation", "transition"]))]
    if "routing" in planted:
        planted = planted[planted["routing"] == "learned"]
    row = planted.index[len(planted) // 2]
    frame.loc[row, "value"] = 40 * planted["value"].max()
    (mesh,) = [artist for artist in draw(name, frame).collections if artist.get_gid() == "cells"]
    cells = np.ma.filled(mesh.get_array().astype(float), np.nan)
    colors = mesh.get_cmap()(mesh.norm(np.ma.masked_invalid(cells)))[..., :3]
    lightness = colors @ (0.2126, 0.7152, 0.0722)
    place = np.unravel_index(np.nanargmax(cells), cells.shape)
    ratio = frame.loc[row, "value"] / (1.0 if name == "expert_label_heatmap" else frame.loc[row, "null_mean"])
    assert cells[place] == pytest.approx(np.log2(ratio))
    beyond = cells >= mesh.norm.vmax  # where the colours end, none of them can be darker
    assert lightness[place] == lightness.min()
    assert (lightness == lightness.min()).sum() == max(1, beyond.sum())
