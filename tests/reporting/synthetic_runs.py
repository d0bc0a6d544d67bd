"""Run folders with a trace of random routing over a text of numbered words, and planted results."""

import numpy as np
import pyarrow as pa

from plot.planted_frames import planted_frame
from plot.planted_function import planted_effects, planted_experts
from specialize.measure.results.files import write_results
from specialize.trace import open_trace
from specialize.trace.schema import RouterSpec
from specialize.trace.writer import Shard, TraceWriter

TOPICS = (
    "arts",
    "geography",
    "history",
    "science",
    "sport",
    "law",
    "music",
    "medicine",
    "trade",
    "war",
    "faith",
    "sea",
)


def store_trace(run, *, layers, experts, slots, documents=20, words=120, draws=0, name="d", seed=0):
    """Write a trace, with `draws` random routers beside each router; documents of one `name` are the same ones."""
    rng = np.random.default_rng(seed)
    text = "".join(f"{word:04d} " for word in range(words))
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
    ids = [f"{name}{number}" for number in range(documents)]
    batch = pa.record_batch([pa.array(ids, pa.large_string()), pa.array([text] * documents, pa.large_string())], schema)
    learned = [RouterSpec(layer, f"layers.{layer}.mlp", experts, slots) for layer in range(layers)]
    routers = learned + [
        RouterSpec(each.layer, each.name, experts, slots, routing="random", draw=draw)
        for each in learned
        for draw in range(draws)
    ]
    owner, position = np.repeat(np.arange(documents), words), np.tile(np.arange(words), documents)
    tokens = {
        "document": owner, "sequence": owner, "position": position, "phase": np.zeros(len(owner), dtype=np.uint8),
        "token_id": position, "char_start": 5 * position, "char_end": 5 * position + 4,
    }  # fmt: skip
    routed = []
    for router in routers:
        chosen = rng.random((len(owner), experts)).argpartition(slots, axis=1)[:, :slots].astype(np.int16)
        weights = {"weights": rng.random(chosen.shape).astype(np.float16)} if router.draw == 0 else {}
        routed.append({"experts": chosen} | weights)
    model = {"name": "specialize/synthetic", "config": {"hidden_size": 64}}
    with TraceWriter(run, settings={}, provenance={"model": model}) as writer:
        writer.write_documents(schema, [batch])
        writer.describe(routers=[router.as_dict() for router in routers], contents=["weights"])
        writer.write_shard(Shard(tokens, routed))
        writer.finish()
    return run


def plant_results(run, *, layers, experts, control=None, topics=TOPICS, ablated=False, seed=0):
    """Write results of parts of speech and of topics, rising over the layers, and of switching experts off."""
    strengths = np.linspace(0.1, 0.4, layers)
    trace, given = open_trace(run), {"num_experts": experts, "strengths": strengths, "control": control, "seed": seed}
    write_results(planted_frame(run.name, **given), run / "syntax", "upos", trace=trace)
    for name in ("bertopic", "domain"):
        frame = planted_frame(run.name, label_set=name, labels=topics, **given | {"strengths": strengths / 4})
        write_results(frame, run / "topics", name, trace=trace)
    if ablated:
        size = {"num_experts": experts, "num_layers": layers}
        write_results(planted_effects(run.name, **size), run / "ablation", "upos", trace=trace)
        write_results(planted_experts(run.name, **size), run / "ablation", "experts", trace=trace)
    return run


def make_four(folder):
    """Write four runs: two large models on one corpus, with random routers and switched-off experts, two small ones."""
    large, small = {"layers": 16, "experts": 64}, {"layers": 4, "experts": 8}
    runs = []
    for number, name in enumerate(("olmoe-base", "olmoe-tuned")):
        run = store_trace(folder / name, **large, slots=8, draws=5, seed=number)
        runs.append(plant_results(run, **large, control=0.6, ablated=True, seed=number))
    for number, name in enumerate(("toy-token", "toy-sequence"), 2):
        run = store_trace(folder / name, **small, slots=2, name="other", seed=number)
        runs.append(plant_results(run, **small, seed=number))
    return runs
