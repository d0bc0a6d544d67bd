"""The monitor in a plain loop: what it measures, and that the training does not notice it."""

import random

import numpy as np
import pandas as pd
import pytest
import torch

import specialize
from monitoring.conftest import build_model, train, twin
from specialize.annotators import load_annotation
from specialize.errors import AnnotationError, CaptureError, MeasurementError, TraceError
from specialize.measure.results.curves import read_curves, read_snapshots
from specialize.measure.runs.comparison import compare_traces
from specialize.measure.runs.specialization import measure_specialization
from specialize.monitoring import store
from specialize.monitoring.summary import summarize_snapshot

U = "uncertainty_coefficient"


@pytest.mark.parametrize("router", ["learned", "rerandomized"])
def test_training_is_the_same_to_the_last_bit(router, sample, tmp_path, one_thread):
    model = build_model(router_type=router)
    other = twin(model)
    torch.manual_seed(0)
    plain = train(model, 6)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]  # noqa: NPY002
    torch.manual_seed(0)
    with specialize.monitor(
        other, sample, tmp_path / "run", every=2, permutations=3, control="random-router"
    ) as monitor:
        watched = train(other, 6, monitor=monitor)
        assert all(module.training for module in other.modules())
    assert watched == plain
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2], np.random.get_state()[1])  # noqa: NPY002
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in other.modules())


def test_buffers_that_a_pass_changes_are_restored(model, sample, tmp_path):
    block = model.model.layers[0]
    block.register_buffer("passes", torch.zeros(()))
    block.register_forward_hook(lambda module, *_: setattr(module, "passes", module.passes + 1))
    block.register_forward_pre_hook(lambda module, *_: setattr(module, "passes", module.passes.add_(0.5)))
    with specialize.monitor(model, sample, tmp_path / "run", permutations=0):
        assert block.passes == 0
        train(model, 1)
        assert block.passes == 1.5
    assert block.passes == 1.5


def test_the_number_of_threads_is_kept(model, sample, tmp_path, monkeypatch):
    """Where numba starts its threads, it sets the number for torch, too, and sums are divided otherwise."""
    measure = store.measure_snapshot

    def measure_with_more_threads(*arguments, **keywords):
        torch.set_num_threads(2)
        return measure(*arguments, **keywords)

    monkeypatch.setattr(store, "measure_snapshot", measure_with_more_threads)
    with specialize.monitor(model, sample, tmp_path / "run", permutations=2):
        assert torch.get_num_threads() == 1


def test_snapshots_are_what_the_stages_measure(world, model, sample, tmp_path):
    before, run = twin(model), tmp_path / "run"
    with specialize.monitor(model, sample, run, every=2, permutations=20) as monitor:
        train(model, 3, monitor=monitor)
    start, end = (
        specialize.trace_corpus(each, run, tmp_path / name, tokenizer=str(world / "model"))
        for name, each in (("start", before), ("end", model))
    )
    curves = read_curves(tmp_path / "run")
    assert sorted(curves["step"].unique()) == [0, 2, 3]
    stored = specialize.open_trace(tmp_path / "run")
    for router in end.layers:
        np.testing.assert_array_equal(stored.experts(router.name), end.experts(router.name))
    for step, trace in ((0, start), (3, end)):
        parity = load_annotation(stored, "parity")
        expected = measure_specialization(trace, parity, permutations=20)
        rows = curves[(curves["step"] == step) & (curves["label_set"] == "parity")]
        expected = expected[(expected["metric"] == U) & expected["layer"].notna()]
        for column in ("value", "ci_low", "ci_high", "null_mean", "p_value"):
            np.testing.assert_allclose(rows[column], expected[column], rtol=1e-9, atol=1e-12)
    agreed = compare_traces(start, end)
    agreed = agreed[(agreed["metric"] == "saturation") & agreed["label"].isna()]
    to_end = curves[(curves["metric"] == "saturation") & (curves["step"] == 0)]
    np.testing.assert_allclose(to_end[["value", "null_mean"]], agreed[["value", "null_mean"]])
    assert (to_end["value"] < 1).all()
    load = curves[(curves["metric"] == "load") & (curves["step"] == 3)]
    shares = np.bincount(end.experts(0).ravel(), minlength=8) / end.experts(0).size
    np.testing.assert_allclose(load[load["layer"] == 0]["value"], shares)
    dead = curves[(curves["metric"] == "dead_experts") & (curves["step"] == 3)].set_index("layer")["value"]
    assert dead[0] == (shares == 0).sum()


def test_a_model_that_stays_as_it_is_is_saturated(model, sample, tmp_path):
    logged = []
    with specialize.monitor(model, sample, tmp_path / "run", every=1, permutations=2) as monitor:
        logged += [monitor.step(), monitor.step()]
    curves = read_curves(tmp_path / "run")
    for metric, steps in (("saturation_to_previous", [1, 2]), ("saturation", [0, 1])):
        rows = curves[curves["metric"] == metric]
        assert list(rows["step"].unique()) == steps
        assert (rows["value"] == 1).all()
    assert logged[0] == logged[1]
    assert logged[0]["specialize/saturation_to_previous/min"] == 1
    own = curves[(curves["step"] == 1) & (curves["metric"] == U) & (curves["label_set"] == "parity")]
    assert logged[0]["specialize/uncertainty_coefficient/parity/max"] == own["value"].max()


def test_names_for_loggers_do_not_depend_on_the_size_of_the_model(sample, tmp_path, one_thread):
    names = []
    for layers, experts in ((1, 4), (5, 16)):
        model = build_model(num_hidden_layers=layers, num_experts=experts)
        with specialize.monitor(model, sample, tmp_path / f"{layers}", every=1, permutations=2) as monitor:
            names.append(set(monitor.step()))
    assert names[0] == names[1]
    assert len(names[0]) == 2 * 3 + 6  # three of each label set
    with pytest.raises(KeyError):
        summarize_snapshot(pd.DataFrame({"routing": [], "metric": []}))


def test_steps_that_are_asked_for(model, sample, tmp_path):
    with specialize.monitor(model, sample, tmp_path / "run", every=None, steps=[1, 4], permutations=0) as monitor:
        assert [monitor.step() is not None for _ in range(5)] == [True, False, False, True, False]
    assert read_snapshots(tmp_path / "run").steps == [0, 1, 4, 5]


def test_texts_with_a_column_of_labels(world, model, tokenizer, tmp_path):
    how = {"tokenizer": tokenizer, "permutations": 2, "sample_tokens": 1000}
    with specialize.monitor(model, world / "corpus.jsonl", tmp_path / "run", **how):
        pass
    curves = read_curves(tmp_path / "run")
    assert set(curves["label_set"].dropna()) == {"theme"}
    trace = specialize.open_trace(tmp_path / "run")
    counts = trace.tokens()["document"].value_counts()
    assert trace.num_documents == 15  # of at most 64 tokens each
    assert trace.num_tokens <= 1000
    assert counts.max() <= 64
    specialize.validate(tmp_path / "run")


def test_a_sample_is_of_documents_at_even_distances(model, sample, tmp_path):
    with specialize.monitor(model, sample, tmp_path / "run", permutations=0, sample_tokens=300):
        pass
    trace, whole = specialize.open_trace(tmp_path / "run"), specialize.open_trace(sample)
    ids = [int(name[1:]) for name in trace.documents()["id"]]
    assert ids == [0, 13, 26, 39]
    taken, known = (each.tokens().groupby("document")["token_id"] for each in (trace, whole))
    for number, own in enumerate(ids):
        np.testing.assert_array_equal(taken.get_group(number), known.get_group(own)[:64])
    codes, ids = load_annotation(trace, "parity").codes, trace.tokens()["token_id"].to_numpy()
    np.testing.assert_array_equal(codes, np.where(ids % 3 == 2, -1, ids % 3))


def test_mistakes_are_one_line(world, model, sample, tokenizer, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(AnnotationError, match=r"labels: expected label sets .*got 'them'\. Did you mean 'theme'\?"):
        specialize.monitor(model, sample, run, labels=["them"])
    with pytest.raises(CaptureError, match="tokenizer: expected the model's tokenizer"):
        specialize.monitor(model, world / "corpus.jsonl", run)
    with pytest.raises(MeasurementError, match="every: expected a number of at least 1, got 0"):
        specialize.monitor(model, sample, run, every=0)
    with pytest.raises(CaptureError, match="expected a transformers model, got Linear"):
        specialize.monitor(torch.nn.Linear(2, 2), sample, run)
    with pytest.raises(TraceError, match="number of embeddings of the model"):
        specialize.monitor(build_model(vocab_size=20), sample, run)
    model.lm_head.weight.ds_id = 1  # as DeepSpeed marks what it shards
    with pytest.raises(CaptureError, match="expected a model that each process holds whole"):
        specialize.monitor(model, sample, run)
    assert not run.exists()


def test_a_training_that_has_diverged_is_no_snapshot(model, sample, tmp_path):
    run = tmp_path / "run"
    with specialize.monitor(model, sample, run, every=1, permutations=0) as monitor:
        kept = model.model.layers[0].norm_mlp.weight.clone()
        with torch.no_grad():
            model.model.layers[0].norm_mlp.weight.fill_(torch.nan)
        with pytest.raises(CaptureError, match="expected finite gate weights"):
            monitor.step()
        assert read_snapshots(run).steps == [0]
        with torch.no_grad():
            model.model.layers[0].norm_mlp.weight.copy_(kept)
    assert read_snapshots(run).steps == [0, 1]
