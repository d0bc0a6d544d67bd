"""The peak memory of capturing routing, beside that of the same forward passes without hooks.

    python analyses/benchmarks/capture_memory.py -o analyses/benchmarks/results

Every corpus is traced, and run, in a process of its own. The model is small, so that what the trace holds would show.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peak import peak_megabytes
from transformers import AutoTokenizer, OlmoeForCausalLM

from capture import DEVICE, NAME, build_model, make_checkpoint, write_corpus
from specialize.capture import TraceOptions, trace_documents
from specialize.capture.batches import pad_windows
from specialize.corpus import open_corpus
from specialize.models.data import train_bpe
from specialize.tracing.windows import Window, cut_windows, group_windows, plan_batches


def peak_memory(documents: int, way: str) -> dict[str, object]:
    """Return the peak memory, in megabytes, of a process that only traces a corpus, or only runs the same windows."""
    with tempfile.TemporaryDirectory() as name:
        texts = write_corpus(Path(name) / "corpus.jsonl", documents)
        train_bpe(texts[:200], vocab_size=1000, max_length=1024).save_pretrained(Path(name) / "tokenizer")
        command = [sys.executable, __file__, "--memory-of", name, way]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"way": way, "documents": documents} | json.loads(answer.stdout.splitlines()[-1])


def run_plain(model: OlmoeForCausalLM, tokenizer: Any, corpus: Path, options: TraceOptions) -> int:
    """Run the windows of a corpus in the batches of a trace, without hooks; return their number of tokens."""
    tokens = 0
    for group in group_windows(read_corpus(tokenizer, corpus, options), first=4096, largest=2**15):
        for batch in plan_batches(group, tokens=options.batch_tokens):
            ids, mask = pad_windows([group[i] for i in batch])
            with torch.inference_mode():
                model.model(input_ids=ids.to(DEVICE), attention_mask=mask.to(DEVICE), use_cache=False)
        tokens += sum(window.num_recorded for window in group)
    return tokens


def read_corpus(tokenizer: Any, corpus: Path, options: TraceOptions) -> Iterator[Window]:
    documents = enumerate(open_corpus(corpus))
    while some := list(islice(documents, 512)):
        texts = [document.text for _, document in some]
        yield from cut_windows(texts, tokenizer, length=options.context, first_document=some[0][0])


def print_peak_memory(folder: Path, way: str) -> None:
    model = build_model(layers=4, width=64)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    options = TraceOptions(context=512, batch_tokens=4096, shard_tokens=2**15)
    corpus = folder / "corpus.jsonl"
    if way == "plain":
        tokens = run_plain(model, tokenizer, corpus, options)
    else:
        checkpoint = make_checkpoint(model, tokenizer)
        tokens = trace_documents(checkpoint, open_corpus(corpus), folder / "run", options=options).num_tokens
    peak = {"tokens": tokens, "host_mb": peak_megabytes()}
    if DEVICE == "cuda":
        peak["device_mb"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(peak))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--documents", type=int, nargs="*", default=[4000, 32000], help="of the corpora")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of:
        folder, way = given.memory_of
        print_peak_memory(Path(folder), way)
        return
    given.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for documents in given.documents:
        for way in ("specialize trace", "plain"):
            rows.append(peak_memory(documents, way))
            print(rows[-1], flush=True)
    pd.DataFrame(rows).to_csv(given.output / f"capture-memory-{NAME}.csv", index=False, float_format="%.1f")


if __name__ == "__main__":
    main()
