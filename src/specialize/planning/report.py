"""A plan from what its stages take, with what it assumes."""

from collections.abc import Iterator, Sequence

from specialize.planning import constants
from specialize.planning.architecture import Architecture
from specialize.planning.computed import Hardware, Job
from specialize.planning.corpus import Counted
from specialize.planning.plan import Amount, Plan, StagePlan
from specialize.text import format_bytes


def make_plan(
    job: Job,
    stages: Sequence[StagePlan],
    counted: Counted,
    hardware: Hardware,
    *,
    measured: bool,
    hours: float | None,
    price_per_hour: float | None,
) -> Plan:
    """Return the plan of a job.

    Args:
        job: the whole job.
        stages: what each of its stages takes.
        counted: its corpus.
        hardware: of the forward passes, if they are not measured.
        measured: whether the stages were run on samples.
        hours: wanted wall time of each stage.
        price_per_hour: of a device.
    """
    divided = tuple(stage if hours is None else stage.divided(hours) for stage in stages)
    return Plan(
        job.architecture,
        None if counted.corpus is None else counted.corpus.source,
        documents=Amount(counted.documents, "assumed" if counted.corpus is None else "measured"),
        tokens=Amount(counted.tokens, counted.basis),
        stages=divided,
        assumptions=(
            *counted.notes,
            *(_of_samples(job, divided) if measured else _of_constants(job, divided, hardware)),
            *_of_workers(divided, hours, price_per_hour),
        ),
        hours=hours,
        price_per_hour=price_per_hour,
        machine={
            "name": "this machine" if measured else hardware.title,
            "tflops": hardware.tflops,
            "utilisation": None if measured else hardware.utilisation,
            "device_memory_bytes": hardware.memory,
        },
    )


def note_unknown(architecture: Architecture, hardware: Hardware) -> Iterator[str]:
    """Yield what has to be given for a number that is unknown, one line each."""
    if architecture.active_parameters is None:
        yield (
            f"the time of forward passes is unknown: the active parameters of {architecture.name} are, because "
            f"{architecture.why_unknown}; give active_parameters (--active-parameters)"
        )
    if hardware.tflops is None:
        yield (
            "the time of forward passes is unknown: they were not measured, and no hardware is named; give hardware "
            "or tflops (--hardware, --tflops)"
        )


def _names(stages: Sequence[StagePlan]) -> set[str]:
    return {stage.name for stage in stages}


def _of_samples(job: Job, stages: Sequence[StagePlan]) -> Iterator[str]:
    yield (
        "time, memory and bytes grow from samples of the corpus to the whole in straight lines, on this machine with "
        "the load that it has now; warming up is counted once"
    )
    yield f"forward passes: {job.padding:.2f} tokens with padding for each token, by the lengths of a sample"
    yield "memory: that of the smallest sample, and what the code holds for each token and document"
    if "topics" in _names(stages):
        yield (
            f"results by topic: grow with the number of topics, that with the documents to the power of "
            f"{constants.TOPICS_POWER}, up to 5,000 documents"
        )
    if "ablate" in _names(stages):
        yield from _of_ablation(job)


def _of_constants(job: Job, stages: Sequence[StagePlan], hardware: Hardware) -> Iterator[str]:
    names = _names(stages)
    captured = [stage for stage in stages if stage.name in ("trace", "ablate")]
    if captured and hardware.tflops is not None and job.architecture.active_parameters is not None:
        yield (
            f"forward passes: 2 x {job.architecture.active_parameters:.3g} active parameters x tokens / "
            f"({hardware.tflops:g} TFLOP/s{f' of one {hardware.title}' if hardware.title else ''} x "
            f"{hardware.utilisation:g} utilisation), without attention between tokens"
        )
    if captured:
        yield (
            f"weights: {job.weight_bytes} bytes a parameter, loaded at {format_bytes(constants.LOADING)}/s; "
            f"activations of {job.batch_tokens:,} tokens"
        )
    if any(stage.devices > 1 for stage in captured):
        yield (
            "a model on several devices runs on one of them at a time (--device-map auto): they add memory, not speed; "
            f"{100 * constants.USABLE:.0f} % of a device's memory can be used"
        )
    if "trace" in names:
        yield "bytes of a trace: as of compressed traces of English text"
    if "syntax" in names:
        yield (
            f"syntax: {1e6 * constants.TAGGING:.0f} s to tag a million tokens, "
            f"{1e6 * constants.MEASURING_TOKENS:.0f} s to measure them in a layer; {constants.LABELS['token']} labels"
        )
    if "topics" in names:
        yield (
            f"topics: {1e3 * (constants.EMBEDDING + constants.FITTING):.0f} s to embed and cluster a thousand "
            f"documents, {1e6 * constants.MEASURING_DOCUMENTS:.1f} s to measure a million tokens in a layer; "
            f"{constants.LABELS['document']} topics"
        )
    if names & {"syntax", "topics"}:
        yield "syntax and topics: one process on two cores of a server CPU, default options"
    if "ablate" in names:
        yield (
            f"ablate: {constants.LAYERS_AGAIN:.0%} of the layers are computed again for a condition; results are read "
            f"and measured at {1 / constants.MEASURING_CONDITIONS:,.0f} tokens and conditions a second"
        )
        yield from _of_ablation(job)


def _of_ablation(job: Job) -> Iterator[str]:
    alone = len(job.architecture.moe_layers) * job.architecture.num_experts
    what = "each expert alone" if job.conditions == alone else "as given"
    yield f"ablate: {job.conditions:,} conditions ({what}) on {100 * job.ablated:.3g} % of the documents"


def _of_workers(stages: Sequence[StagePlan], hours: float | None, price: float | None) -> Iterator[str]:
    if hours is not None:
        yield (
            f"workers: so many that each stage takes at most {hours:g} h, in independent shards of equal size; each "
            "has its own start"
        )
        late = [stage.name for stage in stages if stage.workers is None and stage.work is not None]
        if late:
            yield f"no number of workers is enough for {', '.join(late)}: the start of a worker alone takes longer"
    if price is not None:
        yield f"cost: {price:g} for each hour of a device, for stages without one for each hour of a machine"
