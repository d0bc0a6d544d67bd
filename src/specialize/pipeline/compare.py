"""Differences of two runs of one corpus, or of a model's routers and the random routers beside them."""

from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.choices import SlotRule
from specialize.errors import AnnotationError, MeasurementError
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import MeasureSettings, known_annotations, open_run
from specialize.remote.places import at_addresses

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace


@at_addresses(run="measured", other="read", output="files")
def compare(
    run: "str | PathLike[str] | RoutingTrace",
    other: "str | PathLike[str] | RoutingTrace | None" = None,
    *,
    output: str | PathLike[str] | None = None,
    rule: SlotRule = "selection",
    margin: float | None = None,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Measure how the routing of two runs of one corpus differs, `run` minus `other`, paired by blocks of documents.

    Compared are information and U of every annotation that both runs hold, how similar documents of one label are,
    load entropy, repeats, caches, what the layer before and the token id predict, and saturation: the share of slots
    that agree, by layer and by label, phase, role and position of the tokens. Writes against-OTHER.{csv,parquet}.

    Args:
        run: a run folder or its address, or its open trace.
        other: a run of the same corpus; without it, a model's routers are compared with the random routers that were
            recorded beside them.
        output: folder of the results; RUN/compare by default.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        margin: also test that each difference lies within plus and minus this, in the unit of its metric.
        reporter: receives messages and progress, also which annotations are left out and why.

    Returns:
        The result rows, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        MeasurementError: a value is out of range, the runs are not of one corpus, or nothing can be compared.
    """
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.comparison import compare_traces
    from specialize.measure.runs.matching import check_same_corpus

    MeasureSettings(rule)
    if margin is not None and not 0 < margin < float("inf"):
        raise MeasurementError(f"margin: expected a number above 0, got {margin:g}")
    first = open_run(run, rule=rule)
    second = None if other is None else open_run(other, rule=rule)
    if not all(trace.has_tokens for trace in (first, second) if trace is not None):
        reporter.say("without tokens in both runs, repeats and saturation are left out")
    if second is None:
        annotations, by = list(known_annotations(first, reporter=reporter).values()), []
    else:
        check_same_corpus(first, second)
        known = known_annotations(first, reporter=reporter)
        annotations, others = _find_common(known, (first, second), reporter)
        by = _add_classes(first, {name: each for name, each in known.items() if name not in others})
    with reporter.progress("comparing", "pairs of routers") as update:
        frame = compare_traces(first, second, annotations, by=by, rule=rule, margin=margin, progress=update)
    name = "against-random" if second is None else f"against-{second.path.resolve().name}"
    folder = first.path / "compare" if output is None else Path(output)
    csv, _ = write_results(frame, folder, name, trace=first, other=second)
    reporter.say(f"results: {csv}")
    return frame


def _add_classes(trace: "RoutingTrace", known: "Mapping[str, Annotation]") -> "list[Annotation]":
    """Return what is known of a run, and the phase, the role and the position of its tokens, as far as it has them."""
    from specialize.annotators.token_classes import annotate_classes

    found = dict(known)
    for name in ("phase", "role", "position") if trace.has_tokens else ():
        if name not in found:
            with suppress(AnnotationError):  # one phase, or no conversations
                [found[name]] = annotate_classes(trace, [name])
    return list(found.values())


def _find_common(
    one: "Mapping[str, Annotation]", traces: "tuple[RoutingTrace, RoutingTrace]", reporter: Reporter
) -> "tuple[list[Annotation], set[str]]":
    """Annotations of the first run that are the same in the second, and names of those that are not.

    The reporter receives which are left out.
    """
    from specialize.measure.runs.matching import equal_columns, same_tokens

    two = known_annotations(traces[1])
    alike = same_tokens(*traces)
    common, others = [], set()
    for name in sorted(one.keys() & two.keys()):
        if not alike and "token" in (one[name].level, two[name].level):
            others.add(name)
            reporter.say(f"{name} is left out: the runs have different tokens")
        elif one[name].labels != two[name].labels or not equal_columns(one[name].codes, two[name].codes):
            others.add(name)
            reporter.say(
                f"{name} is left out: the runs label it differently; copy the annotations of one run to the other"
            )
        else:
            common.append(one[name])
    return common, others
