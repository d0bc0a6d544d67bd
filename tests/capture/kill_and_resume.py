"""Kill a trace at random moments and go on with it; prints a JSON line for each trial.

Run as a script: a process of its own, single-threaded so that it can fork, with everything loaded once.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from hashlib import sha256
from pathlib import Path

import torch

torch.set_num_threads(1)

from capture_models import build  # noqa: E402
from specialize.capture import Checkpoint, TraceOptions, trace_corpus  # noqa: E402
from specialize.corpus import open_corpus  # noqa: E402
from specialize.models.data import train_bpe  # noqa: E402

OPTIONS = TraceOptions(context_length=32, batch_tokens=256, shard_tokens=400, control="random-router")


def digests(run: Path) -> dict[str, str]:
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(run)): sha256(path.read_bytes()).hexdigest() for path in files}


def kill(child: int, *, after: float) -> bool:
    """Kill a process after some seconds; tell whether it still ran."""
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(folder: Path, trials: int) -> None:
    draw = random.Random(0)
    words = [f"w{draw.randrange(300)}" for _ in range(500)]
    corpus = folder / "corpus.jsonl"
    texts = [" ".join(draw.choices(words, k=draw.randrange(5, 60))) for _ in range(200)]
    corpus.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    model = build("olmoe")
    model.resize_token_embeddings(400)
    facts = {"name": "tiny", "revision": None, "dtype": "float32", "config_digest": "0", "config": {}}
    checkpoint = Checkpoint("tiny", model.eval(), train_bpe(texts, vocab_size=400, max_length=64), facts)

    def trace(run: Path) -> int:
        """Trace in a child process; return its id."""
        child = os.fork()
        if child == 0:
            trace_corpus(checkpoint, open_corpus(corpus), run, options=OPTIONS)
            os._exit(0)
        return child

    started = time.monotonic()
    os.waitpid(trace(folder / "whole"), 0)
    duration = time.monotonic() - started
    whole = digests(folder / "whole")
    for trial in range(trials):
        run = folder / f"run{trial}"
        while not kill(trace(run), after=draw.uniform(0, duration)):
            shutil.rmtree(run)  # it had ended before: the machine is faster now than it was
            duration *= 0.9
        shards = len(list(run.glob("trace/routing-*.arrow")))
        os.waitpid(trace(run), 0)
        print(json.dumps({"shards": shards, "identical": digests(run) == whole}), flush=True)
    print(json.dumps({"files": len(whole), "seconds": duration}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
