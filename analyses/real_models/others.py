"""The other recordings: tasks, subjects, languages and load in four models, and single prompts in two."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

import specialize
from specialize.measure import measure_label_overlap, measure_signatures, read_results

TASKS = ("intent", "law", "summary")
U = "uncertainty_coefficient"


def study_deepseek(data: Path, work: Path, *, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """DeepSeek-V2-Lite on three tasks: U(task) of each layer, and whether each task's experts are those published."""
    del permutations
    run, folder = work / "deepseek", data / "esft"
    if not (run / "topics").is_dir():
        specialize.import_trace("esft", {task: folder / task for task in TASKS}, run, label="task", num_experts=64)
        specialize.topics(run, labels=("task",), fit=False, seed=seed)
    rows = []
    for layer in specialize.affinity(run, top_p=0.2, by="token", label="task"):
        published = json.loads((folder / layer.value / "expert_config.json").read_text(encoding="utf-8"))["experts"]
        same = set(layer.selected) == set(published[layer.layer])
        found = {"task": layer.value, "layer": int(layer.layer), "selected": len(layer.selected)}
        rows.append(found | {"as_published": same})
    return {"layers": _read_layers(run, "task"), "affinity": pd.DataFrame(rows)}


def study_mixtral(data: Path, work: Path, *, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """Mixtral-8x7B on 14,042 examination questions: U of 57 subjects and of 4 fields."""
    del permutations
    run, folder = work / "mixtral", data / "usage"
    if not (run / "topics").is_dir():
        table = folder / "mixtral_mmlu_documents.parquet"
        specialize.import_trace("usage", folder / "mixtral_mmlu.npz", run, documents=table, top_k=2)
        specialize.topics(run, labels=("subject", "field"), fit=False, seed=seed)
    return {"layers": pd.concat([_read_layers(run, label) for label in ("subject", "field")], ignore_index=True)}


def study_qwen(data: Path, work: Path, *, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """Qwen3-30B-A3B on one set of problems in eight languages, counted once for each: overlap of the experts used."""
    del permutations, seed
    run, folder = work / "qwen", data / "usage"
    if not run.is_dir():
        table = folder / "qwen3_mgsm_documents.csv"
        specialize.import_trace("usage", folder / "qwen3_mgsm.npz", run, documents=table, top_k=8)
    trace = specialize.open_trace(run)
    languages, rows = trace.documents()["language"].tolist(), []
    codes, pairs = np.arange(len(languages)), list(combinations(range(len(languages)), 2))
    for router in trace.layers:
        usage = trace.usage(router.name)
        overlap = measure_label_overlap(usage, codes, num_labels=len(languages), permutations=0).value
        rows += [
            {
                "layer": router.layer,
                "language": languages[one],
                "other": languages[other],
                "overlap": overlap[one, other],
            }
            for other, one in pairs
        ]
    return {"overlap": pd.DataFrame(rows)}


def study_olmoe(data: Path, work: Path, *, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """OLMoE-1B-7B on 1,024 instructions: the load, and how similar two instructions are in their usage of experts."""
    run = work / "olmoe"
    if not (run / "routing").is_dir():
        specialize.import_trace("usage", data / "usage" / "olmoe_alpaca.npz", run, top_k=8)
        specialize.routing(run, permutations=permutations, seed=seed)
    trace, signatures = specialize.open_trace(run), []
    for router in trace.layers:
        usage = trace.usage(router.name)
        everyone = np.zeros(len(usage), dtype=int)
        similar = measure_signatures(usage, everyone, num_labels=1, permutations=0, groups=trace.groups).within
        found = {name: getattr(similar, name) for name in ("value", "ci_low", "ci_high", "ci_kind", "n_documents")}
        signatures.append({"layer": int(router.layer)} | found)
    load = _read_routing(run, ("load_entropy", "load_variation", "load_peak", "dead_experts"))
    return {"load": load, "signatures": pd.DataFrame(signatures)}


def study_prompts(data: Path, work: Path, *, permutations: int, seed: int) -> dict[str, pd.DataFrame]:
    """gpt-oss-120b and Qwen3-30B-A3B on one prompt each: load, repeats and flow, as far as one prompt goes."""
    repeats = ("first_expert_repeats", "any_expert_repeats")
    metrics = ("load_variation", "load_peak", *repeats, "flow_uncertainty_coefficient")
    tables = []
    for model, name in (("gpt-oss-120b", "gptoss"), ("Qwen3-30B-A3B", "qwen")):
        run = work / f"prompt-{name}"
        if not (run / "routing").is_dir():
            specialize.import_trace("route-trace", data / "route_trace" / f"{name}.route.csv", run)
            specialize.routing(run, permutations=permutations, seed=seed)
            specialize.report(run, run / "report")
        tables.append(_read_routing(run, metrics).assign(model=model))
    return {"routing": pd.concat(tables, ignore_index=True)}


def _read_layers(run: Path, label_set: str) -> pd.DataFrame:
    rows = read_results(run / "topics", label_set)
    rows = rows[(rows["metric"] == U) & rows["layer"].notna()]
    return rows[["label_set", "layer", "value", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value", "n_documents"]]


def _read_routing(run: Path, metrics: tuple[str, ...]) -> pd.DataFrame:
    rows = read_results(run / "routing", "routing")
    rows = rows[rows["metric"].isin(metrics) & rows["layer"].notna() & rows["expert"].isna() & rows["label"].isna()]
    return rows[["layer", "metric", "value", "ci_low", "ci_high", "ci_kind", "null_mean", "p_value"]]
