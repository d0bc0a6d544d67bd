"""What random routers cost beside learned ones, in a forward pass and in a trace.

    python analyses/benchmarks/capture_control.py -o analyses/benchmarks/results    # capture-control-DEVICE.csv

The model and the corpus are those of `capture.py`. On a CPU, times are those of the processor.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from transformers import OlmoeForCausalLM

from capture import (
    BATCH,
    DEVICE,
    LAYERS,
    NAME,
    VOCABULARY,
    WIDTH,
    build_model,
    compare,
    make_checkpoint,
    random_routers,
    recorded_pass,
    whole_trace,
    write_corpus,
)
from specialize.models.data import train_bpe
from specialize.quiet import without_transformers_bars

CONTROLS = {"no random router": None, "1 random router": 1, "5 random routers": 5}


def control_forward_ways(model: OlmoeForCausalLM, batch: int, length: int) -> dict[str, Callable[[], object]]:
    ids = torch.randint(0, VOCABULARY, (batch, length), device=DEVICE)
    return {name: recorded_pass(model, ids, **random_routers(number)) for name, number in CONTROLS.items()}


def control_trace_ways(model: OlmoeForCausalLM, folder: Path, documents: int) -> dict[str, Callable[[], object]]:
    texts = write_corpus(folder / "corpus.jsonl", documents)
    checkpoint = make_checkpoint(model, train_bpe(texts[:200], vocab_size=1000, max_length=1024))
    return {name: whole_trace(checkpoint, folder, **random_routers(number)) for name, number in CONTROLS.items()}


def measure_controls(model: OlmoeForCausalLM, batch: int, *, rounds: int, documents: int) -> pd.DataFrame:
    rows = []
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time  # other processes do not matter to the latter
    with tempfile.TemporaryDirectory() as name:
        for what, ways in (
            (f"forward pass, {batch} x 256 tokens", control_forward_ways(model, batch, 256)),
            (f"trace of {documents} documents", control_trace_ways(model, Path(name), documents)),
        ):
            for row in compare(ways, to="no random router", rounds=rounds, clock=clock):
                rows.append({"what": what} | row)
                print(f"{what}: {row['way']:<20} {row['ratio']:.3f}", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--documents", type=int, default=160)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    with without_transformers_bars():
        model = build_model(layers=LAYERS, width=WIDTH)
        frame = measure_controls(model, BATCH, rounds=given.rounds, documents=given.documents)
    frame.to_csv(given.output / f"capture-control-{NAME}.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
