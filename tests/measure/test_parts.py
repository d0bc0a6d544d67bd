"""What is measured of a run does not depend on how it is stored or divided into parts, to the last bit."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from specialize import column
from specialize.annotation import Annotation
from specialize.annotators.store import load_annotation, save_annotation
from specialize.measure import (
    compare_traces,
    count_contingency_tables,
    measure_details,
    measure_routing,
    measure_specialization,
    measure_vocabulary_specialization,
    probe_trace,
)
from specialize.measure.base import layer_input, nulls, scratch
from specialize.measure.base.mersenne import draw_below, seed_states
from specialize.measure.base.random import kernel_seeds
from specialize.measure.estimators import ambiguous, frequent_types, label_runs, repeated_tokens, word_baseline
from specialize.measure.runs import contingency, word_forms
from specialize.measure.runs import probes as probe_runs
from specialize.trace import RouterSpec, Shard, TraceWriter, open_trace

EXPERTS, SLOTS, DOCUMENTS = 8, 3, 35
HOW = {"num_blocks": 5, "run_name": "run"}


def write_run(run: Path, cuts: list[int], *, seed: int) -> None:
    """Write a run in shards that end at `cuts`; tokens and labels are the same for any seed, the routing is not."""
    rng, routed = np.random.default_rng(0), np.random.default_rng(seed)
    lengths = rng.integers(0, 50, DOCUMENTS)
    lengths[3] = 0
    document = np.repeat(np.arange(DOCUMENTS), lengths)
    size = len(document)
    sequence = np.maximum.accumulate(3 * document + (np.arange(size) % 30 > 18))
    codes = rng.integers(-1, 4, size).astype(np.int32)
    topics = rng.integers(0, 3, DOCUMENTS).astype(np.int32)
    starts = 2 * (np.arange(size) - np.searchsorted(document, document))
    tokens = {
        "document": document,
        "sequence": sequence,
        "position": np.arange(size) - np.searchsorted(sequence, sequence),
        "token_id": np.where(rng.random(size) < 0.05, -1, rng.zipf(1.5, size) % 30),
        "phase": np.zeros(size, np.uint8),
        "char_start": starts,
        "char_end": starts + 1,
        "predicted_token_id": np.zeros(size, np.int32),
        "next_token_loss": np.where(rng.random(size) < 0.05, np.nan, rng.random(size)).astype(np.float32),
    }
    routers = [RouterSpec(layer, f"layers.{layer}", EXPERTS, SLOTS) for layer in range(2)]
    routers += [RouterSpec(layer, f"layers.{layer}", EXPERTS, SLOTS, routing="random") for layer in range(2)]
    columns = []
    for router in routers:
        logits = routed.normal(size=(size, EXPERTS)) + np.eye(EXPERTS)[(codes + topics[document]) % EXPERTS]
        experts = np.where(routed.random((size, SLOTS)) < 0.03, -1, np.argsort(-logits, axis=1)[:, :SLOTS])
        weights = np.where(experts >= 0, routed.dirichlet(np.ones(SLOTS), size), 0.0)
        columns.append({"experts": experts, "weights": weights})
        columns[-1] |= {"logits": logits} if router.routing == "learned" else {}
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
    names = [str(number) for number in range(DOCUMENTS)]
    with TraceWriter(run, settings={}, provenance={}) as writer:
        same = 30  # some are the same
        texts = [
            " ".join(np.random.default_rng(number % same).choice(list("abcdefgh"), 50)) for number in range(DOCUMENTS)
        ]
        writer.write_documents(schema, [pa.record_batch([names, texts], schema=schema)])
        described = [router.as_dict() for router in routers]
        writer.describe(routers=described, contents=["weights", "logits", "predictions"])
        edges = [0, *cuts, size]
        for first, last in pairwise(edges):
            rows = slice(first, last)
            parts = [{name: values[rows] for name, values in each.items()} for each in columns]
            writer.write_shard(Shard({name: values[rows] for name, values in tokens.items()}, parts))
        writer.finish()
    save_annotation(open_trace(run), Annotation("tags", "token", tuple("abcd"), codes))
    save_annotation(open_trace(run), Annotation("topic", "document", tuple("xyz"), topics))


def measure(first: Path, second: Path) -> dict[str, pd.DataFrame]:
    one, two = open_trace(first), open_trace(second)
    tags, topic = (load_annotation(one, name, on_disk=True) for name in ("tags", "topic"))
    few = HOW | {"permutations": 7}
    vocabulary, top = measure_vocabulary_specialization(one, min_count=4, most=3, **few)
    tables = count_contingency_tables(one, tags, num_blocks=5)
    return {
        "tags": measure_specialization(one, tags, rule="gate", **few),
        "topic": measure_specialization(one, topic, **few),
        "details of tags": measure_details(one, tags, min_count=4, **few),
        "details of topic": measure_details(one, topic, min_count=4, **few),
        "routing": measure_routing(one, [topic], **few),
        "comparison": compare_traces(one, two, [tags, topic], by=[tags], **HOW),
        "random": compare_traces(one, None, [tags], **HOW),
        "vocabulary": vocabulary,
        "top tokens": top,
        "probe": probe_trace(one, tags, mlp=False, folds=3, max_tokens=300, **HOW),
        "probe of documents": probe_trace(one, topic, mlp=False, folds=3, permutations=3, **HOW),
        "contingency": pd.concat(map(pd.DataFrame, (table.reshape(-1, EXPERTS) for table in tables.values()))),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for name, seed in (("one", 1), ("two", 2)):
        write_run(folder / name, [], seed=seed)
    return measure(folder / "one", folder / "two")


def test_numbers_do_not_depend_on_shards_and_parts(whole, tmp_path, monkeypatch):
    write_run(tmp_path / "one", [100, 333, 334, 700], seed=1)
    write_run(tmp_path / "two", [5, 600], seed=2)
    sizes = [
        (column, "CHUNK_ROWS", 37),
        (column, "HELD_BYTES", 0),
        (layer_input, "PART_TOKENS", 90),
        (scratch, "MOST_BYTES", 0),
        (ambiguous, "PART_TOKENS", 150),
        (nulls, "BATCH_BYTES", 30_000),
        (repeated_tokens, "_BATCH_BYTES", 4_000),
        (label_runs, "_BATCH_BYTES", 5_000),
        (frequent_types, "BATCH_BYTES", 5_000),
        (word_baseline, "CHUNK_ROWS", 41),
        (probe_runs, "CHUNK_ROWS", 43),
        (word_forms, "_ROWS", 47),
        (contingency, "TOGETHER", 1),
    ]
    for module, name, size in sizes:
        monkeypatch.setattr(module, name, size)
    in_parts = measure(tmp_path / "one", tmp_path / "two")
    for name, frame in whole.items():
        assert len(frame) > 3
        pd.testing.assert_frame_equal(in_parts[name], frame, check_exact=True, obj=name)


def test_the_twister_is_numpys():
    """`RandomState` draws integers below a power of two by masking, as a compiled kernel draws all of them."""
    states = seed_states(5, 2)
    for state, seed in zip(states, kernel_seeds(5, 2), strict=True):
        drawn = [draw_below(state, 2**31) for _ in range(2000)]
        assert drawn == np.random.RandomState(seed).randint(0, 2**31, 2000, dtype=np.uint32).tolist()


def test_permutations_do_not_depend_on_their_batches():
    groups = [4, 4, 1, 2, 2, 7, 9, 9, 9]
    for batches, at_once in (
        (nulls.shift_batches, nulls.draw_shifts),
        (nulls.permutation_batches, nulls.draw_permutations),
    ):
        drawn = [part for _, part in batches(groups, permutations=23, seed=3, size=4)]
        assert [len(part) for part in drawn] == [4, 4, 4, 4, 4, 3]
        np.testing.assert_array_equal(np.concatenate(drawn), at_once(groups, permutations=23, seed=3))
