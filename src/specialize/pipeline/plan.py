"""What a job will take, before it starts: the stage that runs nothing, or only a little of each other one."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

from specialize.choices import CONTROL_DRAWS, Control, Dtype, TextUnit, check_positive
from specialize.errors import PlanError, did_you_mean
from specialize.events import SILENT, Reporter
from specialize.planning.constants import ACCELERATORS, UTILISATION
from specialize.text import split_names

if TYPE_CHECKING:
    import pandas as pd

    from specialize.corpus import Corpus
    from specialize.planning.architecture import Architecture
    from specialize.planning.computed import Hardware
    from specialize.planning.plan import Plan


def plan(
    model: str | PathLike[str],
    corpus: "str | PathLike[str] | Sequence[Any] | pd.DataFrame | Iterable[Mapping[str, Any]] | Corpus | None" = None,
    *,
    tokens: int | None = None,
    documents: int | None = None,
    stages: Sequence[str] = ("trace", "syntax", "topics", "ablate"),
    text_column: str | None = None,
    messages_column: str | None = None,
    id_column: str | None = None,
    labels: Sequence[str] | None = None,
    group: str | None = None,
    unit: TextUnit = "file",
    limit: int | None = None,
    sample: int | None = None,
    sample_seed: int = 0,
    dtype: Dtype = "auto",
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_missing_weights: bool = False,
    context: int | None = None,
    max_tokens: int | None = None,
    batch_tokens: int = 8192,
    weights: bool = True,
    logits: bool = False,
    norms: bool = False,
    predictions: bool = False,
    control: Control | None = None,
    control_draws: int = CONTROL_DRAWS,
    ablated_documents: int | None = None,
    conditions: int | None = None,
    measure: bool | None = None,
    hardware: str | None = None,
    tflops: float | None = None,
    utilisation: float = UTILISATION,
    device_memory: float | None = None,
    active_parameters: float | None = None,
    hours: float | None = None,
    price_per_hour: float | None = None,
    reporter: Reporter = SILENT,
) -> "Plan":
    """Say what tracing and measuring will take: bytes on disk, memory, time, workers and cost, by stage.

    Where the weights and the corpus are here, each stage is run on samples of the corpus, in a process of its own, and
    what it took is extrapolated. Otherwise, or for other hardware, the numbers come from the model's configuration and
    from constants. Each number says which.

    Args:
        model: a checkpoint folder, a config.json alone, or the id of a model on the Hugging Face hub.
        corpus: as of `specialize.trace_corpus`, but for a run folder; or `tokens` and `documents` instead.
        tokens: number of tokens of a corpus that is not here.
        documents: number of its documents.
        stages: what is planned, of trace, syntax, topics and ablate.
        text_column: as of `specialize.trace_corpus`, like the other options of corpus, model and recording.
        messages_column: column of conversations.
        id_column: column of the document ids.
        labels: columns of known labels.
        group: column that says which documents belong together.
        unit: what a document of plain text is.
        limit: largest number of documents.
        sample: number of documents to draw at random.
        sample_seed: of the draw.
        dtype: precision of the model.
        device: of the model.
        device_map: how accelerate spreads the model over devices.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with the checkpoint.
        allow_missing_weights: accept a checkpoint that lacks weights.
        context: length of a window in tokens.
        max_tokens: largest number of tokens of a document.
        batch_tokens: padded tokens per forward pass.
        weights: record gate weights.
        logits: record router logits.
        norms: record the norms of the experts' outputs.
        predictions: record predicted tokens and losses.
        control: ``random-router`` records random routers.
        control_draws: how many beside each of the model's.
        ablated_documents: documents that are run again with experts switched off; default: all.
        conditions: sets of experts that are switched off; default: each expert alone.
        measure: run the stages on samples; default: if weights and corpus are here, and no other hardware is named.
        hardware: accelerator of the forward passes, by name: a100, h100, h200, b200 or mi300x. Default: this machine.
        tflops: peak of a device in bfloat16, 10¹² operations a second; default: that of the hardware.
        utilisation: share of the peak that forward passes reach.
        device_memory: of a device, in gigabytes (10⁹ bytes); default: that of the hardware.
        active_parameters: parameters that a token uses; default: from the configuration.
        hours: wanted wall time of each stage, for which the number of workers is given.
        price_per_hour: of one device.
        reporter: receives messages and progress.

    Returns:
        The plan; `Plan.as_dict` has all numbers with their units and how they are known.

    Raises:
        PlanError: a number is out of range, or there is too little to plan from.
        CaptureError: an option of the model or of the recording is invalid, or a short run fails.
        CorpusError: the corpus cannot be read.
        TraceError: there is no configuration, or it is not that of a Mixture-of-Experts model.
    """
    from specialize.planning.architecture import read_architecture
    from specialize.planning.corpus import count_given, survey
    from specialize.planning.report import make_plan, note_unknown
    from specialize.tracing.options import TraceOptions
    from specialize.tracing.reading import choose_context

    chosen = _check_stages(stages)
    _check_numbers(
        {"tflops": tflops, "device_memory": device_memory, "active_parameters": active_parameters, "hours": hours}
    )
    if not 0 < utilisation <= 1:
        raise PlanError(f"utilisation: expected a share above 0, at most 1, got {utilisation}")
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise PlanError(f"price_per_hour: expected a price of at least 0, got {price_per_hour}")
    counts = {"tokens": tokens, "documents": documents}
    more = {"ablated_documents": ablated_documents, "conditions": conditions}
    for name, value in (counts | more).items():
        if value is not None:
            check_positive(name, value, error=PlanError)
    options = TraceOptions(
        context=context,
        max_tokens=max_tokens,
        batch_tokens=batch_tokens,
        control=control,
        control_draws=control_draws,
        weights=weights,
        logits=logits,
        norms=norms,
        predictions=predictions,
    )
    machine = _choose_hardware(hardware, tflops, utilisation, device_memory)
    elsewhere = machine.tflops is not None or machine.memory is not None
    measured = _decide(measure, model, corpus, elsewhere=elsewhere)
    architecture = read_architecture(model, active_parameters=active_parameters, trust_remote_code=trust_remote_code)
    choose_context(architecture.longest, context)  # raises an error if it is too long
    columns = {
        "text_column": text_column,
        "messages_column": messages_column,
        "id_column": id_column,
        "labels": labels,
        "group": group,
        "unit": unit,
        "limit": limit,
        "sample": sample,
        "sample_seed": sample_seed,
    }
    if corpus is None:
        _refuse_without_corpus(columns)
        counted = count_given(counts, max_tokens=max_tokens)
    elif any(value is not None for value in counts.values()):
        raise PlanError("expected a corpus or its numbers of tokens and documents, got both; leave one out")
    else:
        counted = survey(model, architecture, corpus, columns, options, reporter=reporter)
    job = counted.as_job(
        architecture,
        options,
        weight_bytes=_weight_bytes(dtype, architecture, on_processor=not elsewhere),
        ablated_documents=ablated_documents,
        conditions=conditions,
    )
    if measured:
        from specialize.pipeline.short_runs import measure_stages

        loading = {
            "dtype": dtype,
            "device": device,
            "device_map": device_map,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "allow_missing_weights": allow_missing_weights,
        }
        found = measure_stages(
            fspath(model), counted, options, job=job, stages=chosen, loading=loading, reporter=reporter
        )
    else:
        from specialize.planning.computed import compute

        found = [compute(stage, job, machine) for stage in chosen]
        for note in note_unknown(architecture, machine):
            reporter.say(f"note: {note}")
    return make_plan(job, found, counted, machine, measured=measured, hours=hours, price_per_hour=price_per_hour)


def _refuse_without_corpus(columns: Mapping[str, Any]) -> None:
    """Raise PlanError if it is said how a corpus is read that is not there: what is planned would be all of it."""
    given = [name for name, value in columns.items() if value is not None and name not in ("unit", "sample_seed")]
    if given:
        raise PlanError(f"{given[0]}: expected it with a corpus, got none; leave it out, or give the corpus")


def _check_stages(stages: Sequence[str]) -> tuple[str, ...]:
    from specialize.planning.plan import STAGES

    given = split_names(stages)
    unknown = [name for name in given if name not in STAGES]
    if unknown or not given:
        got = f"{unknown[0]!r}.{did_you_mean(unknown[0], STAGES)}" if unknown else "none"
        raise PlanError(f"stages: expected any of {', '.join(STAGES)}, got {got}")
    return tuple(name for name in STAGES if name in given)


def _check_numbers(numbers: Mapping[str, float | None]) -> None:
    for name, value in numbers.items():
        if value is not None and not 0 < value < float("inf"):
            raise PlanError(f"{name}: expected a positive number, got {value}")


def _choose_hardware(
    name: str | None, tflops: float | None, utilisation: float, device_memory: float | None
) -> "Hardware":
    from specialize.planning.computed import Hardware

    if name is None:
        memory = None if device_memory is None else 1e9 * device_memory
        return Hardware(tflops, utilisation, memory)
    if name not in ACCELERATORS:
        raise PlanError(
            f"hardware: expected one of {', '.join(ACCELERATORS)}, got {name!r:.60}; give tflops and device_memory of "
            f"another one.{did_you_mean(name, ACCELERATORS)}"
        )
    found = ACCELERATORS[name]
    memory = found.memory if device_memory is None else 1e9 * device_memory
    return Hardware(tflops or found.tflops, utilisation, memory, found.title)


def _decide(measure: bool | None, model: str | PathLike[str], corpus: object, *, elsewhere: bool) -> bool:
    """Return whether stages are run on samples; raise PlanError if they are to be, and cannot."""
    from specialize.planning.architecture import find_weights

    has_weights = find_weights(model)
    if measure is None:
        return has_weights is True and corpus is not None and not elsewhere
    if measure and corpus is None:
        raise PlanError("measure: expected a corpus, of which samples are run, got none; give one, or do not measure")
    if measure and has_weights is False:
        raise PlanError(f"measure: expected a checkpoint with weights, {fspath(model)} has none; do not measure")
    if measure and elsewhere:
        raise PlanError(
            "measure: expected no other hardware, since this machine is measured; leave out hardware, tflops and "
            "device_memory, or do not measure"
        )
    return measure


def _weight_bytes(dtype: Dtype, architecture: "Architecture", *, on_processor: bool) -> int:
    if dtype == "auto":
        return 4 if on_processor else architecture.stored_bytes
    return 4 if dtype == "float32" else 2
