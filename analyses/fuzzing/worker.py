"""Fuzzes one target under atheris: python -m analyses.fuzzing.worker TARGET FOLDER SECONDS SCRATCH.

libFuzzer stops at the first crash. Here an exception is kept as a finding instead, with the shortest input that leads
to it, and fuzzing continues; only what ends the process (a hang, memory, a signal) is left to libFuzzer.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["specialize", "gzip", "zipfile"]):
    from analyses.fuzzing.findings import keep
    from analyses.fuzzing.harness import Outcome, Target, attempt, without_slow_parts
    from analyses.fuzzing.targets import TARGETS

import numpy.lib._format_impl as numpy_format

_LONGEST = 2**15  # bytes
_SECONDS_BETWEEN_NOTES = 5.0


class Recorder:
    """Gives inputs to a target, counts them, and keeps what is found.

    Args:
        target: the target.
        folder: its folder, for counts and findings.
        scratch: an empty folder in memory for the files of one input.
    """

    def __init__(self, target: Target, folder: Path, scratch: Path) -> None:
        self.target = target
        self.folder = folder
        self.scratch = scratch
        self.counts = {"executions": 0, "accepted": 0, "refused": 0, "findings": 0}
        self._began = self._noted = time.monotonic()

    def __call__(self, data: bytes) -> None:
        """Read one input."""
        outcome = attempt(self.target, data, self.scratch)
        self.counts["executions"] += 1
        self.counts[_name_of(outcome)] += 1
        if outcome.finding is not None:
            keep(self.folder, outcome.finding, data)
        if time.monotonic() - self._noted > _SECONDS_BETWEEN_NOTES:
            self.note()

    def note(self) -> None:
        """Write the counts so far."""
        self._noted = time.monotonic()
        note = self.counts | {"seconds": round(self._noted - self._began, 1)}
        (self.folder / "counts.json").write_text(json.dumps(note))


def _name_of(outcome: Outcome) -> str:
    return "findings" if outcome.finding else "accepted" if outcome.accepted else "refused"


def _mutator(target: Target) -> Callable[[bytes, int, int], bytes]:
    seeds = list(target.seeds().values())

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = Random(seed)
        if target.mutate is None or len(data) < 2 or rng.random() < 0.4:
            return atheris.Mutate(data, most)
        if rng.random() < 0.3:  # what is changed again and again is soon nothing that is read
            data = rng.choice(seeds)
        return target.mutate(bytes(data), rng)[:most]

    return mutate


def main(name: str, folder: Path, seconds: int, scratch: Path) -> None:
    """Fuzz a target for so many seconds, continuing with the inputs of earlier runs."""
    target = TARGETS[name]
    for function in ("_read_array_header", "_read_bytes", "descr_to_dtype", "_check_version", "read_magic"):
        setattr(numpy_format, function, atheris.instrument_func(getattr(numpy_format, function)))
    for each in ("corpus", "seeds", "artifacts"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    for place, seed in enumerate(target.seeds().values()):
        (folder / "seeds" / str(place)).write_bytes(seed)
    words = "".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in token)}"\n' for token in target.tokens)
    (folder / "tokens.dict").write_text(words)
    recorder = Recorder(target, folder, scratch / "input")
    arguments = [
        *("fuzz", str(folder / "corpus"), str(folder / "seeds"), f"-max_total_time={seconds}", "-timeout=20"),
        *(
            "-rss_limit_mb=4096",
            f"-max_len={_LONGEST}",
            "-print_final_stats=1",
            "-len_control=0",
            "-use_value_profile=0",
        ),
        *(f"-artifact_prefix={folder / 'artifacts'}/", f"-dict={folder / 'tokens.dict'}"),
    ]
    with without_slow_parts():
        atheris.Setup(arguments, recorder, custom_mutator=_mutator(target))
        atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
