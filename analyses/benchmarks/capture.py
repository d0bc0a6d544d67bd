"""The cost of capturing routing, as ratios of times measured in alternation.

    python analyses/benchmarks/capture.py -o analyses/benchmarks/results
    python analyses/benchmarks/capture.py --compiled   # models compiled by torch: capture-compiled-DEVICE.csv

The model is a random one of OLMoE's architecture (E = 64, k = 8). Each round times every method once, in an order that
changes from round to round; a ratio is the median over rounds of the ratio within a round. nnsight is included if it is
installed. `capture_memory.py` measures the peak memory, `capture_control.py` random routers.
"""

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import OlmoeConfig, OlmoeForCausalLM

import specialize
from specialize.capture import Checkpoint, TraceOptions, trace_documents
from specialize.corpus import open_corpus
from specialize.manifest import versions
from specialize.models.data import train_bpe
from specialize.quiet import without_transformers_bars

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAME = "gpu" if DEVICE == "cuda" else "cpu"  # in names of tables
LAYERS, WIDTH, BATCH = (16, 1024, 32) if DEVICE == "cuda" else (4, 256, 8)
VOCABULARY = 4096
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "ou") for c in ("", "n", "rt", "sk", "ld")]


def build_model(
    *, layers: int, width: int, expert_width: int | None = None, vocabulary: int = VOCABULARY
) -> OlmoeForCausalLM:
    torch.manual_seed(0)
    config = OlmoeConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=expert_width or width // 2,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_experts=64,
        num_experts_per_tok=8,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = OlmoeForCausalLM(config).to(DEVICE).eval()
    return model.bfloat16() if DEVICE == "cuda" else model


def timed(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    started = clock()
    run()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def compare(
    ways: dict[str, Callable[[], object]], *, to: str, rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Iterator[dict[str, object]]:
    """Time every method once per round, in a rotated order; yield its ratio to the method named `to`."""
    for run in ways.values():
        run()  # warm-up
    names, times = list(ways), []
    for number in range(rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        times.append({name: timed(ways[name], clock) for name in order})
    for name in names:
        ratios = [taken[name] / taken[to] for taken in times]
        low, middle, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
        seconds = statistics.median(taken[name] for taken in times)
        yield {"way": name, "ratio": middle, "quartile_1": low, "quartile_3": high, "seconds": seconds}


def recorded_pass(model: OlmoeForCausalLM, ids: torch.Tensor, **how: Any) -> Callable[[], object]:
    """Return a forward pass with a recorder, which is attached here and records during the pass alone."""
    recorder = specialize.attach(model, **how)
    recorder.stop()

    @torch.inference_mode()
    def run() -> object:
        with recorder:
            model(input_ids=ids, use_cache=False)
        return recorder.take_columns()

    return run


def whole_trace(checkpoint: Checkpoint, folder: Path, **how: Any) -> Callable[[], object]:
    """Return a trace of the corpus in `folder`, from nothing."""
    options = TraceOptions(context=1024, batch_tokens=8192, **how)

    def trace() -> object:
        shutil.rmtree(folder / "run", ignore_errors=True)
        return trace_documents(checkpoint, open_corpus(folder / "corpus.jsonl"), folder / "run", options=options)

    return trace


def forward_ways(model: OlmoeForCausalLM, batch: int, length: int) -> dict[str, Callable[[], object]]:
    ids = torch.randint(0, VOCABULARY, (batch, length), device=DEVICE)
    gates = [layer.mlp.gate for layer in model.model.layers]

    @torch.inference_mode()
    def plain(**more: object) -> object:
        return model(input_ids=ids, use_cache=False, **more)

    def hooked_logits() -> object:
        kept: list[torch.Tensor] = []
        handles = [
            gate.register_forward_hook(lambda _, __, output: kept.append(output[0].clone().topk(8).indices))
            for gate in gates
        ]
        plain()
        for handle in handles:
            handle.remove()
        return kept

    def own_logits() -> object:
        return [logits.softmax(dim=-1).topk(8) for logits in plain(output_router_logits=True).router_logits]

    ways: dict[str, Callable[[], object]] = {
        "plain": plain,
        "plain again": plain,
        "specialize": recorded_pass(model, ids),
        "specialize, with random-router control": recorded_pass(model, ids, **random_routers(1)),
        "specialize, with router logits": recorded_pass(model, ids, extras=["logits"]),
        "output_router_logits": lambda: plain(output_router_logits=True),
        "output_router_logits, softmax and top-k": own_logits,
        "hooks on the routers, clone and top-k": hooked_logits,
    }
    try:
        import nnsight
    except ImportError:
        return ways
    watched = nnsight.NNsight(model)

    def with_nnsight() -> object:
        with torch.inference_mode(), watched.trace(input_ids=ids, use_cache=False):
            saved = nnsight.save([])
            for layer in watched.model.layers:
                saved.append(layer.mlp.gate.output)
        return saved

    return ways | {"nnsight, router outputs": with_nnsight}


def random_routers(number: int | None) -> dict[str, Any]:
    """Return the options for so many random routers."""
    return {} if number is None else {"control": "random-router", "control_draws": number}


def write_corpus(path: Path, documents: int, seed: int = 0) -> list[str]:
    """Write documents of mixed length (log-normal with median 90 words, at most 700)."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(4.5, 0.9, documents).astype(int), 4, 700)
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return texts


def make_checkpoint(model: OlmoeForCausalLM, tokenizer: Any) -> Checkpoint:
    facts = {"name": "random", "revision": None, "dtype": str(model.dtype), "config_digest": "0", "config": {}}
    return Checkpoint("random", model, tokenizer, facts)


SWEEP = ("plain", "specialize", "output_router_logits, softmax and top-k")


def compiled_ways(*, layers: int, width: int, batch: int, length: int) -> dict[str, Callable[[], object]]:
    """Two models compiled by torch, one of them with a recorder that was attached before."""
    torch._dynamo.config.skip_nnmodule_hook_guards = False  # or the second model is run as the first one, without hooks
    ids = torch.randint(0, VOCABULARY, (batch, length), device=DEVICE)
    plain, recorded = (build_model(layers=layers, width=width) for _ in range(2))
    recorder = specialize.attach(recorded)
    fast, fast_recorded = torch.compile(plain), torch.compile(recorded)

    @torch.inference_mode()
    def run() -> object:
        return fast(input_ids=ids, use_cache=False)

    @torch.inference_mode()
    def run_recorded() -> object:
        fast_recorded(input_ids=ids, use_cache=False)
        return recorder.take_columns()

    return {"plain, compiled": run, "specialize, compiled": run_recorded}


def trace_ways(model: OlmoeForCausalLM, folder: Path, documents: int) -> dict[str, Callable[[], object]]:
    texts = write_corpus(folder / "corpus.jsonl", documents)
    tokenizer = train_bpe(texts[:200], vocab_size=1000, max_length=1024)
    checkpoint = make_checkpoint(model, tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token

    def fixed_batches(size: int) -> Callable[[], None]:
        @torch.inference_mode()
        def run() -> None:
            for start in range(0, len(texts), size):
                inputs = tokenizer(texts[start : start + size], return_tensors="pt", padding=True)
                inputs = inputs.to(DEVICE)
                model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)

        return run

    return {
        "plain, batches of 16 as they come": fixed_batches(16),
        "plain, batches of 8 as they come": fixed_batches(8),
        "specialize trace": whole_trace(checkpoint, folder),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--documents", type=int, default=160)
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="further batch sizes of the forward pass")
    parser.add_argument("--compiled", action="store_true", help="measure models compiled by torch alone")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    if given.compiled:
        ways = compiled_ways(layers=LAYERS, width=WIDTH, batch=BATCH, length=256)
        frame = pd.DataFrame(compare(ways, to="plain, compiled", rounds=given.rounds))
        print(frame.to_string(index=False))
        frame.to_csv(given.output / f"capture-compiled-{NAME}.csv", index=False, float_format="%.4f")
        return
    model = build_model(layers=LAYERS, width=WIDTH)
    rows: list[dict[str, object]] = []

    def measure(what: str, ways: dict[str, Callable[[], object]], *, to: str, rounds: int) -> None:
        for row in compare(ways, to=to, rounds=rounds):
            rows.append({"what": what} | row)
            print(f"{what}: {row['way']:<42} {row['ratio']:.3f}", flush=True)
        pd.DataFrame(rows).to_csv(given.output / f"capture-{NAME}.csv", index=False, float_format="%.4f")

    with without_transformers_bars():
        ways = forward_ways(model, BATCH, 256)
        measure(f"forward pass, {BATCH} x 256 tokens", ways, to="plain", rounds=given.rounds)
        for size in given.batches:
            ways = {way: run for way, run in forward_ways(model, size, 256).items() if way in SWEEP}
            measure(f"forward pass, {size} x 256 tokens", ways, to="plain", rounds=given.rounds)
        with tempfile.TemporaryDirectory() as folder:
            ways = trace_ways(model, Path(folder), given.documents)
            what = f"{given.documents} documents of mixed length"
            measure(what, ways, to="specialize trace", rounds=max(3, given.rounds // 3))
    about = {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "model": {"layers": LAYERS, "width": WIDTH, "experts": 64, "top_k": 8, "dtype": str(model.dtype)},
        "rounds": given.rounds,
        "versions": versions(),
    }
    (given.output / f"capture-{NAME}.json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
