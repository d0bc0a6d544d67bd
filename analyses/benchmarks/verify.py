"""The cost of verified reading: a trace whose files are compared with their checksums, and one whose files were before.

    python analyses/benchmarks/verify.py

A synthetic trace (4 million tokens, 16 layers, E = 64, k = 8, gate weights, documents of 500 tokens) is written as
`specialize trace` writes one. Each way of reading is timed as the first in a process, when every file is hashed, and
as a later one, when none is; both alternate, with the files in the page cache, and the ratio is that of the medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from measure import EXPERTS, LAYERS, LENGTH, TOP_K, draw_shard
from specialize.annotation import Annotation
from specialize.manifest import versions, write_json
from specialize.measure import count_contingency_tables
from specialize.trace import RoutingTrace, open_trace, verified
from specialize.trace.schema import RouterSpec
from specialize.trace.writer import Shard, TraceWriter

SHARD = 2**17 // LENGTH * LENGTH  # tokens, as `specialize trace` cuts them
WORD = "token "


def write_trace(run: Path, tokens: int) -> None:
    """Write a trace with text, places in it and gate weights, with one shard in memory at a time."""
    rng = np.random.default_rng(0)
    documents = -(-tokens // LENGTH)
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
    columns = [[str(number) for number in range(documents)], [WORD * LENGTH] * documents]
    routers = [RouterSpec(layer, f"layers.{layer}.mlp", EXPERTS, TOP_K).as_dict() for layer in range(LAYERS)]
    with TraceWriter(run, settings={"tokens": tokens}, provenance={}) as writer:
        writer.write_documents(schema, [pa.record_batch(columns, schema=schema)])
        writer.describe(routers=routers, contents=["weights"])
        for start in range(0, tokens, SHARD):
            rows = np.arange(start, min(start + SHARD, tokens))
            _, routing = draw_shard(rng, len(rows), LAYERS)
            for columns_of_router in routing:
                weights = -np.sort(-rng.dirichlet(np.full(TOP_K, 2.0), len(rows)), axis=1)
                columns_of_router["weights"] = weights.astype(np.float16)
            within = rows % LENGTH
            table = {"document": rows // LENGTH, "sequence": rows // LENGTH, "position": within}
            table |= {"token_id": rng.zipf(1.3, len(rows)) % 50_000, "phase": np.zeros(len(rows), np.uint8)}
            table |= {"char_start": within * len(WORD), "char_end": (within + 1) * len(WORD)}
            writer.write_shard(Shard(table, routing))
        writer.finish()


def read_everything(trace: RoutingTrace) -> None:
    trace.tokens()
    trace.documents()
    for router in trace.layers:
        trace.experts(router.layer)
        trace.weights(router.layer)


def read_experts(trace: RoutingTrace) -> None:
    for router in trace.layers:
        trace.experts(router.layer)


def count_labels(trace: RoutingTrace) -> None:
    codes = np.arange(trace.num_tokens, dtype=np.int32) % 17
    count_contingency_tables(trace, Annotation("label", "token", tuple(map(str, range(17))), codes))


def read_one_layer(trace: RoutingTrace) -> None:
    trace.experts(trace.layers[0].layer)


WAYS: dict[str, Callable[[RoutingTrace], None]] = {
    "tokens, documents, experts and weights of all layers": read_everything,
    "experts of all layers": read_experts,
    "contingency tables of all layers": count_labels,
    "experts of one layer": read_one_layer,
}


def seconds_of(run: Path, read: Callable[[RoutingTrace], None], *, first: bool) -> float:
    """Return how long opening and reading takes, as the first reading of the process or as a later one."""
    if first:
        verified.forget()
    started = time.perf_counter()
    read(open_trace(run))
    return time.perf_counter() - started


def compare(run: Path, rounds: int) -> pd.DataFrame:
    rows = []
    for way, read in WAYS.items():
        read(open_trace(run))  # compiles, and fills the page cache
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds):
            for first in (True, False) if number % 2 else (False, True):
                times[first].append(seconds_of(run, read, first=first))
        verified_seconds, seconds = (statistics.median(times[first]) for first in (True, False))
        rows.append({"way": way, "seconds": seconds, "verified_seconds": verified_seconds})
        print(f"{way}: {seconds:.2f} s, verified {verified_seconds:.2f} s", flush=True)
    frame = pd.DataFrame(rows)
    frame["ratio"] = frame["verified_seconds"] / frame["seconds"]
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--run", type=Path, help="folder of the trace, made if missing; default: a temporary one")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = given.run or Path(folder) / "run"
        if not run.exists():
            write_trace(run, given.tokens)
        size = sum(path.stat().st_size for path in (run / "trace").iterdir())
        frame = compare(run, given.rounds)
    given.results.mkdir(parents=True, exist_ok=True)
    frame.round(3).to_csv(given.results / "verify.csv", index=False)
    facts = {"tokens": given.tokens, "layers": LAYERS, "bytes": size, "rounds": given.rounds, "versions": versions()}
    write_json(given.results / "verify.json", facts)
    print(frame.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
