"""Run folders whose results come from planted frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from plot.planted_frames import planted_frame
from plot.planted_function import planted_effects, planted_experts
from specialize.measure.results.files import write_both, write_results
from specialize.trace import open_trace
from specialize.trace.manifest import write_manifest
from specialize.trace.schema import FORMAT, FORMAT_VERSION, shard_files

WORDS = (
    "river, lake, water, dam, stream", "album, band, song, released", "species, genus, plant, leaf",
    "emperor, dynasty, war, throne", "city, district, population", "theorem, algebra, number, proof",
    "film, director, actor, award", "club, league, season, goal", "protein, cell, gene, acid",
    "church, bishop, saint, abbey", "ship, navy, vessel, sank", "star, planet, orbit, telescope",
)  # fmt: skip
TOPICS = tuple(f"{number}: {words}" for number, words in enumerate(WORDS))


def make_run(
    path: Path,
    *,
    unit: str = "token",
    syntax: pd.DataFrame | None = None,
    topics: dict[str, pd.DataFrame] | None = None,
    model: dict[str, Any] | None = None,
    topic_labels: Sequence[str] | None = None,
    ablation: dict[str, pd.DataFrame] | None = None,
    num_layers: int = 4,
) -> Path:
    """Write a run folder with a manifest and whichever results are given."""
    path.mkdir(parents=True)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "complete": True,
        "model": {"id": "specialize/toy", "revision": "0f3c", "config": {"hidden_size": 128} | (model or {})},
        "routers": [
            {"layer": layer, "name": f"model.layers.{layer}.mlp.router", "num_experts": 8, "top_k": 2,
             "score_function": "softmax", "normalized": True, "unit": unit}
            for layer in range(num_layers)
        ],
        "shards": [{"tokens": 120_000, "files": dict.fromkeys(shard_files(0), "0" * 64)}],
        "documents": {"count": 400, "sha256": "0" * 64},
        "corpus": {"source": "corpus.jsonl", "digest": "9d" * 32, "documents": 400, "tokens": 120_000},
        "versions": {"specialize": "0.1.0", "torch": "2.13.0"},
        "options": {"seed": 0, "max_length": 256},
        "command": "specialize trace toy corpus.jsonl",
    }  # fmt: skip
    write_manifest(path, manifest)
    trace = open_trace(path)
    if syntax is not None:
        write_results(syntax, path / "syntax", "upos", trace=trace)
    for name, frame in (topics or {}).items():
        write_results(frame, path / "topics", name, trace=trace)
    for name, frame in (ablation or {}).items():
        write_results(frame, path / "ablation", name, trace=trace)
    if topic_labels:
        info = pd.DataFrame({
            "topic": range(len(topic_labels)),
            "size": range(90, 90 - len(topic_labels), -1),
            "top_words": [str(label).partition(": ")[2] for label in topic_labels],
            "example": "The Rhine is one of the major European rivers; it begins in the Swiss canton of Graubünden.",
        })  # fmt: skip
        write_both(info, path / "topics", "topic_info", text_columns=("top_words", "example"), trace=trace)
        quality = {
            "num_topics": 12, "outlier_share": 0.312, "ari_over_seeds": 0.613, "nmi_topic": 0.541,
            "nmi_topic_without_outliers": 0.622,
        }  # fmt: skip
        table = pd.DataFrame({"quantity": quality.keys(), "value": quality.values()})
        write_both(table, path / "topics", "topic_quality", text_columns=("quantity",), trace=trace)
    return path


def make_ablated(path: Path) -> Path:
    """Write a run whose experts were switched off in two modes, with no other results."""
    name = path.name
    return make_run(
        path,
        ablation={
            "upos": planted_effects(name),
            "next_upos": planted_effects(name, label_set="next_upos", agreement=-0.02, selective=(), seed=4),
            "bertopic": planted_effects(name, label_set="bertopic", labels=TOPICS, selective=TOPICS[:3], seed=8),
            "experts": planted_experts(name),
            "upos.reroute": planted_effects(name, agreement=0.3),
            "experts.reroute": planted_experts(name),
        },
    )


def make_pair(folder: Path) -> list[Path]:
    """Write a token-level and a sequence-level run with everything measured; the former has a random router."""
    frame = planted_frame
    known = ("arts", "geography", "history", "science", "sport")
    token = make_run(
        folder / "toy-token",
        syntax=frame("toy-token", control=0.6, strengths=(0.2, 0.5, 0.45, 0.3)),
        topics={
            "bertopic": frame("toy-token", label_set="bertopic", labels=TOPICS, strengths=(0.05, 0.1, 0.15, 0.12),
                              null=0.004, seed=3, control=0.7),
            "topic": frame("toy-token", label_set="topic", labels=known, strengths=(0.05, 0.08, 0.12, 0.1),
                           null=0.004, seed=5),
        },
        topic_labels=TOPICS,
    )  # fmt: skip
    sequence = make_run(
        folder / "toy-sequence",
        unit="sequence",
        syntax=frame("toy-sequence", strengths=(0.01, 0.02, 0.02, 0.01), seed=9, p_value=0.34),
        topics={
            "bertopic": frame("toy-sequence", label_set="bertopic", labels=TOPICS, strengths=(0.25, 0.45, 0.6, 0.5),
                              null=0.02, seed=13),
            "topic": frame("toy-sequence", label_set="topic", labels=known, strengths=(0.25, 0.4, 0.5, 0.45),
                           null=0.02, seed=15),
        },
        topic_labels=TOPICS,
        model={"sequence_summary": "full", "routing_unit": "sequence"},
    )  # fmt: skip
    return [token, sequence]
