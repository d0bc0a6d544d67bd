"""The report of a trace as large as today's models make them."""

import numpy as np
import pyarrow as pa
import pytest

from plot.planted_frames import planted_frame
from reporting.own_text import read_packed
from specialize.measure.results.files import write_results
from specialize.reporting import write_report
from specialize.trace.schema import RouterSpec
from specialize.trace.writer import Shard, TraceWriter

LAYERS, EXPERTS, SLOTS = 94, 128, 8
WORDS, DOCUMENTS = 300, 40


def store_large_run(run):
    rng = np.random.default_rng(0)
    text = "".join(f"{word:04d} " for word in range(WORDS))
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
    columns = [pa.array([f"d{number}" for number in range(DOCUMENTS)], pa.large_string())]
    columns.append(pa.array([text] * DOCUMENTS, pa.large_string()))
    routers = [RouterSpec(layer, f"layers.{layer}.mlp", EXPERTS, SLOTS) for layer in range(LAYERS)]
    documents = np.repeat(np.arange(DOCUMENTS), WORDS)
    position = np.tile(np.arange(WORDS), DOCUMENTS)
    tokens = {
        "document": documents,
        "sequence": documents,
        "position": position,
        "phase": np.zeros(len(documents), dtype=np.uint8),
        "token_id": position,
        "char_start": 5 * position,
        "char_end": 5 * position + 4,
    }
    routed = []
    for _ in routers:
        experts = rng.random((len(documents), EXPERTS)).argpartition(SLOTS, axis=1)[:, :SLOTS]
        routed.append({"experts": experts.astype(np.int16), "weights": rng.random(experts.shape).astype(np.float16)})
    with TraceWriter(run, settings={}, provenance={}) as writer:
        writer.write_documents(schema, [pa.record_batch(columns, schema=schema)])
        writer.describe(routers=[router.as_dict() for router in routers], contents=["weights"])
        writer.write_shard(Shard(tokens, routed))
        writer.finish()
    strengths = np.linspace(0.1, 0.4, LAYERS)
    for folder, name, labels in (("syntax", "upos", 17), ("topics", "bertopic", 30)):
        frame = planted_frame("run", label_set=name, labels=[f"label {n}" for n in range(labels)],
                              num_experts=EXPERTS, strengths=strengths, control=0.5)  # fmt: skip
        write_results(frame, run / folder, name)
    return run


@pytest.mark.slow
def test_94_layers_of_128_experts(tmp_path):
    run = store_large_run(tmp_path / "run")
    page = write_report([run], tmp_path / "report", formats=())
    assert page.stat().st_size < 20e6
    experts, explorer = read_packed(page.read_text(encoding="utf-8"))
    assert len(experts["runs"][0]["expert"]) == LAYERS * EXPERTS
    assert [layer["experts"] for layer in explorer["runs"][0]["layers"]] == [EXPERTS] * LAYERS
