"""Labels predicted from the experts of all layers together."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from specialize.choices import SlotRule
from specialize.errors import AnnotationError, MeasurementError
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import MeasureSettings, check_at_least, open_run, stored_annotations, write_frames
from specialize.remote.places import at_addresses

if TYPE_CHECKING:
    import pandas as pd

    from specialize.trace import RoutingTrace


@at_addresses(run="measured")
def probe(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    label_sets: Sequence[str] | None = None,
    rule: SlotRule = "selection",
    folds: int = 5,
    max_tokens: int = 20_000,
    mlp: bool = True,
    permutations: int = 50,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Predict labels from the experts of all layers, on held-out documents, beside baselines and a control task.

    Writes RUN/probe/NAME.{csv,parquet} for each label set.

    Args:
        run: a run folder or its address, or its open trace.
        label_sets: names of annotations of the run; all that can be predicted by default.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        folds: parts of the cross-validation by document.
        max_tokens: the most tokens (or documents) to fit and score on.
        mlp: fit a small network beside the linear classifier.
        permutations: refits with permuted labels, for labels of documents.
        seed: of the sample, the control task, the network and the null.
        reporter: receives messages and progress.

    Returns:
        The result rows of all label sets, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        AnnotationError: the run has no annotations, or none of a name.
        MeasurementError: a value is out of range, or an annotation that was named, or every one, labels too little.
    """
    import pandas as pd

    from specialize.annotators.store import load_annotation
    from specialize.measure.runs.probes import probe_trace

    MeasureSettings(rule, permutations, seed)
    check_at_least("folds", folds, 2)
    check_at_least("max_tokens", max_tokens, 2)
    trace = open_run(run, rule=rule, tokens_for="probe")
    chosen = {name: load_annotation(trace, name, on_disk=True) for name in label_sets or ()}
    annotations = chosen or stored_annotations(trace, reporter=reporter)
    if not annotations:
        raise AnnotationError(
            f"{trace.path}: expected labels to predict, found none; "
            "run `specialize syntax` or `specialize topics` first"
        )
    how: dict[str, Any] = {"rule": rule, "folds": folds, "max_tokens": max_tokens, "mlp": mlp}
    frames: dict[str, pd.DataFrame] = {}
    left_out: dict[str, MeasurementError] = {}
    for annotation in annotations.values():
        try:
            with reporter.progress(f"probing {annotation.name}", "fits") as update:
                frames[f"probe/{annotation.name}"] = probe_trace(
                    trace, annotation, **how, permutations=permutations, seed=seed, progress=update
                )
        except MeasurementError as error:
            if label_sets:
                raise
            left_out[annotation.name] = error
    if not frames:
        raise next(iter(left_out.values()))
    write_frames(trace, frames)
    for name, reason in left_out.items():
        reporter.say(f"{name} is left out: {reason}")
    reporter.say(f"results: {trace.path / 'probe'}")
    return pd.concat(list(frames.values()), ignore_index=True)
