"""Megatron-LM's router traces: steps of ranks become documents, and the MTP head's routers follow the decoder's."""

import json

import numpy as np
import pytest

from listening import Listener
from specialize.errors import TraceError
from specialize.trace import NO_EXPERT
from specialize.trace.imports import import_trace

LAYERS = (1, 2)


def plant(seed=0, tokens=5):
    rng = np.random.default_rng(seed)
    return rng.random((tokens, len(LAYERS), 9)).argsort(axis=2)[:, :, :2]


def records_of(experts, *, rank=0, step=0):
    return [
        {
            "step": step, "stage": "pre_dispatch", "block": "decoder", "layer": layer, "rank": rank,
            "num_tokens": len(experts), "topk": 2, "top_indices": experts[:, place].tolist(),
        }
        for place, layer in enumerate(LAYERS)
    ]  # fmt: skip


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def routed(trace, layers=LAYERS):
    return np.stack([trace.experts(layer) for layer in layers], axis=1)


def test_ranks_and_steps_are_documents(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "router_trace_rank10.jsonl", records_of(plant(3), rank=10))
    write(folder / "router_trace_rank2.jsonl", records_of(plant(1), rank=2) + records_of(plant(2), rank=2, step=1))
    (folder / "other.jsonl").write_text("{}\n")
    trace = import_trace("megatron", folder, tmp_path / "run", num_experts=9)
    np.testing.assert_array_equal(routed(trace), np.concatenate([plant(1), plant(2), plant(3)]))
    assert trace.documents()["id"].tolist() == ["rank2-step0", "rank2-step1", "rank10-step0"]
    assert [router.name for router in trace.layers] == ["layers.1", "layers.2"]
    assert trace.contents == ()


def test_the_mtp_head_is_another_router(tmp_path):
    head = plant(7)[:, 0]
    records = [*records_of(plant()), {**records_of(plant())[0], "block": "mtp", "mtp_idx": 0}]
    records[-1]["top_indices"] = head.tolist()
    trace = import_trace("megatron", write(tmp_path / "a.jsonl", records), tmp_path / "run")
    assert [(router.layer, router.name) for router in trace.layers] == [
        (1, "layers.1"), (2, "layers.2"), (3, "mtp.0.layers.1"),
    ]  # fmt: skip
    np.testing.assert_array_equal(routed(trace), plant())
    np.testing.assert_array_equal(trace.experts("mtp.0.layers.1"), head)


def test_a_router_of_other_tokens_can_be_left_out(tmp_path):
    records = [*records_of(plant()), {"step": 0, "rank": 0, "layer": 1, "mtp_idx": 0, "top_indices": [[0, 1]]}]
    path = write(tmp_path / "a.jsonl", records)
    with pytest.raises(TraceError, match=r"expected the experts of layers\.1, \[5, 2\], .* got \[1, 2\] of mtp"):
        import_trace("megatron", path, tmp_path / "run")
    np.testing.assert_array_equal(routed(import_trace("megatron", path, tmp_path / "run", layers="1-2")), plant())


def test_micro_batches_of_a_step_are_documents(tmp_path):
    records = records_of(plant(1)) + records_of(plant(2, tokens=3))
    trace = import_trace("megatron", write(tmp_path / "a.jsonl", records), tmp_path / "run")
    assert trace.documents()["id"].tolist() == ["rank0-step0", "rank0-step0-1"]
    np.testing.assert_array_equal(routed(trace), np.concatenate([plant(1), plant(2, tokens=3)]))


def test_a_router_without_a_record_has_no_experts(tmp_path):
    records = records_of(plant(1)) + records_of(plant(2), step=1)[:1]
    listener = Listener()
    trace = import_trace("megatron", write(tmp_path / "a.jsonl", records), tmp_path / "run", reporter=listener)
    expected = np.concatenate([plant(1), plant(2)])
    expected[5:, 1] = NO_EXPERT
    np.testing.assert_array_equal(routed(trace), expected)
    assert listener.notes[-1].endswith("5 in layer 2")


def test_a_router_mask_hides_the_order_of_choice(tmp_path):
    listener = Listener()
    path = write(tmp_path / "a.jsonl", records_of(np.sort(plant(tokens=20), axis=2)))
    import_trace("megatron", path, tmp_path / "run", reporter=listener)
    assert "the experts of each token are ordered by their ids: slot 0 is not the router's first choice" in (
        listener.notes
    )


def test_ranks_that_share_their_tokens_or_not_their_layers_are_refused(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    many = plant(tokens=20)
    write(folder / "router_trace_rank0.jsonl", records_of(many))
    write(folder / "router_trace_rank1.jsonl", records_of(many, rank=1))
    with pytest.raises(TraceError, match=r"rank1\.jsonl: expected other tokens than those of router_trace_rank0"):
        import_trace("megatron", folder, tmp_path / "run")
    write(folder / "router_trace_rank1.jsonl", [{**each, "layer": 7} for each in records_of(many, rank=1)[:1]])
    with pytest.raises(TraceError, match="import the ranks of each stage of the pipeline separately"):
        import_trace("megatron", folder, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": -1}, r"expected layer as an integer from 0 to 32767, got -1"),
        ({"rank": None}, r"expected rank as an integer from 0"),
        ({"block": "encoder"}, r"expected a block of decoder or mtp, got 'encoder'"),
        ({"topk": 3}, r"expected top_indices of topk = 3, got 2"),
        ({"num_tokens": 4}, r"expected top_indices of num_tokens = 4, got 5"),
        ({"top_indices": [[1, 2], [3]]}, r"expected top_indices with lists of the same length"),
        ({"top_indices": [[1.5, 2]]}, r"expected top_indices as lists of integers \[tokens, k\]"),
        ({"top_indices": None}, r"expected top_indices as lists of integers"),
        ({"top_indices": [[1, 1]] * 5}, r"rank0|expected 2 different experts, got expert 1 twice"),
    ],
)
def test_damaged_records_are_refused(tmp_path, change, message):
    first, *others = records_of(plant())
    path = write(tmp_path / "a.jsonl", [{**first, **change}, *others])
    with pytest.raises(TraceError, match=message):
        import_trace("megatron", path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_lines_and_steps_that_are_not_whole_are_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", records_of(plant()))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(TraceError, match=r"a\.jsonl, line 2: expected one JSON object .* got broken JSON"):
        import_trace("megatron", path, tmp_path / "run")
    write(path, records_of(plant(1)) + records_of(plant(2))[:1])
    with pytest.raises(TraceError, match=r"expected 2 records of layers\.2 in step 0, as many as micro-batches, got 1"):
        import_trace("megatron", path, tmp_path / "run")
