"""Labels of the user's own, for documents or tokens."""

from os import PathLike
from typing import TYPE_CHECKING

from specialize.choices import EngineName, SlotRule
from specialize.errors import AnnotationError
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import (
    MeasureSettings,
    check_measurable,
    measure_annotation,
    note_unusable,
    open_run,
    write_frames,
)
from specialize.remote.places import at_addresses
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_engine

if TYPE_CHECKING:
    import pandas as pd

    from specialize.trace import RoutingTrace


_FOLDERS = {"token": "syntax", "document": "topics"}  # of the results


@at_addresses(run="measured")
def annotate(
    run: "str | PathLike[str] | RoutingTrace",
    labels: "str | PathLike[str] | pd.DataFrame",
    *,
    rule: SlotRule = "selection",
    permutations: int | None = None,
    seed: int = 0,
    skip_positions: int = 0,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Take labels of your own, for documents or for tokens, and measure how far routing is associated with them.

    Writes RUN/annotations/NAME.arrow for each label set, and RUN/syntax/NAME.{csv,parquet} for labels of tokens,
    RUN/topics/NAME.{csv,parquet} for those of documents. Columns that cannot be measured, by the rules for columns of
    a corpus (see `specialize.annotators.label_columns`), are left out; the reporter receives the reasons.

    Args:
        run: a run folder or its address, or its open trace.
        labels: a table (.parquet, .csv, .tsv, .jsonl, or a data frame) with the column id (documents) or token (row
            numbers), and a column for each label set.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the null; by default 1,000 for labels of documents, 200 for those of tokens.
        seed: of the null.
        skip_positions: first positions of each sequence to leave out, for labels of tokens.
        engine: ``local``, this process; or ``ray``, workers that measure layers; the frame is the same.
        address: of a Ray cluster, see `specialize.scale.options.EngineOptions`, as for the next two.
        workers: how many; by default one for each GPU, else one for each core, at most 8.
        gpus_per_worker: GPUs of each; by default one if there are any.
        reporter: receives messages and progress.

    Returns:
        The result rows of all label sets, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        AnnotationError: the table cannot be read, does not fit the trace, or none of its columns can be measured.
        MeasurementError: a value is out of range, or nothing that is labelled was routed.
        EngineError: there is no Ray cluster, it has no room for the workers, or they end again and again.
    """
    import pandas as pd

    from specialize.annotators.columns import explain_labels
    from specialize.annotators.store import save_annotation
    from specialize.annotators.user_labels import read_labels

    settings = MeasureSettings(rule, permutations, seed, skip_positions)
    engine_options = EngineOptions(engine, address, workers, gpus_per_worker)
    trace = open_run(run, rule=rule)
    annotations = read_labels(trace, labels)
    unusable = {each.name: reason for each in annotations if (reason := explain_labels(each)) is not None}
    if len(unusable) == len(annotations):
        listed = "; ".join(f"{name} ({reason})" for name, reason in unusable.items())
        source = "the data frame" if isinstance(labels, pd.DataFrame) else labels
        raise AnnotationError(f"{source}: expected a column of labels that can be measured, got none: {listed}")
    note_unusable(unusable, reporter)
    usable = [each for each in annotations if each.name not in unusable]
    for annotation in usable:
        check_measurable(trace, annotation, settings)
        reporter.say(f"{annotation.name}: {annotation.share_labelled:.1%} of the {annotation.level}s have a label")
    with open_engine(engine_options, reporter=reporter) as pool:
        frames = {
            f"{_FOLDERS[each.level]}/{each.name}": measure_annotation(
                trace, each, settings=settings, engine=pool, reporter=reporter
            )
            for each in usable
        }
    for annotation in usable:
        save_annotation(trace, annotation)
    write_frames(trace, frames)
    return pd.concat(list(frames.values()), ignore_index=True)
