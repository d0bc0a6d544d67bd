"""Routing that others published, where it is at hand."""

from pathlib import Path

import numpy as np
import pytest

from listening import Listener
from specialize.trace import NO_EXPERT
from specialize.trace.imports import import_trace

DUMPS = Path(__file__).parents[4] / "shared" / "dumps"


def need(*names):
    missing = [name for name in names if not (DUMPS / name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"published routing is not in {DUMPS}: {', '.join(missing)}")


@need("route_trace")
@pytest.mark.parametrize(
    ("name", "layers", "top_k", "tokens", "empty"), [("gptoss", 36, 2, 149, 84), ("qwen", 48, 6, 156, 27)]
)
def test_route_traces_of_a_phone(tmp_path, name, layers, top_k, tokens, empty):
    trace = import_trace("route-trace", DUMPS / "route_trace" / f"{name}.route.csv", tmp_path / "run")
    assert (len(trace.layers), trace.num_tokens, trace.contents) == (layers, tokens, ("weights",))
    assert {(router.num_experts, router.top_k) for router in trace.layers} == {(128, top_k)}
    without = [int((trace.experts(router.layer) == NO_EXPERT).all(axis=1).sum()) for router in trace.layers]
    assert without == [0] * (layers - 1) + [empty]  # llama.cpp routes only the last token of a prompt there


@need("usage")
@pytest.mark.parametrize(
    ("name", "documents", "top_k", "kind", "told"),
    [
        ("mixtral_mmlu", "mixtral_mmlu_documents.parquet", 2, "shares", None),
        ("qwen3_mgsm", "qwen3_mgsm_documents.csv", 8, "counts", "differ by up to 0.047 %"),
        ("olmoe_alpaca", None, None, "counts", "k = 8, which divides"),
    ],
)
def test_usage_by_document(tmp_path, name, documents, top_k, kind, told):
    listener = Listener()
    table = None if documents is None else DUMPS / "usage" / documents
    path = DUMPS / "usage" / f"{name}.npz"
    trace = import_trace("usage", path, tmp_path / "run", documents=table, top_k=top_k, reporter=listener)
    published = np.load(path)["usage"].astype(np.float64)
    scale = 1 if kind == "shares" else 8
    for place in (0, len(trace.layers) - 1):
        np.testing.assert_array_equal(trace.usage(place), published[:, place] / scale)
    assert trace.manifest["usage"] == kind
    assert told is None or any(told in note for note in listener.notes)
