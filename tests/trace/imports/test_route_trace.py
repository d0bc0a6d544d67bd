"""Route traces of llama.cpp-based engines: rows become tokens, and what is missing is -1 or refused."""

import numpy as np
import pytest

from listening import Listener
from specialize.errors import TraceError
from specialize.trace import NO_EXPERT
from specialize.trace.imports import import_trace, route_trace

PREAMBLE = "# route_trace v1\n# model=/data/a model.gguf arch=x n_layer=3 n_expert=9 n_expert_used=2\n"
HEADER = "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"
LAYERS = (1, 2)


def plant(tokens=6):
    rng = np.random.default_rng(0)
    return rng.random((tokens, len(LAYERS), 9)).argsort(axis=2)[:, :, :2]


def rows_of(experts, *, turn=0, prompt=4, first=0, weight="0.5"):
    """Rows as the engine writes them: the prompt layer by layer, then token by token."""
    places = [(step, place) for place in range(len(LAYERS)) for step in range(prompt)]
    places += [(step, place) for step in range(prompt, len(experts)) for place in range(len(LAYERS))]
    return [
        f"{turn},{int(step >= prompt)},{first + step},{LAYERS[place]},{slot},"
        f"{experts[step, place, slot]},{weight},0,10\n"
        for step, place in places
        for slot in range(2)
    ]


def write(path, rows, preamble=PREAMBLE, header=HEADER):
    path.write_text(preamble + header + "".join(rows))
    return path


def routed(trace):
    return np.stack([trace.experts(layer) for layer in LAYERS], axis=1)


def test_rows_become_tokens(tmp_path):
    trace = import_trace("route-trace", write(tmp_path / "a.csv", rows_of(plant())), tmp_path / "run")
    np.testing.assert_array_equal(routed(trace), plant())
    assert [(router.layer, router.num_experts, router.top_k) for router in trace.layers] == [(1, 9, 2), (2, 9, 2)]
    tokens = trace.tokens()
    assert tokens["position"].tolist() == list(range(6))
    assert tokens["phase"].tolist() == ["prefill"] * 4 + ["generation"] * 2
    assert (trace.weights(1) == 0.5).all()
    assert trace.documents()["id"].tolist() == ["a"]
    assert trace.manifest["model"] == {"name": "a model.gguf"}


def test_a_layer_without_rows_has_no_expert_and_the_user_is_told(tmp_path):
    rows = [row for row in rows_of(plant()) if row.split(",")[2:4] not in (["0", "2"], ["1", "2"])]
    listener = Listener()
    trace = import_trace("route-trace", write(tmp_path / "a.csv", rows), tmp_path / "run", reporter=listener)
    expected = plant()
    expected[:2, 1] = NO_EXPERT
    np.testing.assert_array_equal(routed(trace), expected)
    assert listener.notes == ["tokens without experts, which are -1 in all slots of a layer: 2 in layer 2"]


@pytest.mark.parametrize("word", ["nan", "-nan"])
def test_unknown_gate_weights_are_not_imported(tmp_path, word):
    rows = rows_of(plant(), weight=word)
    listener = Listener()
    trace = import_trace("route-trace", write(tmp_path / "a.csv", rows), tmp_path / "run", reporter=listener)
    assert trace.contents == ()
    assert "gate weights are unknown (nan); gate weights are not imported" in listener.notes[0]


def test_turns_and_files_are_documents(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "run2.csv", rows_of(plant()) + rows_of(plant(), turn=3, first=6))
    write(folder / "run10.csv", rows_of(plant()))
    trace = import_trace("route-trace", folder, tmp_path / "run")
    assert trace.documents()["id"].tolist() == ["run2:0", "run2:3", "run10"]
    np.testing.assert_array_equal(routed(trace), np.concatenate([plant()] * 3))
    assert trace.tokens()["position"].tolist() == [*range(12), *range(6)]


def test_columns_are_read_by_name(tmp_path):
    header = "dropped," + ",".join(reversed(HEADER.strip().split(","))) + "\n"
    rows = ["1," + ",".join(reversed(row.strip().split(","))) + "\n" for row in rows_of(plant())]
    trace = import_trace("route-trace", write(tmp_path / "a.csv", rows, header=header), tmp_path / "run")
    np.testing.assert_array_equal(routed(trace), plant())


def test_without_preamble_sizes_are_inferred(tmp_path):
    listener = Listener()
    path = write(tmp_path / "a.csv", rows_of(plant()), preamble="")
    trace = import_trace("route-trace", path, tmp_path / "run", reporter=listener)
    np.testing.assert_array_equal(routed(trace), plant())
    assert "experts, inferred from the largest id" in listener.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], r"line 26: expected 2 slots for a token in a layer, got 1; the file is truncated"),
        (lambda rows: [*rows, rows[3]], r"line 28: expected each slot of a token once"),
        (lambda rows: [rows[0].replace(",0,0,1,", ",1,0,1,"), *rows[1:]], "expected one phase for all rows"),
        (lambda rows: ["0,2,0,1,0,1,1,0,0\n", *rows], r"line 4: expected a phase from 0 to 1, got 2"),
        (lambda rows: ["0,0,-1,1,0,1,1,0,0\n", *rows], r"line 4: expected a step of 0 or more, got -1"),
        (lambda rows: ["0,0,0,1,2,1,1,0,0\n", *rows], r"line 4: expected a slot from 0 to 1, got 2"),
        (lambda rows: ["0,0,0,1,,1,1,0,0\n", *rows], "column slot: expected an integer in every row"),
        (lambda rows: ["0,0,0,1,0,x,1,0,0\n", *rows], "expected a CSV table with the columns turn, phase, step"),
        (lambda rows: [], "expected the routing of at least one token, got a table without rows"),
    ],
)
def test_rows_that_cannot_be_routing_are_refused(tmp_path, change, message):
    path = write(tmp_path / "a.csv", change(rows_of(plant())))
    with pytest.raises(TraceError, match=message):
        import_trace("route-trace", path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_the_preamble_states_is_checked(tmp_path):
    for preamble, message in (
        ("# route_trace v2\n", "expected version 1 of route_trace, got version 2"),
        ("# n_expert=0 n_expert_used=2\n", "expected n_expert from 1 to 32767, got 0"),
        (PREAMBLE.replace("n_expert=9", "n_expert=3"), r"step \d, layer 1: expected an expert id from 0 to 2"),
    ):
        path = write(tmp_path / "a.csv", rows_of(plant()), preamble)
        with pytest.raises(TraceError, match=message):
            import_trace("route-trace", path, tmp_path / "run")


def test_traces_of_different_models_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", rows_of(plant()))
    write(tmp_path / "in" / "b.csv", rows_of(plant()), PREAMBLE.replace("n_expert=9", "n_expert=10"))
    with pytest.raises(TraceError, match=r"b\.csv: expected the n_expert of a\.csv, 9, got 10; import traces of"):
        import_trace("route-trace", tmp_path / "in", tmp_path / "run")


def test_few_rows_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(route_trace, "_ALWAYS_FINE", 10)
    rows = [f"0,0,{n},{n},0,1,1,0,0\n" for n in range(200)]
    path = write(tmp_path / "a.csv", rows, PREAMBLE.replace("n_expert_used=2", "n_expert_used=1"))
    with pytest.raises(TraceError, match=r"expected rows for nearly all of 200 tokens x 200 layers x 1 slots, got 200"):
        import_trace("route-trace", path, tmp_path / "run")
