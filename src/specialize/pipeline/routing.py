"""Routing itself, without labels: load, co-activation, repeats, flow."""

from os import PathLike
from typing import TYPE_CHECKING

from specialize.choices import SlotRule
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import PERMUTATIONS, MeasureSettings, known_annotations, open_run

if TYPE_CHECKING:
    import pandas as pd

    from specialize.trace import RoutingTrace


def routing(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    rule: SlotRule = "selection",
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Measure load, co-activation, consecutive repeats and flow between layers.

    No labels are needed; repeats are also given for each value of the labels of documents that the run knows. Of a run
    of usage, which has no tokens, the load alone is measured. Writes RUN/routing/routing.{csv,parquet}.

    Args:
        run: a run folder, or its open trace.
        rule: how a token's mass is spread over its slots, for the load, see `specialize.measure.spread_mass`.
        permutations: permutations under the nulls.
        seed: of the nulls.
        reporter: receives messages and progress.

    Returns:
        The result rows, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        MeasurementError: a value is out of range, or the trace holds no tokens or layers.
    """
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.routing import measure_routing

    MeasureSettings(rule, permutations, seed)
    trace = open_run(run, rule=rule)
    if not trace.has_tokens:
        reporter.say(
            f"{trace.path}: no tokens, so that load alone is measured; repeats, co-activation and flow need them"
        )
    known = known_annotations(trace, reporter=reporter)
    labels = [each for each in known.values() if each.level == "document"]
    with reporter.progress("routing", "routers") as update:
        frame = measure_routing(trace, labels, rule=rule, permutations=permutations, seed=seed, progress=update)
    csv, _ = write_results(frame, trace.path / "routing", "routing", trace=trace)
    reporter.say(f"results: {csv}")
    return frame
