"""How far the experts divide the vocabulary."""

from os import PathLike
from typing import TYPE_CHECKING

from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import PERMUTATIONS, check_at_least, open_run
from specialize.remote.places import at_addresses

if TYPE_CHECKING:
    import pandas as pd

    from specialize.trace import RoutingTrace


@at_addresses(run="measured")
def vocabulary(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    min_count: int = 10,
    top: int = 10,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Measure how far experts divide the vocabulary: input, next and, where recorded, predicted tokens.

    Writes RUN/vocabulary/vocabulary.{csv,parquet} and top_tokens.{csv,parquet}, each expert's most characteristic
    tokens.

    Args:
        run: a run folder or its address, or its open trace.
        min_count: fewest tokens of a token id that is counted.
        top: token ids of an expert in top_tokens.csv.
        permutations: permutations under the null.
        seed: of the null.
        reporter: receives messages and progress.

    Returns:
        The result rows, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        MeasurementError: a value is out of range, the trace holds no token ids, or none occurs often enough.
    """
    from specialize.measure.results.files import write_both, write_results
    from specialize.measure.runs.vocabulary import measure_vocabulary_specialization

    check_at_least("min_count", min_count, 2)
    check_at_least("top", top, 1)
    check_at_least("permutations", permutations, 1)
    check_at_least("seed", seed, 0)
    trace = open_run(run, tokens_for="vocabulary")
    with reporter.progress("vocabulary", "routers") as update:
        frame, table = measure_vocabulary_specialization(
            trace, min_count=min_count, most=top, permutations=permutations, seed=seed, progress=update
        )
    folder = trace.path / "vocabulary"
    write_results(frame, folder, "vocabulary", trace=trace)
    write_both(table, folder, "top_tokens", text_columns=("run", "router", "text"), trace=trace)
    reporter.say(f"results: {folder}")
    return frame
