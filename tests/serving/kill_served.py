"""Kill a trace through a server at points of its work and resume it; prints a JSON line for each trial.

A script of its own, as capture/kill_and_resume.py: single-threaded so that it can fork, with everything loaded once.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import specialize
import specialize.serving.run
import specialize.tracing.run
from capture.kill_and_resume import Operations, digests
from specialize import manifest
from specialize.serving.tracer import ServerTracer


def kill_after(answers: int) -> None:
    """Kill this process when so many answers have come."""
    original, come = ServerTracer._experts_of, []

    async def counted(self, window):
        come.append(window)
        if len(come) == answers:
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, window)

    ServerTracer._experts_of = counted


def main(folder: Path, checkpoint: str, address: str, api: str) -> None:
    manifest._git_revision = lambda: None  # a commit during the test would be another manifest
    specialize.tracing.run.min = lambda *_: 200  # small shards

    def start(
        run: Path,
        *,
        answers: int = 0,
        operation: int | None = None,
        shard: str | None = None,
        count_in: Path | None = None,
    ) -> int:
        """Begin to trace in a child process; return its id."""
        child = os.fork()
        if child == 0:
            operations = Operations(operation)
            kill_after(answers)
            corpus = folder / "corpus.jsonl"
            how = {"context": 48, "server": address, "api": api, "concurrency": 4, "shard": shard}
            specialize.trace_corpus(checkpoint, corpus, run, **how)
            if count_in is not None:
                count_in.write_text(str(operations.count))
            os._exit(0)
        return child

    def trace(run: Path, **how: Any) -> int:
        """Trace in a child process; return its exit status."""
        return os.waitpid(start(run, **how), 0)[1]

    trace(folder / "whole", count_in=folder / "count")
    operations = int((folder / "count").read_text())
    moments = [{"answers": 60}, *({"operation": operations * part // 7} for part in (1, 4, 6))]
    for trial, moment in enumerate(moments):
        run = folder / str(trial)
        killed = os.WIFSIGNALED(trace(run, **moment))
        shards = len(list(run.glob("trace/routing-*.arrow")))
        trace(run)
        result = {"killed": killed, "shards": shards, "identical": digests(run) == digests(folder / "whole")}
        print(json.dumps(result), flush=True)
    run = folder / "merged"
    children = [start(run, shard="1/2", operation=operations // 3), start(run, shard="2/2")]
    killed = [os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children]
    parts = [folder / f"merged.part-{number}-of-2" for number in (1, 2)]
    shards = [len(list(part.glob("trace/routing-*.arrow"))) for part in parts]
    trace(run, shard="1/2")
    specialize.merge(parts, run)
    identical = digests(run / "trace") == digests(folder / "whole" / "trace")
    print(json.dumps({"killed": killed, "shards": shards, "identical": identical}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
