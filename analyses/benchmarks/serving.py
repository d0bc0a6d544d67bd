"""The cost of a trace through an inference server, as a ratio to requests alone, and its memory.

    python analyses/benchmarks/serving.py
    python analyses/benchmarks/serving.py --documents 300 --rounds 3 --memory-documents 300    # a short look

A server in a separate process answers as vLLM does, with experts that it computed before (16 layers, E = 64, k = 8, in
base64), at once or after a delay. `specialize trace --server` is compared with a loop of httpx that sends the same
windows, 32 at a time, and parses the JSON of the answers; the loop does not tokenize, and checks and writes nothing. A
ratio is the median over rounds of the ratio within a round. Peak memory is that of a process that only traces.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from peak import peak_megabytes

LAYERS, EXPERTS, TOP_K = 16, 64, 8
CONTEXT = 1024
CONCURRENCY = 32
DELAYS = (0, 50)  # milliseconds
LOOP, TRACE = "httpx, 32 requests at a time", "specialize trace --server"
CONFIG = {
    "model_type": "olmoe",
    "num_experts": EXPERTS,
    "num_experts_per_tok": TOP_K,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": 4096,
}


def encode_experts(tokens: int) -> bytes:
    """Return base64 of a .npy file with different experts in the slots of each token."""
    rng = np.random.default_rng(tokens)
    experts = np.argsort(rng.random((tokens, LAYERS, EXPERTS)), axis=2)[:, :, :TOP_K].astype(np.int16)
    file = io.BytesIO()
    np.save(file, experts)
    return base64.b64encode(file.getvalue())


async def serve(delay: float) -> None:
    """Answer requests for completions until the process is killed; print the port first."""
    known: dict[int, bytes] = {}

    def answer(request: bytes) -> bytes:
        ids = request[request.index(b"[") : request.index(b"]") + 1]
        tokens = ids.count(b",") + 1
        if tokens not in known:
            known[tokens] = encode_experts(tokens)
        choice = b'{"index":0,"token_ids":[3],"prompt_token_ids":%b,"routed_experts":"%b"}' % (ids, known[tokens])
        return b'{"id":"cmpl-1","choices":[%b]}' % choice

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                body = b'{"data":[{"id":"model"}]}'
                if length:
                    body = answer(await reader.readexactly(int(length)))
                    await asyncio.sleep(delay)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**24, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving(delay: int) -> Iterator[str]:
    """Run the server in a process of its own; yield its address."""
    command = [sys.executable, __file__, "--serve", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def prepare(folder: Path, documents: int) -> None:
    """Write a corpus, and a model of a tokenizer and a configuration alone."""
    from capture import write_corpus
    from specialize.models.data import train_bpe

    texts = write_corpus(folder / "corpus.jsonl", documents)
    train_bpe(texts[:200], vocab_size=1000, max_length=CONTEXT).save_pretrained(folder / "model")
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG))


def trace(folder: Path, address: str) -> int:
    """Trace the corpus of a folder anew, and return its number of tokens."""
    import specialize

    shutil.rmtree(folder / "run", ignore_errors=True)
    corpus, run = folder / "corpus.jsonl", folder / "run"
    return specialize.trace_corpus(folder / "model", corpus, run, server=address, context=CONTEXT).num_tokens


def make_ways(folder: Path, address: str) -> dict[str, Callable[[], object]]:
    import httpx

    from specialize.tracing.checkpoints import load_tokenizer
    from specialize.tracing.windows import cut_windows

    texts = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").read_text().splitlines()]
    windows = [
        window.token_ids.tolist() for window in cut_windows(texts, load_tokenizer(folder / "model"), length=CONTEXT)
    ]

    async def send_all(clients: int) -> None:
        waiting, context = iter(windows), httpx.create_ssl_context()
        limits = httpx.Limits(max_connections=CONCURRENCY // clients)
        opened = [httpx.AsyncClient(timeout=300, limits=limits, verify=context) for _ in range(clients)]

        async def work(client: httpx.AsyncClient) -> None:
            for ids in waiting:
                body = {"model": "model", "prompt": ids, "max_tokens": 1, "return_token_ids": True}
                (await client.post(f"{address}/v1/completions", json=body)).raise_for_status().json()

        await asyncio.gather(*(work(opened[number % clients]) for number in range(CONCURRENCY)))
        for client in opened:
            await client.aclose()

    return {
        LOOP: lambda: asyncio.run(send_all(1)),
        f"{LOOP}, again": lambda: asyncio.run(send_all(1)),
        f"{LOOP}, a client for each": lambda: asyncio.run(send_all(CONCURRENCY)),
        TRACE: lambda: trace(folder, address),
    }


def measure_times(sizes: Sequence[int], rounds: int) -> pd.DataFrame:
    from capture import compare

    rows = []
    for documents, delay in product(sizes, DELAYS):
        with tempfile.TemporaryDirectory() as name, serving(delay) as address:
            prepare(Path(name), documents)
            for row in compare(make_ways(Path(name), address), to=LOOP, rounds=rounds):
                rows.append({"documents": documents, "delay_ms": delay} | row)
                print(f"{documents:>6,} documents, {delay:>2} ms  {row['way']:<48} {row['ratio']:.3f}", flush=True)
    return pd.DataFrame(rows)


def measure_memory(documents: int) -> dict[str, object]:
    """Return the peak memory, in megabytes, of a process that only traces a corpus."""
    with tempfile.TemporaryDirectory() as name, serving(0) as address:
        prepare(Path(name), documents)
        command = [sys.executable, __file__, "--memory-of", name, address]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"documents": documents} | json.loads(answer.stdout.splitlines()[-1])


def print_memory(folder: Path, address: str) -> None:
    tokens = trace(folder, address)
    print(json.dumps({"tokens": tokens, "host_mb": peak_megabytes()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--documents", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--memory-documents", type=int, default=4000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        asyncio.run(serve(given.serve / 1000))
        return
    if given.memory_of:
        print_memory(Path(given.memory_of[0]), given.memory_of[1])
        return
    from specialize.manifest import versions, write_json

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    given.output.mkdir(parents=True, exist_ok=True)  # first: what is measured takes minutes
    times = measure_times(given.documents, given.rounds)
    memory = [measure_memory(count) for count in (given.memory_documents, 8 * given.memory_documents)]
    for peak in memory:
        print(peak, flush=True)
    times.to_csv(given.output / "serving.csv", index=False, float_format="%.4f")
    pd.DataFrame(memory).to_csv(given.output / "serving-memory.csv", index=False, float_format="%.1f")
    write_json(given.output / "serving.json", {"rounds": given.rounds, "versions": versions()})


if __name__ == "__main__":
    main()
