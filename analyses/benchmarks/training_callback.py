"""What watching a training costs, relative to the same training without.

    python analyses/benchmarks/training_callback.py -o analyses/benchmarks/results    # training-callback-DEVICE.csv

Rows "interval": training a model for one default interval with its snapshot, and without. Each round times both once,
in an order that changes; the ratio is the median over rounds of the ratio within a round. Rows "snapshot": one
snapshot in units of one optimizer step, timed in alternation; divided by the interval it is the slowdown. The sample
has the default size, labels of tokens (17) and of documents (10), and random token ids. On a CPU, times are those of
the processor, so that other processes do not matter.
"""

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from capture import DEVICE, NAME, build_model, timed
from specialize.annotation import Annotation
from specialize.corpus import Document
from specialize.manifest import versions
from specialize.models import GPTMoEConfig, GPTMoEForCausalLM
from specialize.monitoring.monitor import Monitor, MonitorOptions
from specialize.monitoring.sample import Sample
from specialize.pipeline.monitor import EVERY, SAMPLE_TOKENS
from specialize.tracing.windows import Window

TOKENS = 64  # of a document
BATCH, CONTEXT, VOCABULARY = (64, 256, 4096) if DEVICE == "cuda" else (16, 128, 2048)
LABELS = {"token": 17, "document": 10}


def make_sample(tokens: int) -> Sample:
    """Return documents of random token ids with labels of tokens and of documents."""
    draw = np.random.default_rng(0)
    number = tokens // TOKENS
    spans = np.stack([np.arange(TOKENS), np.arange(TOKENS) + 1], axis=1).astype(np.int32)
    windows = [Window(row, draw.integers(0, VOCABULARY, TOKENS, dtype=np.int32), 0, spans) for row in range(number)]
    documents = [Document(str(row), f"{row:064d}") for row in range(number)]
    codes = {"token": draw.integers(0, LABELS["token"], number * TOKENS), "document": np.arange(number) % 10}
    annotations = [
        Annotation(level, level, tuple(map(str, range(count))), codes[level].astype(np.int32))  # type: ignore[arg-type]
        for level, count in LABELS.items()
    ]
    return Sample("random", tuple(documents), tuple(windows), tuple(annotations))


def own_model() -> GPTMoEForCausalLM:
    """Return a model of this package with 16 experts, as `train.py` trains it."""
    width, inner, layers, heads = (384, 1536, 8, 6) if DEVICE == "cuda" else (128, 256, 4, 4)
    torch.manual_seed(0)
    config = GPTMoEConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=CONTEXT,
        num_experts=16,
        num_experts_per_tok=2,
    )
    return GPTMoEForCausalLM(config).to(DEVICE).train()


def make_step(model: Any, batch: int, context: int) -> Callable[[], None]:
    """Return one optimizer step: forward, backward and AdamW, in bfloat16 with float32 weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(0, VOCABULARY, (batch, context), device=DEVICE)

    def step() -> None:
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def time_intervals(folder: Path, *, rounds: int, every: int, clock: Callable[[], float]) -> dict[str, object]:
    """Train for one interval with and without a monitor, in alternation."""
    model, sample = own_model(), make_sample(SAMPLE_TOKENS)
    step = make_step(model, BATCH, CONTEXT)
    options = MonitorOptions(every=every, autocast="bfloat16")
    monitor = Monitor(model, sample, folder / "interval", options)
    monitor.start()
    step()  # warm-up

    def plain() -> None:
        for _ in range(every):
            step()

    def watched() -> None:
        for _ in range(every):
            step()
            monitor.step()

    pairs = []
    for number in range(rounds):
        ways = (plain, watched) if number % 2 == 0 else (watched, plain)
        times = {way: timed(way, clock) for way in ways}
        pairs.append((times[plain], times[watched]))
    monitor.close()
    return summarize("with the callback", pairs)


def time_snapshots(
    model: Any, folder: Path, *, batch: int, rounds: int, tokens: int, permutations: int, clock: Callable[[], float]
) -> dict[str, object]:
    """Time a snapshot in units of an optimizer step."""
    step = make_step(model, batch, CONTEXT)
    options = MonitorOptions(every=1, permutations=permutations, autocast="bfloat16")
    monitor = Monitor(model, make_sample(tokens), folder / "snapshots", options)
    monitor.start()
    step()
    monitor.step()
    times = [(timed(step, clock), timed(monitor.step, clock)) for _ in range(rounds)]
    monitor.close()
    shutil.rmtree(folder / "snapshots")
    return summarize(f"{tokens:,} tokens, {permutations} permutations", times)


def summarize(way: str, times: Sequence[tuple[float, float]]) -> dict[str, object]:
    """Return the median over rounds of the ratio of the second time to the first, with quartiles."""
    low, middle, high = statistics.quantiles([second / first for first, second in times], n=4, method="inclusive")
    seconds = statistics.median(second for _, second in times)
    return {"way": way, "ratio": middle, "quartile_1": low, "quartile_3": high, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--intervals", type=int, default=3, help="rounds of whole intervals")
    parser.add_argument("--every", type=int, default=EVERY)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    rows: list[dict[str, object]] = []

    def add(what: str, row: dict[str, object]) -> None:
        rows.append({"what": what} | row)
        print(f"{what}: {row['way']:<34} {row['ratio']:.4f}", flush=True)
        pd.DataFrame(rows).to_csv(given.output / f"training-callback-{NAME}.csv", index=False, float_format="%.4f")

    about = {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "clock": "wall" if DEVICE == "cuda" else "processor",
        "sample": {"tokens": SAMPLE_TOKENS, "tokens_of_a_document": TOKENS, "labels": LABELS},
        "every": given.every,
        "batch_tokens": BATCH * CONTEXT,
        "rounds": given.rounds,
        "intervals": given.intervals,
        "versions": versions(),
    }
    (given.output / f"training-callback-{NAME}.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = {"4 layers, top-2 of 16": own_model(), "OLMoE, 4 layers, top-8 of 64": None}
        cases = [(1, SAMPLE_TOKENS, 20), (1, SAMPLE_TOKENS, 0), (1, SAMPLE_TOKENS // 4, 20), (4, SAMPLE_TOKENS, 20)]
        for title, model in models.items():
            own = model if model is not None else build_model(layers=4, width=256).float().train()
            for times, tokens, permutations in cases if model is not None else cases[:-1]:
                how = {"rounds": given.rounds, "tokens": tokens, "permutations": permutations, "clock": clock}
                row = time_snapshots(own, folder, batch=times * BATCH, **how)
                add(f"snapshot in steps of {times * BATCH * CONTEXT:,} tokens: {title}", row)
        row = time_intervals(folder, rounds=given.intervals, every=given.every, clock=clock)
        add(f"interval of {given.every} steps of {BATCH * CONTEXT:,} tokens: 4 layers, top-2 of 16", row)


if __name__ == "__main__":
    main()
