"""Kill a trace into an object store, and its measurement, and repeat them elsewhere; prints a JSON line for each trial.

The process kills itself before or after an object is stored or read, or in the middle of a file. Whoever repeats the
work has an empty cache, as on another machine. Run as a script: a process of its own, single-threaded so that it can
fork; only its children connect to the store.
"""

import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

torch.set_num_threads(1)
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"  # which a process that forks may use

import specialize  # noqa: E402
from capture.kill_and_resume import Operations  # noqa: E402
from capture_models import build  # noqa: E402
from specialize import manifest  # noqa: E402
from specialize.capture import Checkpoint, TraceOptions, trace_documents  # noqa: E402
from specialize.corpus import open_corpus  # noqa: E402
from specialize.models.data import train_bpe  # noqa: E402
from specialize.remote.address import parse_address  # noqa: E402
from specialize.remote.store import Store, open_store  # noqa: E402

OPTIONS = TraceOptions(context=32, batch_tokens=256, shard_tokens=400, control="random-router", control_draws=1)
OPERATIONS = {Store: ("put", "get", "remove"), os: ("fsync",)}


class Work:
    """A trace and its measurement, each in a child process with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        manifest._git_revision = lambda: None  # a commit during a test would be another manifest
        self.folder, self.corpus = folder, folder / "texts.jsonl"
        draw = random.Random(0)
        texts = [" ".join(f"w{draw.randrange(300)}" for _ in range(draw.randrange(5, 60))) for _ in range(40)]
        self.corpus.write_text(
            "\n".join(json.dumps({"text": each, "kind": str(n % 2)}) for n, each in enumerate(texts))
        )
        model = build("olmoe")
        model.resize_token_embeddings(400)
        facts = {"name": "tiny", "revision": None, "dtype": "float32", "config_digest": "0", "config": {}}
        self.checkpoint = Checkpoint("tiny", model.eval(), train_bpe(texts, vocab_size=400, max_length=64), facts)

    def trace(self, run: str) -> None:
        trace_documents(self.checkpoint, open_corpus(self.corpus), run, options=OPTIONS)

    def measure(self, run: str) -> None:
        specialize.topics(run, fit=False, permutations=2)
        specialize.routing(run, permutations=2)

    def do(self, *works: Callable[[], object], kill_at: int = 0) -> tuple[bool, int]:
        """Work in a child; return whether it was killed, and how many operations it counted."""
        count, cache = self.folder / "count", self.folder / "cache"
        child = os.fork()
        if child == 0:
            os.environ["SPECIALIZE_CACHE"] = str(cache)
            operations = Operations(kill_at, OPERATIONS)
            for work in works:
                work()
            count.write_text(str(operations.count))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        shutil.rmtree(cache)
        if not os.WIFSIGNALED(status) and status:
            raise RuntimeError(f"exit status {status}")
        return os.WIFSIGNALED(status), int(count.read_text()) if count.exists() else 0

    def digests(self, run: str) -> dict[str, str]:
        found = self.folder / "digests"

        def read() -> None:
            address = parse_address(run)
            store = open_store(address.protocol)
            digests = {}
            for name, stored in store.list(address).items():
                store.get(address.below(name), self.folder / "object", stored)
                digests[name] = hashlib.sha256((self.folder / "object").read_bytes()).hexdigest()
            (self.folder / "cache").mkdir()
            found.write_text(json.dumps(digests))

        self.do(read)
        result: dict[str, str] = json.loads(found.read_text())
        return result


def main(folder: Path, address: str, trials: int) -> None:
    work, draw = Work(folder), random.Random(0)
    whole = f"{address}/whole/x"
    work.trace(str(folder / "local"))  # what this compiles, the children need not
    work.measure(str(folder / "local"))
    steps = {"trace": work.trace, "measure": work.measure}
    counts = {name: work.do(partial(step, whole))[1] for name, step in steps.items()}
    expected = work.digests(whole)
    for name, step in steps.items():
        for trial in range(trials):
            run, count = f"{address}/{name}{trial}/x", counts[name]
            # spread over the whole of the work, at a random point of each part
            point = draw.randrange(count * trial // trials, count * (trial + 1) // trials) + 1
            if name == "measure":
                work.do(partial(work.trace, run))
            killed, _ = work.do(partial(step, run), kill_at=point)
            left = work.digests(run)
            work.do(partial(work.trace, run), partial(work.measure, run))
            result = {"work": name, "killed": killed, "left": len(left), "identical": work.digests(run) == expected}
            print(json.dumps(result), flush=True)
    print(json.dumps({"files": len(expected), "operations": counts}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
