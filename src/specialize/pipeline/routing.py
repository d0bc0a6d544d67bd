"""Routing itself: load, co-activation, repeats, flow, caches; and the experts that labels of documents use."""

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from specialize.choices import EngineName, SlotRule
from specialize.errors import MeasurementError, did_you_mean
from specialize.events import SILENT, Reporter
from specialize.pipeline.stage import PERMUTATIONS, MeasureSettings, check_at_least, known_annotations, open_run
from specialize.remote.places import at_addresses
from specialize.scale.options import EngineOptions
from specialize.scale.ray_engine import open_engine

if TYPE_CHECKING:
    import pandas as pd

    from specialize.annotation import Annotation
    from specialize.trace import RoutingTrace


@at_addresses(run="measured")
def routing(
    run: "str | PathLike[str] | RoutingTrace",
    *,
    labels: Sequence[str] | None = None,
    rule: SlotRule = "selection",
    cache_size: int | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float | None = None,
    reporter: Reporter = SILENT,
) -> "pd.DataFrame":
    """Measure load, co-activation, consecutive repeats, flow between layers, and what a cache of experts serves.

    No labels are needed. For the labels of documents that the run knows, repeats are also given for each value, with
    the experts that hold half of its mass, the overlap of two labels' experts, and the similarity of documents within
    and between labels; and, where router logits or losses were recorded, their means. Of a run of usage, which has no
    tokens, only the load and what concerns the experts of labels is measured. Writes RUN/routing/routing.{csv,parquet}.

    Args:
        run: a run folder or its address, or its open trace.
        labels: label sets of documents to measure by, columns of the corpus or stored annotations; all by default.
        rule: how a token's mass is spread over its slots, see `specialize.measure.spread_mass`.
        cache_size: number of experts in the cache; by default a quarter of a layer's.
        permutations: permutations under the nulls.
        seed: of the nulls.
        engine: ``local``, this process; or ``ray``, workers that measure layers; the frame is the same.
        address: of a Ray cluster, see `specialize.scale.options.EngineOptions`, as for the next two.
        workers: how many; by default one for each GPU, else one for each core, at most 8.
        gpus_per_worker: GPUs of each; by default one if there are any.
        reporter: receives messages and progress.

    Returns:
        The result rows, columns of `specialize.measure.RESULT_COLUMNS`.

    Raises:
        TraceError: there is no trace.
        MeasurementError: a value is out of range, the trace holds no tokens or layers, or the run has no labels of
            documents of a name.
        EngineError: there is no Ray cluster, it has no room for the workers, or they end again and again.
    """
    from specialize.measure.results.files import write_results
    from specialize.measure.runs.routing import measure_routing

    MeasureSettings(rule, permutations, seed)
    if cache_size is not None:
        check_at_least("cache_size", cache_size, 1)
    engine_options = EngineOptions(engine, address, workers, gpus_per_worker)
    trace = open_run(run, rule=rule)
    if not trace.has_tokens:
        reporter.say(
            f"{trace.path}: no tokens, so that the load and the experts of labels are measured alone; repeats, "
            "co-activation, flow and caches need them"
        )
    known = known_annotations(trace, reporter=reporter)
    chosen = _choose({name: each for name, each in known.items() if each.level == "document"}, labels)
    if trace.has_tokens and not _has_token_ids(trace):
        reporter.say("the overlap of occurrences of a token id is left out: the trace has no token ids")
    how: dict[str, Any] = {"rule": rule, "cache_size": cache_size, "permutations": permutations, "seed": seed}
    with (
        open_engine(engine_options, reporter=reporter) as pool,
        reporter.progress("routing", "routers") as update,
    ):
        frame = measure_routing(trace, chosen, **how, engine=pool, progress=update)
    csv, _ = write_results(frame, trace.path / "routing", "routing", trace=trace)
    reporter.say(f"results: {csv}")
    return frame


def _choose(known: "dict[str, Annotation]", labels: Sequence[str] | None) -> "list[Annotation]":
    """Return the annotations of documents that are asked for, all by default."""
    listed = ", ".join(known) or "of which the run has none"
    for name in labels or ():
        if name not in known:
            raise MeasurementError(
                f"labels: expected labels of documents, {listed}, got {name!r}.{did_you_mean(name, known)}"
            )
    return [known[name] for name in dict.fromkeys(known if labels is None else labels)]


def _has_token_ids(trace: "RoutingTrace") -> bool:
    return bool(trace.num_tokens and trace.column("token_id").max() >= 0)
