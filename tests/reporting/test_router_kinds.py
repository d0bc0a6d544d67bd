"""Layers with several routers: each kind of router is shown as a run of its own."""

import pandas as pd
import pytest

from planted.manifests import edit_manifest
from plot.planted_frames import planted_frame
from plot.planted_function import planted_effects
from reporting.planted_runs import make_run
from specialize.measure.results.files import write_results
from specialize.reporting import summarise, write_report
from specialize.reporting.function_tables import function_tables
from specialize.reporting.function_words import describe_function
from specialize.reporting.plan_function import plan_function
from specialize.reporting.reading import read_runs
from specialize.reporting.router_kinds import name_kinds


@pytest.mark.parametrize(
    ("routers", "kinds"),
    [
        (["layers.0.mlp.gate", "layers.0.attention.gate"], ["mlp", "attention"]),
        (["encoder.block.1.layer.1.mlp.experts", "decoder.block.1.layer.2.mlp.experts"], ["encoder", "decoder"]),
        (["a.0.moe", "a.0.moe.inner"], ["moe", "moe.inner"]),
        (["layers.0.experts.0", "layers.0.experts.1"], ["router 1", "router 2"]),
    ],
)
def test_kinds_are_called_by_what_tells_them_apart(routers, kinds):
    assert list(name_kinds([(0, name) for name in routers]).values()) == kinds


@pytest.fixture
def run(tmp_path):
    """A run whose layers have a router of attention, weakly specialized, and one of feed-forward layers, strongly."""
    folder = make_run(tmp_path / "run", num_layers=2)
    names = {kind: [f"layers.{layer}.{kind}.gate" for layer in range(2)] for kind in ("attention", "mlp")}
    routers = [
        {"layer": layer, "name": names[kind][layer], "num_experts": 8, "top_k": 2, "unit": "token"}
        for layer in range(2) for kind in names
    ]  # fmt: skip
    edit_manifest(folder, lambda manifest: manifest | {"routers": routers})
    frames = []
    for kind, strength in (("attention", 0.1), ("mlp", 0.6)):
        frame = planted_frame("run", strengths=(strength, strength))
        places = frame["layer"].astype("Int64")
        frames.append(frame.assign(router=[None if pd.isna(place) else names[kind][place] for place in places]))
    write_results(pd.concat(frames, ignore_index=True), folder / "syntax", "upos")
    repeats = pd.DataFrame(
        {"run": "run", "routing": "learned", "layer": layer, "router": names[kind][layer], "label_set": label_set,
         "label": label, "metric": "first_expert_repeats", "value": 0.3, "null_mean": 0.1}
        for layer in range(2) for kind in names for label_set, label in ((None, None), ("domain", "a"), ("domain", "b"))
    )  # fmt: skip
    write_results(repeats, folder / "routing", "routing")
    return folder


def test_each_kind_has_its_own_rows(run):
    attention, mlp = read_runs([run])
    assert [part.name for part in (attention, mlp)] == ["run, attention", "run, mlp"]
    for part, kind in ((attention, "attention"), (mlp, "mlp")):
        assert set(part.syntax["upos"]["router"]) == {f"layers.{layer}.{kind}.gate" for layer in range(2)}
        assert set(part.syntax["upos"]["run"]) == {part.name}
        assert [router["name"] for router in part.manifest["routers"]] == sorted(set(part.syntax["upos"]["router"]))
    answers = {name: own[0] for name, own in summarise([run]).answers.items()}
    assert answers["run, attention"].bar.value < answers["run, mlp"].bar.value / 5


def test_effects_of_switching_experts_off_are_told_apart(run):
    frame = planted_effects("run", num_layers=2)
    frames = [
        frame.assign(router=[None if pd.isna(layer) else f"layers.{layer:.0f}.{kind}.gate" for layer in frame["layer"]])
        for kind in ("attention", "mlp")
    ]
    write_results(pd.concat(frames, ignore_index=True), run / "ablation", "upos")
    for part, kind in zip(read_runs([run]), ("attention", "mlp"), strict=True):
        assert set(part.ablation["upos"]["router"]) == {f"layers.{layer}.{kind}.gate" for layer in range(2)}
        assert [spec.kind for spec in plan_function([part])] == ["effects", "agreement"]
        assert [len(table.body) for table in function_tables(part)] == [2]
        assert len(describe_function(part)) == 1  # the mean over the layers belongs to neither kind


def test_the_report_draws_them_apart(run, tmp_path):
    page = write_report([run], tmp_path / "out", formats=())
    stems = {path.stem for path in (page.parent / "figures").glob("*.csv")}
    assert {"heatmap-1-run-attention-upos", "heatmap-2-run-mlp-upos", "repeats-2-run-mlp-domain"} <= stems
    profile = pd.read_csv(page.parent / "figures" / "profile-upos.csv")
    assert profile.groupby("run")["layer"].apply(list).to_dict() == {"run, attention": [0, 1], "run, mlp": [0, 1]}


def test_one_router_a_layer_is_one_run_whatever_random_routers_stand_beside_it(tmp_path):
    folder = make_run(tmp_path / "run")
    edit_manifest(
        folder,
        lambda manifest: manifest | {"routers": [router | {"routing": routing} for routing in ("learned", "random")
                                                 for router in manifest["routers"]]},
    )  # fmt: skip
    write_results(planted_frame("run", control=0.5), folder / "syntax", "upos")
    (only,) = read_runs([folder])
    assert only.name == "run"
