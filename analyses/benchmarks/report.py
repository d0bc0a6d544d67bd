"""The cost of a report relative to that of its figures alone, and the page of a large model: its size, and how soon a
browser shows it and answers.

    python analyses/benchmarks/report.py

A synthetic trace with text (94 layers, E = 128, k = 8) is labelled, measured and reported as the commands do it. Each
round times every step once; a ratio is the median over rounds of the ratio within a round.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from browser import time_page
from specialize.annotation import Annotation
from specialize.manifest import versions, write_json
from specialize.measure.results.files import write_results, write_table
from specialize.measure.runs.routing import measure_routing
from specialize.measure.runs.specialization import measure_specialization
from specialize.measure.runs.vocabulary import measure_vocabulary_specialization
from specialize.reporting import write_report
from specialize.reporting.figures import draw_figures
from specialize.reporting.reading import read_runs
from specialize.trace import RouterSpec, RoutingTrace, Shard, TraceWriter, open_trace

LAYERS, EXPERTS, TOP_K = 94, 128, 8
DOCUMENTS, WORDS = 60, 200
LABELS = {"upos": ("token", 17), "bertopic": ("document", 12), "domain": ("document", 20)}
PERMUTATIONS = 9


def write_trace(run: Path, rng: np.random.Generator) -> RoutingTrace:
    """Write a trace whose words prefer certain experts, more strongly in later layers."""
    words = rng.integers(0, 500, DOCUMENTS * WORDS)
    texts = ["".join(f"{word:04d} " for word in part) for part in words.reshape(DOCUMENTS, WORDS)]
    schema = pa.schema([("id", pa.large_string()), ("text", pa.large_string())])
    columns = [pa.array(values, pa.large_string()) for values in ([f"d{n}" for n in range(DOCUMENTS)], texts)]
    documents, position = np.repeat(np.arange(DOCUMENTS), WORDS), np.tile(np.arange(WORDS), DOCUMENTS)
    places = {"document": documents, "sequence": documents, "position": position, "token_id": words}
    places |= {"char_start": 5 * position, "char_end": 5 * position + 4, "phase": np.zeros(len(words), np.uint8)}
    routers = [RouterSpec(layer, f"layers.{layer}.mlp", EXPERTS, TOP_K) for layer in range(LAYERS)]
    routed = []
    for layer in range(LAYERS):
        scores = (
            rng.random((len(words), EXPERTS), dtype=np.float32) + layer / LAYERS * rng.random((500, EXPERTS))[words]
        )
        experts = np.argsort(-scores, axis=1)[:, :TOP_K]
        routed.append({"experts": experts.astype(np.int16), "weights": np.full(experts.shape, 1 / TOP_K, np.float16)})
    with TraceWriter(run, settings={}, provenance={}) as writer:
        writer.write_documents(schema, [pa.record_batch(columns, schema=schema)])
        writer.describe(routers=[router.as_dict() for router in routers], contents=["weights"])
        writer.write_shard(Shard(places, routed))
        writer.finish()
    return open_trace(run)


def measure(trace: RoutingTrace, rng: np.random.Generator) -> int:
    """Measure everything that the report shows; return the number of result rows."""
    sizes = {"token": trace.num_tokens, "document": trace.num_documents}
    rows = 0
    for name, (level, number) in LABELS.items():
        labels = tuple(f"{name} {label}" for label in range(number))
        codes = rng.integers(0, number, sizes[level]).astype(np.int32)
        frame = measure_specialization(trace, Annotation(name, level, labels, codes), permutations=PERMUTATIONS)
        write_results(frame, trace.path / ("syntax" if level == "token" else "topics"), name)
        rows += len(frame)
    frame = measure_routing(trace, permutations=PERMUTATIONS)
    write_results(frame, trace.path / "routing", "routing")
    words, tokens = measure_vocabulary_specialization(trace, permutations=PERMUTATIONS)
    write_results(words, trace.path / "vocabulary", "vocabulary")
    write_table(tokens, trace.path / "vocabulary" / "top_tokens.csv", text_columns=("run", "router", "text"))
    return rows + len(frame) + len(words)


def seconds(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        rng = np.random.default_rng(0)
        rows = measure(write_trace(run, rng), rng)
        page = Path(name) / "report" / "report.html"
        ways: dict[str, Callable[[], object]] = {
            "figures alone": lambda: draw_figures([run], Path(name) / "figures"),
            "reading the results": lambda: read_runs([run]),
            "report": lambda: write_report([run], page.parent),
        }
        rounds = [{way: seconds(call) for way, call in ways.items()} for _ in range(given.rounds)]
        size, browser = page.stat().st_size, time_page(page)
    table = pd.DataFrame(
        {
            "way": way,
            "seconds": statistics.median(each[way] for each in rounds),
            "ratio": statistics.median(each[way] / each["figures alone"] for each in rounds),
        }
        for way in ways
    )
    given.output.mkdir(parents=True, exist_ok=True)
    table.round(3).to_csv(given.output / "report.csv", index=False)
    about = {
        "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "rounds": given.rounds, "layers": LAYERS,
        "experts": EXPERTS, "top_k": TOP_K, "result_rows": rows, "page_megabytes": round(size / 1e6, 2),
        "browser_milliseconds": browser and {name: round(value) for name, value in browser.items()},
        "versions": versions(),
    }  # fmt: skip
    write_json(given.output / "report.json", about)
    print(table.to_string(), about, sep="\n")


if __name__ == "__main__":
    main()
