"""Labels of the user's own, for documents or tokens."""

from os import PathLike
from typing import TYPE_CHECKING

from specialize.choices import SlotRule
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import MeasureSettings, measure_annotation, open_run

if TYPE_CHECKING:
    import pandas as pd

    from specialize.trace import RoutingTrace


def annotate(
    run: "str | PathLike[str] | RoutingTrace",
    labels: "str | PathLike[str] | pd.DataFrame",
    *,
    rule: SlotRule = "selection",
    permutations: int | None = None,
    seed: int = 0,
    skip_positions: int = 0,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Take labels of your own, for documents or for tokens, and measure how far routing is associated with them.

    Writes RUN/annotations/NAME.arrow for each label set, and RUN/syntax/NAME.{csv,parquet} for labels of tokens,
    RUN/topics/NAME.{csv,parquet} for those of documents.

    Args:
        run: a run folder, or its open trace.
        labels: a table (.parquet, .csv, .tsv, .jsonl, or a data frame) with the column id (documents) or token (row
            numbers), and a column for each label set.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the null; by default 1,000 for labels of documents, 200 for those of tokens.
        seed: of the null.
        skip_positions: first positions of each sequence to leave out, for labels of tokens.
        reporter: receives messages and progress.

    Returns:
        The result rows of all label sets, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        AnnotationError: the table cannot be read, or does not fit the trace.
        MeasurementError: a value is out of range, or nothing that is labelled was routed.
    """
    import pandas as pd

    from specialize.annotators.store import save_annotation
    from specialize.annotators.user_labels import read_labels

    settings = MeasureSettings(rule, permutations, seed, skip_positions)
    trace = open_run(run)
    annotations = read_labels(trace, labels)
    for annotation in annotations:
        save_annotation(trace, annotation)
        reporter.say(f"{annotation.name}: {annotation.share_labelled:.1%} of the {annotation.level}s have a label")
    frames = []
    for annotation in annotations:
        folder = "syntax" if annotation.level == "token" else "topics"
        frames.append(measure_annotation(trace, annotation, folder=folder, settings=settings, reporter=reporter))
    return pd.concat(frames, ignore_index=True)
