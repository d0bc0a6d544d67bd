"""Starts the short runs of a plan, and returns what the stages take by them."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specialize.corpus import Corpus, Document
from specialize.errors import CaptureError, PlanError
from specialize.events import Reporter
from specialize.planning.computed import Job
from specialize.planning.corpus import Counted, draw_documents
from specialize.planning.measured import ShortRun, ShortRuns, extrapolate
from specialize.planning.plan import STAGES, StagePlan
from specialize.trace import open_trace
from specialize.trace.files import read_arrow
from specialize.trace.manifest import read_manifest
from specialize.trace.schema import IPC_OPTIONS
from specialize.tracing.options import TraceOptions
from specialize.tracing.windows import batch_lengths

_TIMES = (1, 2, 6)  # sizes of the samples; the first one warms up
_TOKENS = 8192  # of the first sample, at least
_DOCUMENTS = 40  # of the first sample, at least: topics need 30
_ABLATED = 2  # samples that are run again with experts switched off, the first of them twice: once to warm up
_CONDITIONS = 16  # of a sample: about half as many as share a pass in a whole ablation


def measure_stages(
    model: str,
    counted: Counted,
    options: TraceOptions,
    *,
    job: Job,
    stages: Sequence[str],
    loading: Mapping[str, Any],
    reporter: Reporter,
) -> list[StagePlan]:
    """Run stages on samples of the corpus, and return what they take on the whole.

    Stages that a stage needs are run, too.

    Args:
        model: the checkpoint.
        counted: the corpus.
        options: of the trace.
        job: the whole job.
        stages: that are planned.
        loading: how the model is loaded.
        reporter: receives progress.

    Raises:
        CaptureError: a stage fails on a sample.
        PlanError: the corpus is not there.
    """
    if counted.corpus is None:
        raise PlanError("expected a corpus to measure, got none")
    least = max(_DOCUMENTS, ceil(_TOKENS * counted.documents / counted.tokens))
    sizes = list(dict.fromkeys(min(least * times, counted.documents) for times in _TIMES))
    needed = [name for name in STAGES if name == "trace" or name in stages]
    how = {"model": model, "loading": dict(loading)}
    found: dict[str, StagePlan] = {}
    with tempfile.TemporaryDirectory(prefix="specialize-plan-") as name:
        folder = Path(name)
        places = _write_samples(counted.corpus, sizes, folder)
        with reporter.progress("running stages on samples", "stages") as update:
            for done, stage in enumerate(needed):
                update(done, len(needed))
                kept = _ablated(places, job) if stage == "ablate" else places
                answer = _run(stage, {**how, "arguments": _arguments(stage, counted, options, job)}, kept, folder)
                if stage == "trace":
                    kept = places = [
                        place | {"facts": _describe(Path(place["run"]), options.batch_tokens)}
                        for place in places[: len(answer["runs"])]
                    ]
                    for own, place in zip(answer["runs"], places, strict=True):
                        own["files"] = split_bytes(Path(place["run"]), own["files"])
                if stage in stages:
                    found[stage] = extrapolate(stage, _read_runs(stage, answer, kept, job), job)
            update(len(needed), len(needed))
    return [found[stage] for stage in stages]


def _write_samples(corpus: Corpus, sizes: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Write a corpus of each size, and return its path and that of its run folder."""
    places = []
    for size, drawn in zip(sizes, draw_documents(corpus, sizes), strict=True):
        path = folder / f"{size}.jsonl"
        path.write_text("".join(json.dumps(_as_row(each)) + "\n" for each in drawn), encoding="utf-8")
        places.append({"corpus": str(path), "run": str(folder / f"run-{size}")})
    return places


def _as_row(document: Document) -> dict[str, Any]:
    said = [{"role": each.role, "content": each.content} for each in document.messages]
    content = {"messages": said} if said else {"text": document.text}
    return {"id": document.id, **content, **document.labels}


def _arguments(stage: str, counted: Counted, options: TraceOptions, job: Job) -> dict[str, Any]:
    """Return the arguments of a stage on a sample: those of the whole job, with fewer conditions of an ablation."""
    if stage == "trace":
        names = ("context", "max_tokens", "batch_tokens", "control", "control_draws", "weights", "logits", "norms")
        group = None if counted.corpus is None else counted.corpus.group
        return {name: getattr(options, name) for name in (*names, "predictions")} | {
            "labels": list(counted.label_columns),
            "group": group,
        }
    return {"experts": list(range(_num_ablated(job)))} if stage == "ablate" else {}


def _num_ablated(job: Job) -> int:
    """Return how many experts of each layer are switched off in a sample."""
    return min(job.architecture.num_experts, ceil(_CONDITIONS / len(job.architecture.moe_layers)))


def _ablated(places: Sequence[dict[str, Any]], job: Job) -> list[dict[str, Any]]:
    """Return the samples that are run again, before them a copy of the first, in which one expert is switched off."""
    copy = shutil.copytree(places[0]["run"], places[0]["run"] + "-again")
    least = {"experts": [0], "layers": [job.architecture.moe_layers[0]]}
    return [{**places[0], "run": copy, "arguments": least}, *places[:_ABLATED]]


def _run(stage: str, how: Mapping[str, Any], places: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Run one stage in a process of its own, and return what it took.

    Raises:
        CaptureError: it fails.
    """
    path = folder / f"{stage}.json"
    path.write_text(json.dumps({"stage": stage, "runs": places, **how, "launched": time.time()}), encoding="utf-8")
    command = [sys.executable, "-m", "specialize.pipeline.pilot", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise CaptureError(f"{stage}: failed on a sample of the corpus ({reason:.300}); plan without measure")
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        raise CaptureError(f"{stage}, on a sample of the corpus: {answer['error']}")
    return answer


def _describe(run: Path, batch_tokens: int) -> dict[str, int]:
    """Return the documents and tokens of a run, and the padded tokens of its shards and of all windows together."""
    trace = open_trace(run)
    tokens = trace.tokens(["sequence", "position"])
    lengths = tokens.groupby("sequence")["position"].max().to_numpy() + 1
    ends = np.cumsum([shard["tokens"] for shard in trace.manifest["shards"]])
    shard = np.searchsorted(ends, np.flatnonzero(np.diff(tokens["sequence"], prepend=-1)), side="right")
    padded = sum(_pad(lengths[shard == number], batch_tokens) for number in range(len(ends)))
    return {
        "documents": trace.num_documents,
        "tokens": len(tokens),
        "padded": padded,
        "padded_again": _pad(lengths, batch_tokens),
    }


def _pad(lengths: NDArray[np.integer], batch_tokens: int) -> int:
    return int(sum(len(batch) * lengths[batch].max() for batch in batch_lengths(lengths, tokens=batch_tokens)))


def split_bytes(run: Path, files: Mapping[str, int]) -> dict[str, int]:
    """Return the files of a trace, as if it had a single shard, and one file of routing for each thing recorded.

    Few tokens are cut into small shards, which are compressed less than those of a whole trace. What each shard adds to
    its contents, the headers of its files and its entry in the manifest, is a file of its own.
    """
    entries = read_manifest(run)["shards"]
    entry = len(json.dumps(entries[-1], indent=2))
    shards = {kind: [path for path in files if f"/{kind}-" in path] for kind in ("tokens", "routing")}
    found = {path: size for path, size in files.items() if path not in shards["tokens"] + shards["routing"]}
    found["manifest.json"] -= len(entries) * entry
    found["trace/headers.arrow"] = entry
    for paths in shards.values():
        alike: dict[pa.Schema, list[pa.Table]] = {}  # experts of a shard are packed, or not
        for path in sorted(paths):
            table = read_arrow(run / path)
            alike.setdefault(table.schema, []).append(table)
        found["trace/headers.arrow"] += _compressed(table.slice(0, 1))
        for tables in alike.values():
            whole = pa.concat_tables(tables).combine_chunks()
            columns: dict[str, list[str]] = {}
            for column in whole.column_names:
                columns.setdefault(column.partition(".")[0] if "." in column else "tokens", []).append(column)
            for kind, names in columns.items():
                own, path = whole.select(names), f"trace/{kind}-all.arrow"
                found[path] = found.get(path, 0) + _compressed(own) - _compressed(own.slice(0, 1))
    return found


def _compressed(table: pa.Table) -> int:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=IPC_OPTIONS) as writer:
        writer.write_table(table)
    return int(sink.getvalue().size)


def _read_runs(stage: str, answer: Mapping[str, Any], places: Sequence[Mapping[str, Any]], job: Job) -> ShortRuns:
    runs = []
    for own, place in zip(answer["runs"], places, strict=False):  # fewer runs than places, if they take long
        known = place["facts"]
        padded = known["padded_again" if stage == "ablate" else "padded"]
        runs.append(ShortRun(documents=known["documents"], tokens=known["tokens"], padded=padded, **own))
    conditions = _num_ablated(job) * len(job.architecture.moe_layers) if stage == "ablate" else 0
    return ShortRuns(answer["start_seconds"], answer["start_cpu_seconds"], runs, conditions)
