import numpy as np
import pytest

from planted import plant_channel
from planted.stored import store_trace
from specialize.annotation import Annotation
from specialize.errors import MeasurementError, TraceError
from specialize.measure import assign_blocks, count_blocks, count_contingency_tables
from specialize.trace import open_trace


@pytest.fixture(params=[8, 300], ids=["one byte", "two bytes"])
def stored(tmp_path, request):
    """A stored trace some of whose slots, and some of whose tokens, have no expert."""
    planted = plant_channel(
        np.array([0.5, 0.3, 0.2]), np.full((3, 4), 0.25), num_documents=70, tokens_per_document=20, top_k=2, seed=1
    )
    experts = np.where(planted.experts >= 0, planted.experts + request.param - planted.num_experts, -1)
    experts[::7, 1] = -1
    experts[::21] = -1
    store_trace(tmp_path / "run", planted.documents, {3: experts, 5: experts[::-1]}, num_experts=request.param)
    return open_trace(tmp_path / "run"), planted, experts


def test_tables_are_those_of_the_arrays(stored):
    trace, planted, experts = stored
    codes = np.where(np.arange(len(planted.codes)) % 5 == 0, -1, planted.codes).astype(np.int32)
    tables = count_contingency_tables(trace, Annotation("upos", "token", ("a", "b", "c"), codes))
    assert list(tables) == [router.name for router in trace.layers]
    blocks = assign_blocks(trace.groups)
    for table, chosen in zip(tables.values(), (experts, experts[::-1]), strict=True):
        expected = count_blocks(
            codes, chosen, blocks=blocks[planted.documents], num_labels=3, num_experts=table.shape[-1],
            num_blocks=blocks.max() + 1,
        )  # fmt: skip
        np.testing.assert_allclose(table, expected, rtol=1e-12)
        assert table.sum() == pytest.approx(((codes >= 0) & (chosen >= 0).any(axis=1)).sum())


def test_a_label_of_a_document_is_given_to_its_tokens(stored):
    trace, planted, experts = stored
    codes = (np.arange(70) % 2).astype(np.int32)
    (table, _) = count_contingency_tables(trace, Annotation("theme", "document", ("a", "b"), codes)).values()
    routed = (experts >= 0).any(axis=1)
    np.testing.assert_allclose(table.sum(axis=(0, 2)), np.bincount(codes[planted.documents[routed]]))
    with pytest.raises(MeasurementError, match="labels of the 70 documents of the trace, got 69"):
        count_contingency_tables(trace, Annotation("theme", "document", ("a", "b"), codes[1:]))


def test_expert_indices_out_of_range_raise(tmp_path):
    documents = np.repeat(np.arange(3), 4)
    store_trace(tmp_path / "run", documents, {0: np.full((12, 2), 6)}, num_experts=4)
    labels = Annotation("upos", "token", ("a",), np.zeros(12, dtype=np.int32))
    with pytest.raises(
        TraceError, match=r"layers\.0 \(layer 0\): expected ids of experts from 0 to 3, got 6 at token 0"
    ):
        count_contingency_tables(open_trace(tmp_path / "run"), labels)
