"""Trace the two parts of a corpus at the same time, kill one of them, resume it, and merge both; kill merges, too.

A script of its own, as kill_and_resume.py; prints a JSON line for each trial, and one for all merges.
"""

import json
import os
import shutil
import sys
from itertools import count
from pathlib import Path

from capture.kill_and_resume import Operations, Traces, digests
from specialize.errors import TraceError
from specialize.trace.parts import Part
from specialize.tracing.merging import merge_parts

FIRST, SECOND = Part(1, 2), Part(2, 2)


def main(folder: Path) -> None:
    for corpus_of in ("texts", "answers"):
        traces = Traces(folder, corpus_of)
        whole = folder / f"{corpus_of}-whole"
        traces.trace(whole)
        traces.trace(folder / f"{corpus_of}-counted", part=FIRST, count_in=folder / "count")
        operations = int((folder / "count").read_text())
        for trial, point in enumerate((operations // 3, operations - 3)):
            runs = [folder / f"{corpus_of}{trial}-{number}" for number in (1, 2)]
            children = [traces.start(runs[0], part=FIRST, kill_at=point), traces.start(runs[1], part=SECOND)]
            killed = [os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children]
            merged = folder / f"{corpus_of}{trial}"
            try:
                merge_parts(runs, merged)
                refusal = ""
            except TraceError as error:
                refusal = str(error)
            nothing = not merged.exists()
            shards = len(list(runs[0].glob("trace/routing-*.arrow")))
            traces.trace(runs[0], part=FIRST)
            merge_parts(runs[::-1], merged)
            identical = digests(merged / "trace") == digests(whole / "trace")
            result = {"killed": killed, "refusal": refusal, "nothing": nothing, "shards": shards}
            print(json.dumps(result | {"identical": identical}), flush=True)
    print(json.dumps(kill_merges(runs, folder / "merged", digests(whole / "trace"))), flush=True)


def kill_merges(runs: list[Path], merged: Path, whole: dict[str, str]) -> dict[str, object]:
    """Kill merges at more and more of their file operations; return how many, and what they left."""
    outcomes = set()
    for killed in count():
        child = os.fork()
        if child == 0:
            Operations(1 + 3 * killed)
            merge_parts(runs, merged)
            os._exit(0)
        was_killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        left = "nothing" if not merged.exists() else "whole" if digests(merged / "trace") == whole else "other"
        outcomes.add(left)
        if not was_killed:
            return {"killed": killed, "outcomes": sorted(outcomes)}
        shutil.rmtree(merged, ignore_errors=True)
    raise AssertionError


if __name__ == "__main__":
    main(Path(sys.argv[1]))
