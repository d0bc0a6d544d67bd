"""The cost of dividing a trace among Ray workers, as a ratio to one process on the same cores.

    python analyses/benchmarks/engine.py
    python analyses/benchmarks/engine.py --documents 500 --rounds 3    # a short look

The model is a random one of OLMoE's architecture (E = 64, k = 8; 4 layers of width 256, about 30 million parameters),
on two cores: one process with two threads, and two workers of one thread each. Every way loads the model, tokenizes the
documents and writes the trace; the workers also read and tokenize the whole corpus each, and their parts are merged.
Ray, and in "two workers" the processes of the workers with their packages, were started before. A ratio is the median
over rounds of the ratio within a round. The traces of the workers have the digest of one process with one thread, or
the benchmark fails; a process with two threads rounds differently, and may choose another expert in a near-tie.
"""

import argparse
import json
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import specialize
from capture import WORDS, build_model, compare
from specialize.manifest import versions
from specialize.models.data import train_bpe
from specialize.quiet import without_transformers_bars
from specialize.scale.cluster import connected
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_workers

CORES = 2
ONE, TWO, ANEW = "one process, two threads", "two workers", "two workers, started anew"


def write_corpus(path: Path, documents: int, tokens: int, seed: int = 0) -> list[str]:
    """Write documents of about so many tokens each (log-normal lengths, at most ten times as many)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(tokens) - 0.18, 0.6, documents).astype(int), 4, 10 * tokens)
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    return texts


def make_files(folder: Path, documents: int, tokens: int) -> None:
    """Write a corpus and a checkpoint."""
    texts = write_corpus(folder / "corpus.jsonl", documents, tokens)
    with without_transformers_bars():
        build_model(layers=4, width=256).save_pretrained(folder / "model")
    train_bpe(texts[:500], vocab_size=1000, max_length=1024).save_pretrained(folder / "model")


def trace(folder: Path, name: str, digests: set[str], **how: Any) -> Callable[[], object]:
    """Return a trace of the corpus in `folder`, from nothing."""

    def run() -> None:
        shutil.rmtree(folder / name, ignore_errors=True)
        opened = specialize.trace_corpus(folder / "model", folder / "corpus.jsonl", folder / name, device="cpu", **how)
        digests.add(opened.digest)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=100, help="of a document, about")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(CORES)
    options = EngineOptions("ray", workers=CORES)
    digests: set[str] = set()  # of the workers, and of one process with one thread
    with tempfile.TemporaryDirectory() as name, connected():
        folder = Path(name)
        make_files(folder, given.documents, given.tokens)
        remote = trace(folder, "remote", digests, engine="ray", workers=CORES)

        with open_workers(options) as engine:
            ways = {ONE: trace(folder, "local", set()), TWO: remote}
            rows = list(compare(ways, to=ONE, rounds=given.rounds))
            division = engine.division
        ways = {ONE: ways[ONE], ANEW: remote}
        rows += list(compare(ways, to=ONE, rounds=max(1, given.rounds // 2)))[1:]
        manifest = specialize.open_trace(folder / "remote").manifest
        torch.set_num_threads(1)
        trace(folder, "one-thread", digests)()
    print(pd.DataFrame(rows).to_string(index=False))
    if len(digests) > 1:
        raise SystemExit(f"expected one trace, got {len(digests)} that differ")
    pd.DataFrame(rows).to_csv(given.output / "engine.csv", index=False, float_format="%.4f")
    about = {
        "machine": platform.machine(),
        "workers": str(division),
        "documents": given.documents,
        "tokens": sum(shard["tokens"] for shard in manifest["shards"]),
        "shards": [shard["tokens"] for shard in manifest["shards"]],
        "parameters": manifest["model"]["parameters"],
        "rounds": given.rounds,
        "versions": versions(),
    }
    (given.output / "engine.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
