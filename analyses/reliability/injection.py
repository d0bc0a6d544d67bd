"""One injection: a copy of the baseline, a fault in it, the command, and what came of it."""

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from analyses.reliability import file_faults, input_faults, model_faults, process_faults  # noqa: F401  # register
from analyses.reliability.baseline import Baseline
from analyses.reliability.children import Child, Finished
from analyses.reliability.fault import FAULTS, Case, Injected
from analyses.reliability.judge import NOT_RUN, Verdict, check_folder, judge_exit, judge_success
from analyses.reliability.outputs import move, snapshot
from analyses.reliability.stages import STAGES


@dataclass(frozen=True, order=True)
class Injection:
    """Which fault is injected into which command; the seed decides where and when."""

    stage: str
    fault: str
    seed: int


@dataclass
class Result:
    """What came of an injection.

    Attributes:
        injection: which.
        target: what was hit.
        outcome: one word, see `analyses.reliability.judge`.
        detail: what the outcome rests on.
        seconds: wall time of everything.
        runs: the commands that ran, as they ended; not stored.
    """

    injection: Injection
    target: str
    outcome: str
    detail: str
    seconds: float
    runs: list[Finished] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return what is stored."""
        return asdict(self.injection) | {
            "target": self.target,
            "outcome": self.outcome,
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
        }


def inject(injection: Injection, baseline: Baseline, scratch: Path) -> Result:
    """Inject a fault and judge what came of it.

    Args:
        injection: which fault, and where.
        baseline: what is disturbed.
        scratch: a folder for the copy, which is removed afterwards.
    """
    began = time.monotonic()
    stage, fault = STAGES[injection.stage], FAULTS[injection.fault]
    rng = random.Random(f"{injection.stage}/{injection.fault}/{injection.seed}")
    targets = fault.targets(stage, baseline)
    here = Path(mkdtemp(dir=scratch, prefix="here-"))
    undo = None
    case = Case(here, stage, baseline, targets[injection.seed % len(targets)], rng)
    runs: list[Finished] = []
    try:
        if fault.prepare is not None:
            undo = fault.prepare(here)
            if undo is None:
                return Result(injection, "", NOT_RUN, "needs the right to mount", time.monotonic() - began)
        baseline.copy(here, stage, fresh=fault.fresh)
        verdict = _judge(case, fault.inject(case), runs)
    finally:
        if undo is not None:
            undo()
        _remove(here)
    detail = verdict.detail.replace(str(here), "HERE")
    return Result(injection, case.target, verdict.outcome, detail, time.monotonic() - began, runs)


def _judge(case: Case, injected: Injected, runs: list[Finished]) -> Verdict:
    stage, here = case.stage, case.here
    arguments = injected.arguments or stage.arguments
    outputs = move(stage.outputs, injected.renamed)
    before = snapshot(here)

    def start(more: Sequence[str] = (), *, limited: bool = True) -> Child:
        return Child((*arguments, *more), here, injected.limits if limited else None)

    runs += injected.execute(start) if injected.execute else [start().finish()]
    verdicts = [judge_exit(each, stage, injected) for each in runs]
    bad = next((verdict for verdict in verdicts if verdict.outcome not in ("done", "error", "ended")), None)
    if bad:
        return bad
    failed = next((verdict for verdict in verdicts if verdict.outcome != "done"), None)
    wrong = check_folder(before, snapshot(here), outputs, failed=failed is not None, kept=injected.repeat)
    if wrong and not _is_of_fault(wrong, case):
        return wrong
    if failed is None or (stage.once and verdicts[0].outcome == "done"):
        return judge_success(here, runs[-1], stage, injected, case.baseline)
    if not injected.repeat:
        return _mend(case, injected, failed, start, runs)
    if injected.remedy is not None:
        injected.remedy()
    runs.append(start(limited=False).finish())
    repeated = judge_exit(runs[-1], stage, injected)
    if repeated.outcome == "error" and stage.once:  # the command was done when it was ended
        repeated = judge_success(here, runs[-1], stage, injected, case.baseline)
        return Verdict("lost", repeated.detail) if repeated.outcome == "silent" else repeated
    if repeated.outcome in ("error", "ended"):
        return Verdict("lost", f"the same command again fails: {repeated.detail}")
    if repeated.outcome != "done":
        return repeated
    wrong = check_folder(before, snapshot(here), outputs, failed=False, kept=False)
    if wrong:
        return wrong
    success = judge_success(here, runs[-1], stage, injected, case.baseline)
    if success.outcome == "silent":
        return Verdict("lost", f"the same command again gives other outputs: {success.detail}")
    return Verdict("resumed", failed.detail)


def _mend(case: Case, injected: Injected, failed: Verdict, start: Any, runs: list[Finished]) -> Verdict:
    """Run the command that mends a damaged run, if there is one: it fails, or gives the outputs of a clean run."""
    stage = case.stage
    if not stage.options or injected.right != "clean":
        return failed
    runs.append(start(stage.options).finish())
    mended = judge_exit(runs[-1], stage, injected)
    if mended.outcome == "done":
        mended = judge_success(case.here, runs[-1], stage, injected, case.baseline)
        if mended.outcome == "silent":
            return Verdict("silent", f"{' '.join(stage.options)}: {mended.detail}")
        return failed
    return failed if mended.outcome == "error" else mended


def _is_of_fault(wrong: Verdict, case: Case) -> bool:
    """Whether the file that changed is the damaged one itself, which may be made anew."""
    return wrong.outcome == "lost" and wrong.detail == f"changed: {Path(case.stage.folder, case.target)}"


def _remove(here: Path) -> None:
    shutil.rmtree(here, ignore_errors=True)
