"""The token ids of a run are sent to a server again, and a run that a server made is read by the model itself."""

import numpy as np

import specialize
from serving.test_traced import check_same


def test_a_run_of_the_hooks_is_sent_to_the_server(server, checkpoint, hooked, tmp_path):
    trace = specialize.trace_corpus(checkpoint, hooked.path, tmp_path / "run", server=server.address, limit=200)
    first = hooked.tokens()
    kept = (first["document"] < 200).to_numpy()
    assert trace.tokens().equals(first[kept])
    for own, theirs in zip(trace.layers, hooked.layers, strict=True):
        np.testing.assert_array_equal(trace.experts(own.layer), hooked.experts(theirs.layer)[kept])


def test_a_rollout_of_a_server_is_read_by_the_model(server, checkpoint, texts, tmp_path):
    rollout = specialize.trace_corpus(
        checkpoint, texts[:60], tmp_path / "rollout", generate=6, context=48, server=server.address
    )
    trace = specialize.trace_corpus(
        checkpoint, rollout, tmp_path / "trainer", batch_tokens=1, weights=False, device="cpu", dtype="float32"
    )
    assert (trace.tokens()["phase"] == "generation").sum() > 100
    assert trace.tokens().equals(rollout.tokens())
    check_same(rollout, trace)
    frame = specialize.compare(rollout, trace)
    anywhere = frame[frame["metric"] == "mismatched_tokens_in_any_layer"]
    assert set(anywhere["label_set"].dropna()) == {"phase", "position"}
    assert (anywhere["value"] == 0).all()
