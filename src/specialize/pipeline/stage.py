"""What the stages share: opening a run, the labels it knows, measuring one annotation, and writing results.

A stage measures everything before it writes anything, so that a stage that fails leaves the results as they were.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from specialize.addresses import prefetch
from specialize.choices import SlotRule, check_choice, check_whole
from specialize.engine import LOCAL, Engine
from specialize.errors import MeasurementError, TraceError
from specialize.events import SILENT, Reporter

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace

# Labels of documents are quick to permute, and have many cells to correct for: the smallest p must be small.
DEFAULT_PERMUTATIONS = {"token": 200, "document": 1000}
PERMUTATIONS = 200  # of nulls that are not of labels


@dataclass(frozen=True)
class MeasureSettings:
    """How an annotation is measured, the same for syntax, topics and the user's own labels.

    Attributes:
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        permutations: permutations under the null; those of `DEFAULT_PERMUTATIONS` when None.
        seed: of the null.
        skip_positions: first positions of each sequence whose labels of tokens are left out.

    Raises:
        MeasurementError: a value is out of range.
    """

    rule: SlotRule = "selection"
    permutations: int | None = None
    seed: int = 0
    skip_positions: int = 0

    def __post_init__(self) -> None:
        check_choice("rule", self.rule, SlotRule, error=MeasurementError)
        if self.permutations is not None:
            check_at_least("permutations", self.permutations, 1)
        check_at_least("skip_positions", self.skip_positions, 0)
        check_at_least("seed", self.seed, 0)


def check_at_least(name: str, value: int, least: int) -> None:
    """Check a whole number.

    Args:
        name: of the argument, for the message.
        value: the number.
        least: the smallest that is allowed.

    Raises:
        MeasurementError: it is smaller, or not a whole number.
    """
    check_whole(name, value, error=MeasurementError)
    if value < least:
        raise MeasurementError(f"{name}: expected a number of at least {least}, got {value}")


def open_run(
    run: "str | PathLike[str] | RoutingTrace", *, rule: SlotRule = "selection", tokens_for: str | None = None
) -> "RoutingTrace":
    """Open the trace of a run folder; an open trace is returned as it is.

    Args:
        run: a run folder or its address, or its open trace.
        rule: how a token's mass will be spread over its slots.
        tokens_for: what needs the tokens of the trace, for the message; None if a trace without tokens will do.

    Raises:
        TraceError: there is no trace in the folder, it is not complete, it is one of several parts of a trace, it lacks
            the gate weights of the rule, or has no tokens where they are needed.
    """
    from specialize.trace import RoutingTrace, open_trace
    from specialize.trace.parts import refuse_part

    trace = run if isinstance(run, RoutingTrace) else open_trace(run)
    refuse_part(trace.path, trace.manifest)
    if tokens_for is not None:
        trace.require_tokens(tokens_for)
    if rule != "selection":
        trace.require_tokens(f"rule {rule}")
    if rule == "gate" and "weights" not in trace.contents:
        raise TraceError(
            f"{trace.path}: rule gate: expected a trace with gate weights, got one without; use another rule, or trace "
            "with weights"
        )
    prefetch(trace.path)
    return trace


def known_annotations(trace: "RoutingTrace", *, reporter: Reporter = SILENT) -> "dict[str, Annotation]":
    """Return the annotations stored in a run, and the usable label columns of its corpus, by name.

    Args:
        trace: an open trace.
        reporter: receives the columns and annotations that are left out, with the reason.

    Raises:
        AnnotationError: a stored annotation is damaged.
    """
    from specialize.annotators.columns import annotate_column, explain_unusable, label_columns

    documents = trace.documents(labels_only=True)
    known = {name: annotate_column(documents, name) for name in label_columns(documents, group=trace.group_column)}
    known |= stored_annotations(trace, reporter=reporter)
    note_unusable(
        {name: why for name, why in explain_unusable(documents, group=trace.group_column).items() if name not in known},
        reporter,
    )
    return known


def stored_annotations(trace: "RoutingTrace", *, reporter: Reporter = SILENT) -> "dict[str, Annotation]":
    """Return the annotations stored in a run by name, without those of another text.

    Raises:
        AnnotationError: an annotation is damaged.
    """
    from specialize.annotators.store import OtherTextError, list_annotations, load_annotation

    found = {}
    for name in list_annotations(trace):
        try:
            found[name] = load_annotation(trace, name, on_disk=True)
        except OtherTextError as error:  # the trace was extended since
            reporter.say(f"{name} is left out: {error}")
    return found


def note_unusable(reasons: Mapping[str, str], reporter: Reporter) -> None:
    """Name the columns that are not measured as labels, with the reasons, in one line."""
    if reasons:
        listed = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
        reporter.say(f"columns that are not measured as labels: {listed}")


def check_measurable(trace: "RoutingTrace", annotation: "Annotation", settings: MeasureSettings) -> None:
    """Check of an annotation what can be checked before routing is read.

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        settings: how it will be measured.

    Raises:
        MeasurementError: the trace has no tokens, the annotation is not of this trace, or nothing is labelled.
    """
    from specialize.measure.runs.routers import check_annotation, check_labelled, check_layers

    check_layers(trace)
    check_annotation(trace, annotation)
    check_labelled(_drop_first(trace, annotation, settings))


def measure_annotation(
    trace: "RoutingTrace",
    annotation: "Annotation",
    *,
    settings: MeasureSettings,
    engine: Engine = LOCAL,
    reporter: Reporter,
) -> "pd.DataFrame":
    """Measure the association of routing with an annotation, and what lies behind it.

    Args:
        trace: an open trace.
        annotation: labels of its tokens or documents.
        settings: how to measure.
        engine: measures the routers.
        reporter: receives progress.

    Returns:
        The result rows, columns of `specialize.measure.RESULT_COLUMNS`.
    """
    import pandas as pd

    from specialize.measure.runs.details import measure_details
    from specialize.measure.runs.specialization import measure_specialization

    annotation = _drop_first(trace, annotation, settings)
    permutations = settings.permutations or DEFAULT_PERMUTATIONS[annotation.level]
    how = {"rule": settings.rule, "permutations": permutations, "seed": settings.seed, "engine": engine}
    with reporter.progress(f"measuring {annotation.name}", "layers") as update:
        frame = measure_specialization(trace, annotation, **how, progress=update)  # type: ignore[arg-type]
    with reporter.progress(f"{annotation.name}: words and context", "routers") as update:
        details = measure_details(trace, annotation, **how, progress=update)  # type: ignore[arg-type]
    return pd.concat([frame, details], ignore_index=True)


def _drop_first(trace: "RoutingTrace", annotation: "Annotation", settings: MeasureSettings) -> "Annotation":
    from specialize.measure.runs.context import drop_positions
    from specialize.measure.runs.routers import read_columns

    if annotation.level == "document" or not settings.skip_positions:
        return annotation
    return drop_positions(annotation, read_columns(trace), settings.skip_positions)


def write_frames(trace: "RoutingTrace", frames: "Mapping[str, pd.DataFrame]") -> None:
    """Write result frames into the run folder of a trace, each as CSV and Parquet.

    Args:
        trace: the trace that was measured.
        frames: the frames by their place in the run folder without suffix, such as ``syntax/upos``.
    """
    from specialize.measure.results.files import write_results

    for place, frame in frames.items():
        folder, _, name = place.rpartition("/")
        write_results(frame, trace.path / folder, name, trace=trace)


def note_domain_shift(tokens_per_word: float, reporter: Reporter) -> None:
    """Say so where words fall into so many tokens that the model hardly knows such text."""
    if tokens_per_word > MANY_PIECES:
        reporter.say(
            f"note: words are split into {tokens_per_word:.1f} tokens on average: this text is unlike what the "
            "tokenizer, and so probably the model, was trained on"
        )


MANY_PIECES = 2.0  # tokens a word; tokenizers of a text's own language need 1.1 to 1.6
