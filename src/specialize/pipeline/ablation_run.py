"""The passes of an ablation: with all experts, and under each condition that is missing."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from specialize.errors import CaptureError
from specialize.events import Reporter
from specialize.pipeline.ablation_plan import Usage
from specialize.text import format_bytes, format_duration

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from specialize.capture.ablation import AblationRunner
    from specialize.trace.ablation import AblationStore, Condition

MOST_HELD, MOST_BYTES = 32, 2**26  # conditions whose changes are held in memory, and lost if the run is killed
LEAST_SAME = 0.95  # share of slots that have to be routed as in the trace


def run_baseline(runner: "AblationRunner", store: "AblationStore", usage: Usage, *, reporter: Reporter) -> float | None:
    """Run the documents with all experts, unless that was done.

    Args:
        runner: runs the documents.
        store: receives the losses.
        usage: the routing that the trace has for them.
        reporter: receives progress and messages.

    Returns:
        The seconds that a token took; None if it was done before.

    Raises:
        CaptureError: a loss is not finite, memory does not suffice, or the routing is not that of the trace.
        TraceError: the losses that are there are damaged.
    """
    if store.has_baseline:
        store.baseline()  # raises an error if it is damaged
        return None
    started = time.monotonic()
    with reporter.progress("with all experts", "tokens") as update:
        baseline = runner.run_baseline(_count(update, runner.num_tokens))
    seconds = (time.monotonic() - started) / runner.num_tokens
    same = np.mean([np.mean(baseline.experts[name] == experts) for name, experts in usage.experts.items()])
    if same < LEAST_SAME:
        raise CaptureError(
            f"expected the routing of the trace, {1 - same:.1%} of the slots have another expert: give the model, "
            "--dtype and --device with which it was traced"
        )
    if same < 1:
        reporter.say(f"note: {1 - same:.2%} of the slots have another expert than in the trace, by rounding")
    store.save_baseline(baseline.losses)
    return seconds


def run_saliency(runner: "AblationRunner", store: "AblationStore", *, reporter: Reporter) -> "pd.DataFrame | None":
    """Measure the saliency of each expert, unless that was done.

    Args:
        runner: runs the documents.
        store: receives the saliency.
        reporter: receives progress, and why it cannot be measured.

    Returns:
        The saliency as `AblationStore.saliency` returns it; None if experts of the model cannot be run separately.

    Raises:
        TraceError: the saliency that is there is damaged.
    """
    found = store.saliency()
    if found is None:
        try:
            with reporter.progress("saliency", "tokens") as update:
                found = runner.measure_saliency(_count(update, runner.num_tokens))
        except CaptureError as error:
            reporter.say(f"note: saliency is left out: {error}")
            return None
        store.save_saliency(found)
    return found


def run_conditions(
    runner: "AblationRunner",
    store: "AblationStore",
    conditions: "Sequence[Condition]",
    *,
    seconds: float | None,
    reporter: Reporter,
) -> None:
    """Say what is to be done, and do what is missing, some conditions at a time.

    Args:
        runner: runs the documents.
        store: receives the changes.
        conditions: what is to be switched off.
        seconds: that a token takes; None if it is to be measured.
        reporter: receives the plan and progress.

    Raises:
        CaptureError: the model does not allow a condition, a loss is not finite, or memory does not suffice.
    """
    missing = [condition for condition in conditions if not store.holds(condition)]
    runner.check(missing)
    if seconds is None:
        seconds = runner.time_batch() if missing else 0.0
    tokens = len(missing) * runner.num_tokens
    there = len(conditions) - len(missing)
    done = f", {there:,} of {len(conditions):,} are there" if there else ""
    restart = "; layers below are not computed again" if missing and runner.can_restart else ""
    reporter.say(
        f"{store.folder}: {len(missing):,} conditions x {runner.num_tokens:,} tokens, at most "
        f"{format_duration(tokens * seconds)}, {format_bytes(2 * tokens)} to write{done}{restart}"
    )
    missing.sort(key=lambda condition: (runner.place_of(condition), condition.key))
    size = max(1, min(MOST_HELD, MOST_BYTES // (2 * runner.num_tokens)))
    baseline = store.baseline()
    with reporter.progress("switching off experts", "tokens") as update:
        count = _count(update, tokens)
        for first in range(0, len(missing), size):
            _run_group(runner, store, missing[first : first + size], baseline, count)


def _run_group(
    runner: "AblationRunner",
    store: "AblationStore",
    group: "Sequence[Condition]",
    baseline: "NDArray[np.float32]",
    count: Callable[[int], None],
) -> None:
    """Run some conditions, whose changes are freed before the next ones are run."""
    for condition, changes in zip(group, runner.run_conditions(group, baseline, count), strict=True):
        store.save_changes(condition, changes)


def _count(update: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Return a function that adds to the tokens done, and tells a progress bar of them."""
    done = 0

    def add(tokens: int) -> None:
        nonlocal done
        done += tokens
        update(done, total)

    return add
