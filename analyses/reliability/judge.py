"""What came of a fault: one word for each injection.

Good: ``same`` (success, outputs of the clean run), ``reported`` (other outputs, and a line that names the reason),
``error`` (one line, nothing changed), ``resumed`` (it was ended or failed, and the same command again gave the outputs
of the clean run), ``accepted`` (an input that is valid though damaged). Bad: see `BAD`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from analyses.reliability.baseline import Baseline
from analyses.reliability.children import UNCAUGHT, Finished
from analyses.reliability.fault import Injected
from analyses.reliability.outputs import differences
from analyses.reliability.stages import Stage

GOOD = ("same", "reported", "error", "resumed", "accepted")
BAD = {
    "traceback": "an exception that reaches the user",
    "silent": "success with other outputs, and no line that says so",
    "lost": "a file that is no output was changed, or the same command again does not give the outputs of a clean run",
    "hang": "no end within three minutes",
    "half-written": "an error that leaves new outputs behind",
    "leftover": "a temporary file that stays after the next success",
    "unclear": "not exactly one line, or one that names nothing of what was damaged, or another exit status",
}
NOT_RUN = "not run"
_LONGEST_LINE = 1000
_CACHES = ("*/.lock", "*/.*.lock", "*/annotations/embeddings/*", "*/__pycache__/*")
_PARTS = ("*.partial*",)  # also in folders, and what is in such a folder


@dataclass(frozen=True)
class Verdict:
    """An outcome, and what it rests on."""

    outcome: str
    detail: str = ""


def judge_exit(finished: Finished, stage: Stage, injected: Injected) -> Verdict:
    """Judge exit status and stderr: ``done``, ``error``, ``ended``, or a bad outcome."""
    code, lines = finished.code, [line for line in finished.err.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if finished.hung:
        return Verdict("hang", last)
    is_problem = code == 1 and stage.name == "validate"
    if "Traceback (most recent call last)" in finished.err or code in (UNCAUGHT, -4, -6, -7, -8, -11):
        return Verdict("traceback", last or f"exit status {code}")
    if injected.hidden and injected.hidden in finished.out + finished.err:
        return Verdict("silent", "the contents of a file outside are shown")
    if code == 0:
        return Verdict("done")
    if code in (-9, -15):
        return Verdict("ended")
    if is_problem:
        return Verdict("error", finished.out.splitlines()[-1] if finished.out else last)
    said = [line for line in lines if line.startswith("specialize: ")]
    if code == 130:
        return Verdict("ended", last) if said == [last] and "interrupted" in last else Verdict("unclear", finished.err)
    if code != 2 or said != [last] or len(last) > _LONGEST_LINE or any(map(_is_noise, lines)):
        return Verdict("unclear", f"exit status {code}: {finished.err[-600:]}")
    if injected.names and not any(name in last for name in (*injected.names, stage.folder)):
        return Verdict("unclear", f"names none of {', '.join(injected.names)}: {last}")
    return Verdict("error", last)


def _is_noise(line: str) -> bool:
    return bool(re.search(r"\w(Warning|Exception)\b|^\s*File \"|\x1b", line))


def judge_success(here: Path, finished: Finished, stage: Stage, injected: Injected, baseline: Baseline) -> Verdict:
    """Judge a command that ended with success: its outputs, and what it says."""
    if injected.right == "error":
        return Verdict("silent", f"success: {finished.err[-300:]}")
    if injected.right == "either":
        return Verdict("accepted")
    if injected.right != "clean":
        said = next((line for line in finished.err.splitlines() if re.search(injected.right, line)), "")
        return Verdict("reported", said) if said else Verdict("silent", f"no line says {injected.right!r}")
    clean = baseline.clean(stage)
    wrong = differences(here, clean.folder, stage.outputs, renamed=injected.renamed)
    if stage.prints and not wrong and _plain(finished.out, injected) != clean.finished.out:
        wrong = ["what it prints differs"]
    if not wrong:
        return Verdict("same")
    new = new_lines(finished.err, baseline.clean_lines(stage))
    named = [line for line in new if any(name in line for name in injected.names)]
    if named:
        return Verdict("reported", named[0])
    if injected.optional:
        return Verdict("accepted", "; ".join(wrong))
    return Verdict("silent", f"{'; '.join(wrong)} | new lines: {new}")


def _plain(text: str, injected: Injected) -> str:
    for old, new in injected.renamed.items():
        text = text.replace(new, old)
    return text


def new_lines(err: str, known: Collection[str]) -> list[str]:
    """Return the lines that a clean run does not print, whatever the numbers in them."""
    normal = {_normalise(line) for line in known}
    return [line for line in err.splitlines() if line.strip() and _normalise(line) not in normal]


def _normalise(line: str) -> str:
    return re.sub(r"\d[\d.,]*", "#", line.strip())


def check_folder(
    before: Mapping[str, str], after: Mapping[str, str], outputs: Sequence[str], *, failed: bool, kept: bool
) -> Verdict | None:
    """Return what is wrong with the files of the folder after a command.

    Args:
        before: every file before it, as `snapshot` gives them.
        after: every file after it.
        outputs: patterns of what the command writes.
        failed: whether it failed, so that nothing may have changed.
        kept: whether an output may stay behind if it fails: the command was ended, or had no room.
    """
    changed = [name for name in before if after.get(name) != before[name] and not _matches(name, _CACHES)]
    # what an ended command left is removed by the next one that writes there
    changed = [name for name in changed if not _matches(name, _PARTS)]
    if not failed:
        changed = [name for name in changed if not _matches(name, outputs)]
    if changed and not (failed and kept and all(_matches(name, outputs) for name in changed)):
        return Verdict("lost", f"changed: {', '.join(changed[:5])}")
    added = [name for name in after if name not in before and not _matches(name, _CACHES)]
    partial = [name for name in added if _matches(name, _PARTS)]
    if partial and not kept:
        return Verdict("leftover", ", ".join(partial[:5]))
    if failed and not kept and added:
        return Verdict("half-written", f"added: {', '.join(added[:5])}")
    return None


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
