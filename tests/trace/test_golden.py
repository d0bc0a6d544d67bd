"""A trace that an earlier version wrote is read as it was meant, for as long as its format is supported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import specialize
from specialize.errors import TraceError
from specialize.trace import TraceWriter, validate_trace
from specialize.trace.unfinished import read_unfinished

GOLDEN = Path(__file__).parents[1] / "golden"


def test_format_version_1():
    trace = specialize.open_trace(GOLDEN / "trace-v1")
    assert all(check.problem is None for check in validate_trace(trace.path))
    assert [(router.layer, router.num_experts, router.top_k, router.unit) for router in trace.layers] == [
        (0, 4, 2, "token"),
        (2, 300, 1, "sequence"),
    ]
    np.testing.assert_array_equal(trace.experts(0), [[3, 0], [1, -1], [2, 1], [0, 3]])
    np.testing.assert_array_equal(trace.experts(2), [[299], [299], [299], [7]])
    np.testing.assert_array_equal(trace.weights(0), [[0.75, 0.25], [1, 0], [0.5, 0.5], [0.625, 0.375]])
    documents, tokens = trace.documents(), trace.tokens()
    assert documents["text"].tolist() == ["Hé there", "Bye"]
    assert documents["kind"].fillna("").tolist() == ["x", ""]
    assert tokens["phase"].tolist() == ["prefill"] * 3 + ["generation"]
    spans = zip(tokens["document"], tokens["char_start"], tokens["char_end"], strict=True)
    assert [documents["text"][d][start:end] for d, start, end in spans] == ["Hé", " ", "there", "Bye"]


def name_it_as_version_1_did(run: Path) -> dict:
    """Copy the trace, its second router as the random router that version 1 called a shadow; return its manifest."""
    shutil.copytree(GOLDEN / "trace-v1", run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["routers"][1]["routing"] = "shadow"
    (run / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def test_a_random_router_of_version_1(tmp_path):
    name_it_as_version_1_did(tmp_path / "run")
    trace = specialize.open_trace(tmp_path / "run")
    assert [(router.layer, router.routing) for router in trace.layers] == [(0, "learned")]
    assert [(router.layer, router.routing) for router in trace.random_routers] == [(2, "random")]
    np.testing.assert_array_equal(trace.experts(2, routing="random"), [[299], [299], [299], [7]])
    assert trace.manifest["version"] == 4


def test_an_unfinished_trace_of_version_1_is_resumed_as_one_of_this_version(tmp_path):
    manifest = name_it_as_version_1_did(tmp_path / "run") | {"complete": False}
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    with TraceWriter(tmp_path / "run", settings=manifest["settings"], provenance={}) as writer:
        assert writer.num_shards == 2
        writer.finish()
    stored = json.loads((tmp_path / "run/manifest.json").read_text())
    assert (stored["version"], stored["routers"][1]["routing"]) == (4, "random")
    assert all(check.problem is None for check in validate_trace(tmp_path / "run"))


def test_format_version_2():
    trace = specialize.open_trace(GOLDEN / "trace-v2")
    assert all(check.problem is None for check in validate_trace(trace.path))
    assert trace.contents == ("weights", "logits", "norms", "predictions")
    assert [(router.layer, router.routing) for router in (*trace.layers, *trace.random_routers)] == [
        (1, "learned"),
        (1, "random"),
    ]
    np.testing.assert_array_equal(trace.experts(1), [[2, 0], [1, -1], [0, 2]])
    np.testing.assert_array_equal(trace.experts(1, routing="random"), [[0, 1], [2, 1], [1, 0]])
    np.testing.assert_array_equal(trace.weights(1), [[0.75, 0.25], [1, 0], [0.625, 0.375]])
    np.testing.assert_array_equal(trace.weights(1, routing="random"), [[0.5, 0.25], [0.75, 0.125], [0.375, 0.25]])
    np.testing.assert_array_equal(trace.router_logits(1), [[1, -1, 2.5], [-0.5, 3, 0], [2, -4, 1.5]])
    np.testing.assert_array_equal(trace.output_norms(1), [[4, 2], [8, 0], [1, 0.5]])
    tokens = trace.tokens()
    assert tokens["predicted_token_id"].tolist() == [9, 8, 7]
    np.testing.assert_array_equal(tokens["next_token_loss"], [0.25, np.nan, np.nan])
    documents = trace.documents()
    assert documents[["id", "text"]].to_numpy().tolist() == [["a", "Grüße"], ["b", "x"]]
    assert documents["kind"].fillna("").tolist() == ["y", ""]
    # results name the trace that was measured by this digest: it stays what it was
    assert trace.digest == "4843460f03722538ed674083cfa5d7eb3bcb5c00a1fc212dc3fdc1838faa13e7"


def test_a_trace_of_version_2_has_one_random_router_beside_each(tmp_path):
    """It is resumed with that number, not with the present default."""
    shutil.copytree(GOLDEN / "trace-v2", tmp_path / "run")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    manifest |= {"complete": False, "settings": {"control": "random-router", "seed": 0}}
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    one = {"control": "random-router", "control_draws": 1, "seed": 0}
    assert read_unfinished(tmp_path / "run", one)["settings"] == one
    with pytest.raises(TraceError, match="control_draws: 1 there, 5 now"):
        read_unfinished(tmp_path / "run", one | {"control_draws": 5})


def test_format_version_3():
    """Random routers after the first are stored as ids alone."""
    trace = specialize.open_trace(GOLDEN / "trace-v3")
    assert all(check.problem is None for check in validate_trace(trace.path))
    assert [(router.routing, router.draw) for router in trace.routers] == [("learned", 0), ("random", 0), ("random", 1)]
    assert trace.random_routers == trace.random_draws("layers.1.experts")[:1]
    np.testing.assert_array_equal(trace.experts(1), [[2, 0], [1, -1], [0, 2]])
    np.testing.assert_array_equal(trace.experts(1, routing="random"), [[0, 1], [2, 1], [1, 0]])
    np.testing.assert_array_equal(trace.experts(1, routing="random", draw=1), [[1, 2], [0, 2], [2, 0]])
    np.testing.assert_array_equal(trace.weights(1, routing="random"), [[0.5, 0.25], [0.75, 0.125], [0.375, 0.25]])
    assert next(trace.shards("routing")).column_names == [
        "experts.0",
        "weights.0",
        "experts.1",
        "weights.1",
        "experts.2",
    ]
    assert trace.digest == "99c802932c2bf31baf5233edb86d6d897d80777771501f0d815206bab9a77861"


def test_format_version_4():
    """Ids are packed where every slot of a shard holds an expert: those of layers 0, 1 and 2 in the first shard."""
    trace = specialize.open_trace(GOLDEN / "trace-v4")
    assert all(check.problem is None for check in validate_trace(trace.path))
    first, second = ([str(table[f"experts.{layer}"].type) for layer in range(4)] for table in trace.shards("routing"))
    assert first == ["fixed_size_binary[1]", "fixed_size_binary[1]", "fixed_size_binary[5]", FLAT]
    assert second == [PAIR, "fixed_size_binary[1]", "fixed_size_binary[5]", FLAT]
    stored = next(trace.shards("routing"))
    assert stored["experts.0"].to_pylist() == [bytes([3 + 0 * 4]), bytes([1 + 2 * 4])]
    assert stored["experts.2"].to_pylist()[0] == (299 + 0 * 2**9 + 7 * 2**18 + 256 * 2**27).to_bytes(5, "little")
    np.testing.assert_array_equal(trace.experts(0), [[3, 0], [1, 2], [-1, 2]])
    np.testing.assert_array_equal(trace.experts(1), [[2, 0], [0, 1], [1, 2]])
    np.testing.assert_array_equal(trace.experts(2), [[299, 0, 7, 256], [1, 2, 3, 4], [4, 3, 2, 1]])
    np.testing.assert_array_equal(trace.experts(3), [[5], [0], [7]])
    assert trace.digest == "8bf57b7b4862cee6c68095ac3d9d95083579e7077796447d6e2430846cbfc43c"


PAIR, FLAT = (f"fixed_size_list<item: uint8>[{slots}]" for slots in (2, 1))
