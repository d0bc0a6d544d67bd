"""The digest of a trace tells its routing from any other, and the digest of its text does not."""

import numpy as np
from tests.planted.stored import store_trace

import specialize


def test_the_digest_is_of_documents_tokens_routing_and_routers(tmp_path):
    documents = np.repeat(np.arange(2), 3)
    experts = np.arange(12).reshape(6, 2) % 4
    routings = {"one": experts, "same": experts, "other": experts[::-1]}
    for name, chosen in routings.items():
        store_trace(tmp_path / name, documents, {3: chosen}, num_experts=4)
    store_trace(tmp_path / "wider", documents, {3: experts}, num_experts=5)
    traces = {name: specialize.open_trace(tmp_path / name) for name in (*routings, "wider")}
    assert traces["one"].digest == traces["same"].digest
    assert len({trace.digest for trace in traces.values()}) == 3
    assert len({trace.text_digest for trace in traces.values()}) == 1
