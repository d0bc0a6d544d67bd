"""A trace that an earlier version wrote is read as it was meant, for as long as its format is supported."""

from pathlib import Path

import numpy as np

import specialize
from specialize.trace import validate_trace

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
