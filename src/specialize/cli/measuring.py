"""Stages that measure routing itself and leave their files: alone as commands, and within `run` and `demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from specialize.cli.console import progress, say

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace

PERMUTATIONS = 200


def do_routing(
    trace: "RoutingTrace", *, rule: Any = "selection", permutations: int = PERMUTATIONS, seed: int = 0
) -> "pd.DataFrame":
    """Measure load, co-activation, repeats and flow into RUN/routing; repeats also for each known label."""
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.routing import routing

    labels = [each for each in known_annotations(trace).values() if each.level == "document"]
    with progress("routing", "routers") as update:
        frame = routing(trace, labels, rule=rule, permutations=permutations, seed=seed, progress=update)
    csv, _ = write_results(frame, trace.path / "routing", "routing")
    say(f"results: {csv}")
    return frame


def do_vocabulary(
    trace: "RoutingTrace", *, min_count: int = 10, top: int = 10, permutations: int = PERMUTATIONS, seed: int = 0
) -> "pd.DataFrame":
    """Measure how far experts divide the vocabulary, and name each expert's top tokens, into RUN/vocabulary."""
    from specialize.measure.results.files import write_results, write_table

    with progress("vocabulary", "routers") as update:
        frame, table = measure_vocabulary_specialization(
            trace, min_count=min_count, most=top, permutations=permutations, seed=seed, progress=update
        )
    folder = trace.path / "vocabulary"
    write_results(frame, folder, "vocabulary")
    write_table(table, folder / "top_tokens.csv", text_columns=("run", "router", "text"))
    say(f"results: {folder}")
    return frame


def do_compare(
    first: "RoutingTrace",
    second: "RoutingTrace | None",
    *,
    output: Path | None = None,
    rule: Any = "selection",
    margin: float | None = None,
) -> "pd.DataFrame":
    """Measure how two runs differ, or a run and its random routers, into `output` or RUN/compare."""
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.comparison import compare
    from specialize.measure.runs.matching import check_same_corpus

    if second is not None:
        check_same_corpus(first, second)
    annotations = list(known_annotations(first).values()) if second is None else _common_annotations(first, second)
    with progress("comparing", "pairs of routers") as update:
        frame = compare(first, second, annotations, rule=rule, margin=margin, progress=update)
    name = "against-random" if second is None else f"against-{second.path.resolve().name}"
    csv, _ = write_results(frame, output or first.path / "compare", name)
    say(f"results: {csv}")
    return frame


def known_annotations(trace: "RoutingTrace") -> "dict[str, Annotation]":
    """The annotations stored in a run, and the usable label columns of its corpus, by name."""
    from specialize.annotators.columns import annotate_column, label_columns
    from specialize.annotators.store import list_annotations, load_annotation

    documents = trace.documents()
    known = {name: annotate_column(documents, name) for name in label_columns(documents)}
    return known | {name: load_annotation(trace, name) for name in list_annotations(trace)}


def _common_annotations(first: "RoutingTrace", second: "RoutingTrace") -> "list[Annotation]":
    """Annotations that are the same in both runs; says which differ."""
    import numpy as np

    from specialize.measure.runs.matching import same_tokens

    one, two = known_annotations(first), known_annotations(second)
    alike = same_tokens(first, second)
    common = []
    for name in sorted(one.keys() & two.keys()):
        if not alike and "token" in (one[name].level, two[name].level):
            say(f"{name} is left out: the runs have different tokens")
        elif one[name].labels != two[name].labels or not np.array_equal(one[name].codes, two[name].codes):
            say(f"{name} is left out: the runs label it differently; copy the annotations of one to the other")
        else:
            common.append(one[name])
    return common
