"""Kill a trace, new or extended, at random points of its work and resume it; prints a JSON line for each trial.

The points are numbers of file operations, not of seconds, so that they do not depend on the speed of the machine: the
process kills itself in the middle of a file, before a file gets its name, or just after. Run as a script: a process of
its own, single-threaded so that it can fork, with everything loaded once.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

torch.set_num_threads(1)

from capture_models import build  # noqa: E402
from specialize import manifest  # noqa: E402
from specialize.capture import Checkpoint, TraceOptions, trace_documents  # noqa: E402
from specialize.corpus import open_corpus  # noqa: E402
from specialize.models.data import train_bpe  # noqa: E402
from specialize.trace.parts import Part  # noqa: E402

OPTIONS = {
    "texts": TraceOptions(context=32, batch_tokens=256, shard_tokens=400, control="random-router"),
    "answers": TraceOptions(context=64, batch_tokens=512, shard_tokens=800, generate=4),
}
MAKING_DURABLE = {os: ("fsync", "link", "replace")}
TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def digests(run: Path) -> dict[str, str]:
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(run)): sha256(path.read_bytes()).hexdigest() for path in files}


class Operations:
    """Counts operations, and kills this process at one of them.

    Args:
        last: number of the operation at which to kill; None or 0 to only count.
        of: names of the operations, by what they are functions of; by default those that make a file durable.

    Attributes:
        count: operations so far.
    """

    def __init__(self, last: int | None, of: Mapping[Any, Sequence[str]] = MAKING_DURABLE) -> None:
        self.count, self.last = 0, last
        for owner, names in of.items():
            for name in names:
                setattr(owner, name, self._counting(getattr(owner, name)))

    def _counting(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **how: Any) -> Any:
            self._count(arguments)
            result = operation(*arguments, **how)
            self._count(arguments)
            return result

        return counted

    def _count(self, arguments: tuple[Any, ...]) -> None:
        self.count += 1
        if self.count == self.last:
            if isinstance(arguments[0], int):  # in the middle of a file
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)


class Traces:
    """Traces of a small corpus by a small model, each in a child process.

    Args:
        folder: of the corpus and the runs.
        corpus_of: key of OPTIONS.
    """

    def __init__(self, folder: Path, corpus_of: str) -> None:
        manifest._git_revision = lambda: None  # a commit during a test would be another manifest
        self.corpus, self.options = folder / f"{corpus_of}.jsonl", OPTIONS[corpus_of]
        draw = random.Random(0)
        words = [f"w{draw.randrange(300)}" for _ in range(500)]
        texts = [" ".join(draw.choices(words, k=draw.randrange(5, 60))) for _ in range(200)]
        rows = [{"text": text} for text in texts]
        if corpus_of == "answers":
            rows = [{"messages": [{"role": "user", "content": text}]} for text in texts[:60]]
        self.corpus.write_text("\n".join(map(json.dumps, rows)))
        self.num_documents = len(rows)
        model = build("olmoe")
        model.resize_token_embeddings(400)
        facts = {"name": "tiny", "revision": None, "dtype": "float32", "config_digest": "0", "config": {}}
        tokenizer = train_bpe(texts, vocab_size=400, max_length=64)
        tokenizer.chat_template = TEMPLATE
        self.checkpoint = Checkpoint("tiny", model.eval(), tokenizer, facts)

    def start(
        self,
        run: Path,
        *,
        limit: int | None = None,
        part: Part | None = None,
        kill_at: int | None = None,
        count_in: Path | None = None,
    ) -> int:
        """Begin to trace in a child process; return its id."""
        child = os.fork()
        if child == 0:
            operations = Operations(kill_at)
            corpus = open_corpus(self.corpus, limit=limit)
            trace_documents(self.checkpoint, corpus, run, options=self.options, part=part)
            if count_in is not None:
                count_in.write_text(str(operations.count))
            os._exit(0)
        return child

    def trace(self, run: Path, **how: Any) -> bool:
        """Trace in a child process; return whether it was killed."""
        return os.WIFSIGNALED(os.waitpid(self.start(run, **how), 0)[1])


def main(folder: Path, trials: int, corpus_of: str) -> None:
    draw = random.Random(0)
    traces = Traces(folder, corpus_of)
    traces.trace(folder / "part", limit=traces.num_documents * 2 // 5)
    for kind in ("new", "extended"):
        whole = folder / kind
        if kind == "extended":
            shutil.copytree(folder / "part", whole)
        traces.trace(whole, count_in=folder / "count")
        operations = int((folder / "count").read_text())
        # spread over the whole of the work, at a random point of each part
        points = [draw.randrange(operations * i // trials, operations * (i + 1) // trials) + 1 for i in range(trials)]
        for trial, point in enumerate(points):
            run = folder / f"{kind}{trial}"
            if kind == "extended":
                shutil.copytree(folder / "part", run)
            killed = traces.trace(run, kill_at=point)
            shards = len(list(run.glob("trace/routing-*.arrow")))
            traces.trace(run)
            result = {"killed": killed, "shards": shards, "identical": digests(run) == digests(whole)}
            print(json.dumps(result), flush=True)
    print(json.dumps({"files": len(digests(folder / "new")), "operations": operations}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
