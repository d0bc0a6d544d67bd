"""What a stage takes by the configuration of the model, the size of the corpus and constants, without running it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from specialize.planning import constants
from specialize.planning.architecture import Architecture
from specialize.planning.plan import Amount, Basis, StagePlan
from specialize.trace.schema import RouterSpec
from specialize.tracing.plan import bytes_held, bytes_per_token, tokens_of_a_shard

MOST_IN_GRAPH = 5000  # documents from which the number of topics is estimated, see annotators.topic_clusters
_MOST_SORTED = 2**20  # tokens that a measurement holds at a time, sorted by token id
_MOST_EMBEDDED = 300  # documents whose embedding takes memory at a time
_MOST_CHANGES = 2**26  # bytes of the changes that an ablation holds


@dataclass(frozen=True)
class Hardware:
    """What the forward passes run on, where they are not measured.

    Attributes:
        tflops: peak of a device, 10¹² operations a second; None if it is not known.
        utilisation: share of the peak that is reached.
        memory: of a device, in bytes; None if it is not known.
        title: its name; None for numbers that the user gave.
        basis: of the time: computed, but for the assumed utilisation.
    """

    tflops: float | None
    utilisation: float
    memory: float | None
    title: str | None = None
    basis: Basis = "assumed"


@dataclass(frozen=True)
class Job:
    """The whole job: a corpus through a model, and what is done with the trace.

    Attributes:
        architecture: of the model.
        documents: number of documents.
        tokens: number of tokens.
        counted: how the numbers of documents and tokens are known.
        padding: tokens of the forward passes of the trace, with padding, for each token.
        padding_again: the same for those of the ablation.
        routers: that are recorded, random ones included.
        contents: what is recorded besides the experts.
        batch_tokens: padded tokens of a forward pass.
        weight_bytes: of a parameter in memory.
        label_sets: number of known label columns of documents.
        ablated: share of the documents that are run again with experts switched off.
        conditions: number of sets of experts that are switched off.
        runs_head: whether the trace needs the language-model head.
    """

    architecture: Architecture
    documents: float
    tokens: float
    counted: Basis
    padding: float
    padding_again: float
    routers: Sequence[RouterSpec]
    contents: Sequence[str]
    batch_tokens: int
    weight_bytes: int
    label_sets: int
    ablated: float
    conditions: int
    runs_head: bool = False

    def size(self, stage: str, by: str) -> float:
        """Return the documents, tokens or padded tokens of a stage."""
        whole = self.documents if by == "documents" else self.tokens
        if by == "padded":
            whole *= self.padding_again if stage == "ablate" else self.padding
        return whole * (self.ablated if stage == "ablate" else 1.0)

    def shrunk(self, factor: float) -> "Job":
        """Return the job on a share of the corpus."""
        return replace(self, documents=self.documents * factor, tokens=self.tokens * factor)


def memory_growth(stage: str, job: Job) -> float:
    """Return the bytes of memory of the host that grow with the corpus, up to what is held at a time.

    A trace holds two shards of routing and their copies, and the ids and digests of the documents. Measuring reads
    parts; tagging, topics and ablation hold columns of all tokens, texts and embeddings.
    """
    tokens, documents = job.size(stage, "tokens"), job.size(stage, "documents")
    if stage == "trace":
        shard = min(tokens, tokens_of_a_shard(job.routers, job.contents, job.batch_tokens))
        return 3 * shard * bytes_held(job.routers, job.contents) + 250 * documents
    text = constants.CHARACTERS * tokens + 200 * documents
    if stage == "syntax":
        return text + 45 * tokens + 100 * min(tokens, _MOST_SORTED)
    if stage == "topics":
        pairs = min(documents, MOST_IN_GRAPH) ** 2
        held = 8000 * documents + 50 * pairs + 400_000 * min(documents, _MOST_EMBEDDED)
        return text + held + 100 * min(tokens, _MOST_SORTED)
    routed = 4 * sum(router.top_k for router in job.routers if router.routing == "learned")
    return text + (60 + routed) * tokens + min(64 * tokens, _MOST_CHANGES)


def compute(stage: str, job: Job, hardware: Hardware) -> StagePlan:
    """Return what a stage takes."""
    return {"trace": _trace, "syntax": _syntax, "topics": _topics, "ablate": _ablate}[stage](job, hardware)


def disk_of_trace(job: Job) -> dict[str, Amount]:
    """Return the bytes of a trace by part, from the estimate that is printed before a trace."""
    parts = bytes_per_token(job.routers, job.contents)
    return {name: Amount(job.tokens * size, "computed") for name, size in parts.items()}


def _trace(job: Job, hardware: Hardware) -> StagePlan:
    work = _forward_seconds(job, hardware, job.size("trace", "padded"))
    return replace(_captured("trace", job, hardware, with_head=job.runs_head), work=work, disk=disk_of_trace(job))


def _syntax(job: Job, hardware: Hardware) -> StagePlan:
    del hardware
    seconds = job.tokens * (constants.TAGGING + len(job.routers) * constants.MEASURING_TOKENS)
    cells = _cells(job, "token")
    disk = {"annotation": Amount(constants.TAG * job.tokens, "assumed"), "results": Amount(cells, "assumed")}
    return _on_processor("syntax", job, seconds, disk)


def _topics(job: Job, hardware: Hardware) -> StagePlan:
    del hardware
    sets = 1 + job.label_sets
    fitting = job.documents * (constants.EMBEDDING + constants.FITTING)
    seconds = fitting + sets * job.tokens * len(job.routers) * constants.MEASURING_DOCUMENTS
    disk = {
        "embeddings": Amount(constants.EMBEDDED * job.documents, "assumed"),
        "results": Amount(sets * _cells(job, "document"), "assumed"),
    }
    return _on_processor("topics", job, seconds, disk)


def _ablate(job: Job, hardware: Hardware) -> StagePlan:
    again = 3 + constants.LAYERS_AGAIN * job.conditions  # with all experts, and twice for their saliency
    work = _forward_seconds(job, hardware, again * job.size("ablate", "padded"))
    tokens, sets = job.size("ablate", "tokens"), 3 + job.label_sets
    labels = 2 * constants.LABELS["token"] + (1 + job.label_sets) * constants.LABELS["document"]  # and next ones
    if work is not None:
        work += Amount(constants.MEASURING_CONDITIONS * sets * job.conditions * tokens, "assumed")
    disk = {
        "changes": Amount((4 + constants.CHANGE * job.conditions) * tokens, "assumed"),
        "results": Amount(constants.CONDITION_CELL * labels * job.conditions, "assumed"),
    }
    return replace(_captured("ablate", job, hardware, with_head=True), work=work, disk=disk)


def _cells(job: Job, level: str) -> float:
    experts = sum(router.num_experts for router in job.routers)
    return experts * constants.LABELS[level] * constants.CELL[level]


def _on_processor(stage: str, job: Job, seconds: float, disk: dict[str, Amount]) -> StagePlan:
    return StagePlan(
        stage,
        start=Amount(constants.IMPORTING[stage], "assumed"),
        work=Amount(seconds, "assumed"),
        host=Amount(constants.PROCESS[stage] + memory_growth(stage, job), "assumed"),
        device=None,
        disk=disk,
    )


def _forward_seconds(job: Job, hardware: Hardware, tokens: float) -> Amount | None:
    """Return 2 x active parameters x tokens / (peak x utilisation); None if a factor is unknown."""
    active = job.architecture.active_parameters
    if active is None or hardware.tflops is None:
        return None
    return Amount(2 * active * tokens / (1e12 * hardware.tflops * hardware.utilisation), hardware.basis)


def _captured(stage: str, job: Job, hardware: Hardware, *, with_head: bool) -> StagePlan:
    """Return the start, the memory and the devices of a stage that runs the model."""
    total = job.architecture.parameters
    weights = None if total is None else float(total * job.weight_bytes)
    needed = None if weights is None else weights + activation_bytes(job, with_head=with_head)
    seconds = constants.IMPORTING[stage] + (weights or 0.0) / constants.LOADING + constants.READING * job.tokens
    devices, host, device = 1, None, None
    if needed is not None and weights is not None:
        grown = constants.PROCESS[stage] + memory_growth(stage, job)
        if hardware.tflops is None and hardware.memory is None:  # on the processor
            host = Amount(needed + grown, "assumed")
        else:
            device = Amount(needed, "computed")
            devices = 1 if hardware.memory is None else ceil(needed / (constants.USABLE * hardware.memory))
            host = Amount((weights if devices == 1 else min(weights, constants.LOADED_AT_ONCE)) + grown, "assumed")
    return StagePlan(stage, Amount(seconds, "assumed"), None, host, device, {}, devices=devices)


def activation_bytes(job: Job, *, with_head: bool) -> float:
    """Return the bytes of what a forward pass holds besides the weights, in a layer and for the head.

    A layer: twelve hidden states of each token, and of each of its k experts one input, one output and three inner
    states. The head: logits in single precision, twice.
    """
    model = job.architecture
    width, inner = model.hidden_size or 0, model.expert_width or 0
    layer = job.weight_bytes * (12 * width + model.top_k * (2 * width + 3 * inner))
    head = 8 * (model.vocab_size or 0) if with_head else 0
    return float(job.batch_tokens * (layer + head))
