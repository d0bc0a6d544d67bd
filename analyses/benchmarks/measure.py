"""The cost of measuring: counting compared with DuckDB and pandas, all of `syntax` after tagging, and its growth.

    python analyses/benchmarks/measure.py

A synthetic trace (16 layers, E = 64, k = 8, 17 labels, documents of 500 tokens) is written as `specialize trace` writes
one and exported to Parquet. Every method reads the same data from disk in a separate process, with code compiled and
files in the page cache; methods that are compared alternate, and ratios are those of the medians.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from peak import peak_megabytes

from specialize.annotation import Annotation
from specialize.annotators.store import load_annotation, save_annotation
from specialize.manifest import versions, write_json
from specialize.trace import open_trace
from specialize.trace.export import export_parquet
from specialize.trace.schema import UNKNOWN, RouterSpec
from specialize.trace.writer import Shard, TraceWriter

LAYERS, EXPERTS, TOP_K, LABELS, LENGTH = 16, 64, 8, 17, 500
SHARD = 500 * LENGTH
PERMUTATIONS = 200
FIGURE_LAYERS = 4
TIMES = ("seconds", "cpu_seconds")  # the second is that of the processor, which other work changes less


def draw_shard(
    rng: np.random.Generator, tokens: int, layers: int
) -> tuple[NDArray[Any], list[dict[str, NDArray[Any]]]]:
    """Draw labels that repeat, and eight distinct experts per layer that depend on the label in half of the tokens."""
    drawn = rng.integers(0, LABELS, tokens)
    renewed = np.where(rng.random(tokens) < 0.6, np.arange(tokens), 0)
    labels = drawn[np.maximum.accumulate(renewed)]
    routing = []
    for _ in range(layers):
        # eight steps of 1 to 8 around a circle of 64 give distinct experts; an odd factor permutes them
        gaps = rng.integers(1, EXPERTS // TOP_K + 1, (tokens, TOP_K)).cumsum(axis=1)
        follows = rng.random(tokens) < 0.5
        step = np.where(follows, 2 * labels + 1, 2 * rng.integers(0, EXPERTS // 2, tokens) + 1)
        first = np.where(follows, 3 * labels, rng.integers(0, EXPERTS, tokens))
        routing.append({"experts": (first[:, None] + step[:, None] * gaps) % EXPERTS})
    return labels.astype(np.int32), routing


def draw_words(tokens: int, shard: int, num_ids: int) -> Iterator[tuple[NDArray[np.int64], NDArray[Any], list[str]]]:
    """Yield, a shard at a time, token ids by Zipf-Mandelbrot, where each lies in its text, [2, tokens], and the texts.

    They are the same for any trace.
    """
    rng = np.random.default_rng(7)
    shares = np.cumsum(1 / (np.arange(num_ids) + 2.7))  # 3 % have the first id
    words = np.array([f"w{number}" for number in range(num_ids)])
    sizes = np.char.str_len(words)
    for start in range(0, tokens, shard):
        ids = np.searchsorted(shares / shares[-1], rng.random(min(shard, tokens - start)))
        firsts = range(0, len(ids), LENGTH)
        ends = np.concatenate([np.cumsum(sizes[ids[first : first + LENGTH]] + 1) for first in firsts]) - 1
        yield ids, np.stack([ends - sizes[ids], ends]), [" ".join(words[ids[each : each + LENGTH]]) for each in firsts]


def write_trace(
    run: Path, tokens: int, layers: int, *, shard: int = SHARD, seed: int = 0, num_ids: int | None = None
) -> None:
    """Write trace and annotation, with one shard in memory at a time; with text if there are to be token ids."""
    rng, routers = (
        np.random.default_rng(seed),
        [RouterSpec(each, f"layers.{each}.mlp", EXPERTS, TOP_K) for each in range(layers)],
    )
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])

    def documents() -> Iterator[pa.RecordBatch]:
        words = None if num_ids is None else draw_words(tokens, shard, num_ids)
        for start in range(0, tokens, shard):
            numbers = range(start // LENGTH, -(-min(start + shard, tokens) // LENGTH))
            ids = pa.array(map(str, numbers), pa.large_string())
            texts = (
                pa.nulls(len(ids), pa.large_string()) if words is None else pa.array(next(words)[2], pa.large_string())
            )
            yield pa.record_batch([ids, texts], schema=schema)

    words = None if num_ids is None else draw_words(tokens, shard, num_ids)
    codes = []
    with TraceWriter(run, settings={"tokens": tokens}, provenance={}) as writer:
        writer.write_documents(schema, documents())
        writer.describe(routers=[router.as_dict() for router in routers], contents=[])
        for start in range(0, tokens, shard):
            rows = np.arange(start, min(start + shard, tokens))
            labels, routing = draw_shard(rng, len(rows), layers)
            columns = {"document": rows // LENGTH, "sequence": rows // LENGTH, "position": rows % LENGTH}
            columns |= dict.fromkeys(("token_id", "char_start", "char_end"), np.full(len(rows), UNKNOWN))
            if words is not None:
                columns["token_id"], (columns["char_start"], columns["char_end"]), _ = next(words)
            writer.write_shard(Shard(columns | {"phase": np.zeros(len(rows), np.uint8)}, routing))
            codes.append(labels)
        writer.finish()
    names = tuple(f"L{number:02d}" for number in range(LABELS))
    save_annotation(open_trace(run), Annotation("upos", "token", names, np.concatenate(codes)))


def export(run: Path) -> None:
    """Write the trace and the labels as Parquet."""
    trace = open_trace(run)
    export_parquet(trace, run / "parquet")
    labels = load_annotation(trace, "upos").codes
    pq.write_table(pa.table({"token": np.arange(len(labels)), "label": labels}), run / "labels.parquet")


def count_ours(run: Path) -> NDArray[np.int64]:
    """Return counts of slots [layer, label, expert], counted by block of documents as `syntax` does."""
    from specialize.measure import count_contingency_tables

    trace = open_trace(run)
    tables = count_contingency_tables(trace, load_annotation(trace, "upos"))
    return np.rint(np.stack([table.sum(axis=0) for table in tables.values()]) * TOP_K).astype(np.int64)


def read_ours(run: Path) -> None:
    """Read and decompress only, as `count_contingency_tables` does."""
    from specialize.measure.runs.contingency import TOGETHER

    trace = open_trace(run)

    def read(shard: int) -> None:
        for first in range(0, LAYERS, TOGETHER):
            trace.shard_experts(shard, trace.layers[first : first + TOGETHER])

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(read, range(len(trace.manifest["shards"]))))


def count_duckdb(run: Path) -> NDArray[np.int64]:
    import duckdb

    threads = len(os.sched_getaffinity(0))
    query = f"""
        SELECT layer, label, expert, count(*) AS slots
        FROM '{run}/parquet/routing.parquet' JOIN '{run}/labels.parquet' USING (token) GROUP BY ALL
    """
    with duckdb.connect(config={"threads": threads}) as connection:
        found = connection.execute(query).fetchnumpy()
    tables = np.zeros((LAYERS, LABELS, EXPERTS), dtype=np.int64)
    tables[found["layer"], found["label"], found["expert"]] = found["slots"]
    return tables


def count_pandas(run: Path) -> NDArray[np.int64]:
    """Count the first layer only."""
    layer = pd.read_parquet(
        run / "parquet" / "routing.parquet", columns=["token", "expert"], filters=[("layer", "==", 0)]
    )
    labels = pd.read_parquet(run / "labels.parquet")["label"].to_numpy()
    table = pd.crosstab(labels[layer["token"].to_numpy()], layer["expert"].to_numpy())
    return table.to_numpy()[None]


def measure(run: Path) -> Any:
    """Measure all that `syntax` measures after tagging."""
    from specialize.measure import measure_details, measure_specialization

    trace = open_trace(run)
    labels = load_annotation(trace, "upos")
    return measure_specialization(trace, labels, permutations=PERMUTATIONS), measure_details(
        trace, labels, permutations=PERMUTATIONS
    )


TASKS: dict[str, Callable[[Path], Any]] = {
    "specialize": count_ours,
    "specialize, reading alone": read_ours,
    "DuckDB": count_duckdb,
    "pandas crosstab": count_pandas,
    "measure": measure,
}
COUNTING = [name for name in TASKS if name != "measure"]


def run_task(name: str, run: Path, warm: Path) -> None:
    """Run one task; print its seconds, those of its processor, its peak memory in megabytes and a digest."""
    TASKS[name](warm)
    started, used = time.perf_counter(), time.process_time()
    result = TASKS[name](run)
    seconds = time.perf_counter() - started
    cost: dict[str, Any] = {"seconds": seconds, "cpu_seconds": time.process_time() - used}
    cost["peak_mb"] = peak_megabytes()
    if isinstance(result, np.ndarray):
        cost["slots"], cost["check"] = int(result.sum()), int((result[0] * np.arange(1, EXPERTS + 1)).sum())
    print(json.dumps(cost))


def in_own_process(name: str, run: Path, warm: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--task", name, str(run), str(warm)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    cost: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print(f"{name}, {run.name}: {cost['seconds']:.2f} s, {cost['peak_mb']:.0f} MB", flush=True)
    return cost


def compare_counting(run: Path, warm: Path, tokens: int, rounds: int) -> pd.DataFrame:
    costs = [{name: in_own_process(name, run, warm) for name in COUNTING} for _ in range(rounds)]
    checks = {each[name]["check"] for each in costs for name in COUNTING if "check" in each[name]}
    if len(checks) > 1:
        raise SystemExit(f"expected equal counts, got {checks}")
    rows = []
    for name in COUNTING:
        times = LAYERS if name == "pandas crosstab" else 1
        typical = {each: statistics.median(cost[name][each] for cost in costs) * times for each in TIMES}
        peak = max(each[name]["peak_mb"] for each in costs)
        rows.append({"way": name, "tokens": tokens, "layers": LAYERS} | typical | {"peak_mb": peak})
    frame = pd.DataFrame(rows)
    frame["ratio"] = frame["seconds"] / frame["seconds"].iloc[0]
    frame["cpu_ratio"] = frame["cpu_seconds"] / frame["cpu_seconds"].iloc[0]
    frame["note"] = [f"one layer timed, times {LAYERS}" if name == "pandas crosstab" else "" for name in COUNTING]
    return frame


def main() -> None:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=here / "results")
    parser.add_argument("--figures", type=Path, default=here.parents[1] / "figures")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="Tokens of the comparison.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[250_000, 500_000, 1_000_000, 2_000_000, 4_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", nargs=3, metavar=("NAME", "RUN", "WARM"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        name, run, warm = given.task
        run_task(name, Path(run), Path(warm))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm, whole = folder / "warm", folder / "all-layers"
        for run, tokens in ((warm, 5000), (whole, given.tokens)):
            write_trace(run, tokens, LAYERS)
            export(run)
        counted = compare_counting(whole, warm, given.tokens, given.rounds)
        rows = [{"tokens": given.tokens, "layers": LAYERS} | in_own_process("measure", whole, warm)]
        for tokens in given.sizes:
            run = folder / f"{tokens}"
            write_trace(run, tokens, FIGURE_LAYERS)
            rows.append({"tokens": tokens, "layers": FIGURE_LAYERS} | in_own_process("measure", run, warm))
    measured = pd.DataFrame(rows)
    about = {
        "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "rounds": given.rounds,
        "experts": EXPERTS, "top_k": TOP_K, "labels": LABELS, "document_length": LENGTH, "permutations": PERMUTATIONS,
        "versions": versions(),
    }  # fmt: skip
    given.output.mkdir(parents=True, exist_ok=True)
    counted.round(4).to_csv(given.output / "measure-counting.csv", index=False)
    measured.round(4).to_csv(given.output / "measure-cost.csv", index=False)
    write_json(given.output / "measure.json", about)
    # Matplotlib is imported only here: this file also runs the tasks, whose memory is measured.
    sys.path.insert(0, str(here.parents[1]))
    from analyses.benchmarks.cost import plan_measuring
    from analyses.drawing import draw_planned

    draw_planned(plan_measuring(given.output), given.figures, command="make figures")
    print(counted.to_string(), measured.to_string(), sep="\n")


if __name__ == "__main__":
    main()
