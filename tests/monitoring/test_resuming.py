"""A training that is interrupted and resumed has the snapshots of one that was not."""

import shutil

import pandas as pd
import pytest
import torch

import specialize
from monitoring.conftest import build_model, train, twin
from specialize.errors import MeasurementError, TraceError
from specialize.measure.results.curves import read_curves, read_snapshots
from specialize.trace import TraceWriter

HOW = {"every": 2, "permutations": 3}


class Killed(Exception):
    pass


def run_until(model, sample, run, steps, *, first=0, killed=False, **how):
    with specialize.monitor(model, sample, run, first_step=first, **(HOW | how)) as monitor:
        train(model, steps, monitor=monitor, first=first)
        if killed:
            raise Killed


@pytest.fixture
def quiet_model(one_thread):
    return build_model(dropout=0.0)  # so that a training that starts in the middle goes on as the whole one


def test_a_resumed_training_ends_as_a_whole_one(quiet_model, sample, tmp_path):
    model = quiet_model
    checkpoint = twin(model)
    train(checkpoint, 3)
    other = twin(model)
    run_until(model, sample, tmp_path / "whole", 8)
    with pytest.raises(Killed):
        run_until(other, sample, tmp_path / "parts", 5, killed=True)
    assert read_snapshots(tmp_path / "parts").steps == [0, 2, 4]
    curves = read_curves(tmp_path / "parts")  # what was recorded can be drawn
    assert "saturation" not in set(curves["metric"])
    specialize.figures(tmp_path / "parts", tmp_path / "figures", only=["training-parity"], formats=["png"])

    run_until(checkpoint, sample, tmp_path / "parts", 5, first=3)
    whole, parts = (read_curves(tmp_path / name) for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(whole.assign(run=""), parts.assign(run=""))
    one, two = (specialize.open_trace(tmp_path / name) for name in ("whole", "parts"))
    assert (one.experts(1) == two.experts(1)).all()


def test_an_unfinished_snapshot_and_an_unfinished_end_are_made_anew(quiet_model, sample, tmp_path):
    run = tmp_path / "run"
    model = twin(quiet_model)
    with pytest.raises(Killed):
        run_until(model, sample, run, 2, killed=True)
    expected = read_curves(run)
    (run / "training" / "step-00000004.parquet").write_bytes(b"half")  # killed before it was listed
    pd.testing.assert_frame_equal(read_curves(run), expected)
    settings = specialize.open_trace(run).manifest["settings"]
    with TraceWriter(run, settings=settings, provenance={}) as writer:
        writer.describe(complete=False)  # killed while the trace got the routing of the end
    with pytest.raises(TraceError, match="the trace was interrupted"):
        specialize.open_trace(run)
    run_until(model, sample, run, 2, first=2)
    assert read_snapshots(run).steps == [0, 2, 4]
    assert specialize.open_trace(run).num_tokens > 0
    ended = read_curves(run)
    run_until(model, sample, run, 0, first=4)  # nothing is left to do
    pd.testing.assert_frame_equal(read_curves(run), ended)


def test_the_snapshots_of_another_training_are_not_replaced(quiet_model, sample, tmp_path):
    run = tmp_path / "run"
    run_until(quiet_model, sample, run, 2)
    before = read_curves(run)
    with pytest.raises(MeasurementError, match="snapshots up to step 2; choose another folder"):
        run_until(quiet_model, sample, run, 2)
    with pytest.raises(TraceError, match=r"holds a trace with other settings \(permutations: 3 there, 4 now\)"):
        run_until(quiet_model, sample, run, 2, permutations=4)
    with pytest.raises(TraceError, match="training_sample"):
        run_until(quiet_model, sample, run, 2, labels=["theme"])
    pd.testing.assert_frame_equal(read_curves(run), before)
    with specialize.monitor(quiet_model, sample, run, first_step=2, **HOW), pytest.raises(TraceError, match="another"):
        specialize.monitor(quiet_model, sample, run, first_step=2, **HOW).start()
    run_until(quiet_model, sample, run, 1, overwrite=True)
    assert read_snapshots(run).steps == [0, 1]


def test_snapshots_of_another_training_and_rows_of_another_step_are_not_drawn(quiet_model, sample, tmp_path):
    run_until(quiet_model, sample, tmp_path / "one", 2)
    run_until(build_model(dropout=0.0, initializer_range=0.5), sample, tmp_path / "two", 2)
    whole = tmp_path / "one" / "training"
    kept = whole.rename(tmp_path / "kept")
    shutil.copytree(tmp_path / "two" / "training", whole)
    with pytest.raises(MeasurementError, match="snapshots of the training whose routing the trace has, got those of"):
        specialize.report(tmp_path / "one", tmp_path / "report")
    assert not (tmp_path / "report").exists()
    shutil.rmtree(whole)
    shutil.copytree(kept, whole)
    assert read_curves(tmp_path / "one") is not None
    shutil.copy(whole / "step-00000002.parquet", whole / "step-00000000.parquet")
    with pytest.raises(MeasurementError, match=r"step-00000000\.parquet: expected the rows that snapshots.json lists"):
        read_curves(tmp_path / "one")


def test_the_trace_is_of_the_training_that_the_curves_are_of(quiet_model, sample, tmp_path):
    """One that begins again, or goes on from an earlier step, has its own routing, not that of the end before."""
    run, model = tmp_path / "run", twin(quiet_model)
    run_until(model, sample, run, 4)
    ended = specialize.open_trace(run).experts(1)
    first = quiet_model
    with pytest.raises(Killed):
        run_until(first, sample, run, 0, first=2, killed=True)
    resumed = specialize.open_trace(run).experts(1)
    assert (resumed != ended).any()
    with pytest.raises(Killed):
        run_until(build_model(dropout=0.0, initializer_range=0.5), sample, run, 0, overwrite=True, killed=True)
    assert (specialize.open_trace(run).experts(1) != resumed).any()
    run_until(first, sample, tmp_path / "alone", 0)
    assert (specialize.open_trace(tmp_path / "alone").experts(1) == resumed).all()  # of step 0, which was kept
    assert read_curves(run)["step"].unique().tolist() == [0]


def test_damage_is_named(quiet_model, sample, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(Killed):
        run_until(quiet_model, sample, run, 2, killed=True)
    path = run / "training" / "step-00000000.arrow"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TraceError, match=r"step-00000000\.arrow: expected the experts of the snapshot of step 0"):
        run_until(quiet_model, sample, run, 0, first=2)
    listed = run / "training" / "snapshots.json"
    listed.write_text(listed.read_text().replace('"step": 2', '"step": 0'))
    with pytest.raises(MeasurementError, match=r"snapshots\.json: expected ascending steps"):
        read_curves(run)
    listed.write_text("{")
    with pytest.raises(MeasurementError, match=r"snapshots\.json: expected the snapshots of a training"):
        specialize.report(run, tmp_path / "report")


def test_the_model_may_be_wrapped(quiet_model, sample, tmp_path):
    wrapped = torch.nn.DataParallel(quiet_model)
    with specialize.monitor(wrapped, sample, tmp_path / "run", permutations=0):
        pass
    assert read_snapshots(tmp_path / "run").steps == [0]
