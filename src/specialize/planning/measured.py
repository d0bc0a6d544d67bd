"""From short runs of a stage to what the whole stage takes: straight lines in the size of the corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from specialize.planning import constants
from specialize.planning.computed import MOST_IN_GRAPH, Job, memory_growth
from specialize.planning.plan import Amount, StagePlan
from specialize.tracing.plan import count_shards
from specialize.tracing.windows import batch_lengths

BY_CONDITION = ("switching off experts", "measuring")  # steps of an ablation whose time grows with its conditions
_PARTS = ("documents", "tokens", "experts", "weights", "logits", "norms", "headers")
_BY_TOPIC = ("bertopic", "next_bertopic", "topic_info")  # tables with rows for each topic


@dataclass(frozen=True)
class ShortRun:
    """A stage on a sample of the corpus.

    Attributes:
        documents: number of documents.
        tokens: number of recorded tokens.
        padded: number of tokens of its forward passes, with padding.
        seconds: wall time.
        cpu_seconds: time of the processor.
        steps: wall time of its steps, by title.
        cpu_steps: time of the processor of its steps, by title.
        host: largest memory of the process, in bytes.
        device: largest memory on all GPUs, in bytes; 0 without one.
        devices: GPUs on which it has memory.
        files: bytes of the files that it wrote, by path in the run folder.
    """

    documents: int
    tokens: int
    padded: int
    seconds: float
    cpu_seconds: float
    steps: Mapping[str, float]
    cpu_steps: Mapping[str, float]
    host: int
    device: int
    devices: int
    files: Mapping[str, int]

    def size(self, by: str) -> int:
        """Return its number of documents, tokens or padded tokens."""
        return int(getattr(self, by))

    def seconds_of(self, kind: str, *, cpu: bool) -> float:
        """Return the seconds that grow with the ``conditions`` of an ablation, or those of the ``rest``."""
        steps, whole = (self.cpu_steps, self.cpu_seconds) if cpu else (self.steps, self.seconds)
        own = sum(seconds for title, seconds in steps.items() if title in BY_CONDITION)
        return own if kind == "conditions" else max(0.0, whole - own)


@dataclass(frozen=True)
class ShortRuns:
    """The runs of one stage in one process, from small to large; the first one warms up.

    Attributes:
        start_seconds: wall time from the start of the process to that of the first run.
        start_cpu_seconds: time of the processor until then.
        runs: the runs.
        conditions: number of conditions of an ablation; the run that warms up has one.
    """

    start_seconds: float
    start_cpu_seconds: float
    runs: Sequence[ShortRun]
    conditions: int = 0


@dataclass(frozen=True)
class Line:
    """What does not grow, and what a unit adds."""

    fixed: float
    slope: float

    def at(self, size: float) -> float:
        """Return the value at a size."""
        return self.fixed + self.slope * size


def fit_line(points: Sequence[tuple[float, float]]) -> Line:
    """Return the line through the last two of some points, neither falling nor below zero at the origin.

    A single point gives a line through the origin, which overestimates what does not grow.
    """
    size, value = points[-1]
    if len(points) > 1 and points[-2][0] < size:
        before, less = points[-2]
        slope = min(max(0.0, (value - less) / (size - before)), value / size)
        return Line(value - slope * size, slope)
    return Line(0.0, value / max(size, 1))


def extrapolate(name: str, short: ShortRuns, job: Job) -> StagePlan:
    """Return what a stage takes, by its short runs.

    Args:
        name: of the stage.
        short: its runs.
        job: the whole job.
    """
    by = "padded" if name in ("trace", "ablate") else "tokens"
    size = job.size(name, by)
    scales = {"rest": 1.0} | ({"conditions": job.conditions / max(short.conditions, 1)} if short.conditions else {})
    seconds, cpu = (_extrapolate_time(short, by, scales, cpu=cpu) for cpu in (False, True))
    first, last = short.runs[0], short.runs[-1]
    share = first.tokens / max(job.size(name, "tokens"), 1)  # later runs of a process find memory that is not freed
    return StagePlan(
        name,
        start=Amount(short.start_seconds + seconds.fixed, "measured"),
        work=Amount(seconds.slope * size, "measured"),
        cpu=Amount(short.start_cpu_seconds + cpu.at(size), "measured"),
        host=Amount(
            first.host + max(0.0, memory_growth(name, job) - memory_growth(name, job.shrunk(share))), "measured"
        ),
        device=Amount(last.device, "measured") if last.device else None,
        disk=_extrapolate_bytes(name, short, job),
        devices=max(1, last.devices),
    )


def _extrapolate_time(short: ShortRuns, by: str, scales: Mapping[str, float], *, cpu: bool) -> Line:
    """Return the time of a stage as a line, with what only the first run of a process takes."""
    first, warm = short.runs[0], short.runs[1:] or short.runs
    lines = {kind: fit_line([(run.size(by), run.seconds_of(kind, cpu=cpu)) for run in warm]) for kind in scales}
    of_first = {"conditions": 1 / max(short.conditions, 1)}
    expected = sum(of_first.get(kind, 1.0) * line.at(first.size(by)) for kind, line in lines.items())
    warming = max(0.0, (first.cpu_seconds if cpu else first.seconds) - expected)
    return Line(
        warming + sum(scales[kind] * line.fixed for kind, line in lines.items()),
        sum(scales[kind] * line.slope for kind, line in lines.items()),
    )


def _extrapolate_bytes(name: str, short: ShortRuns, job: Job) -> dict[str, Amount]:
    warm = short.runs[1:] or short.runs
    by = "documents" if name == "topics" else "tokens"
    conditions = job.conditions / max(short.conditions, 1) if name == "ablate" else 1.0
    parts = dict.fromkeys(part for run in warm for part in _by_part(name, run.files))
    size = job.size(name, by)
    found = {}
    for part in parts:
        points = [(run.size(by), _by_part(name, run.files).get(part, 0)) for run in warm]
        if part in ("results", "manifest"):
            value = conditions * points[-1][1]
        elif part == "headers":  # of each shard
            value = points[-1][1] * count_shards(job.tokens, job.routers, job.contents, job.batch_tokens)
        elif part == "results by topic":
            grown = [own * _more_topics(run, job) for run, (_, own) in zip(warm, points, strict=True)]
            value = conditions * float(np.mean(grown))
        else:
            value = fit_line(points).at(size) * (conditions if part == "changes" else 1)
        # how many topics there will be nobody knows
        found[part] = Amount(value, "assumed" if part == "results by topic" else "measured")
    return found


def _more_topics(run: ShortRun, job: Job) -> float:
    """Return the number of topics by that of a sample.

    It grows with a power of the number of documents, up to that from which it is estimated.
    """
    reached = min(job.documents, MOST_IN_GRAPH) / min(run.documents, MOST_IN_GRAPH)
    return float(max(1.0, reached)) ** constants.TOPICS_POWER


def _by_part(name: str, files: Mapping[str, int]) -> dict[str, int]:
    """Sum the bytes of files by what they hold."""
    parts: dict[str, int] = {}
    for path, size in files.items():
        part = _part_of(name, PurePosixPath(path))
        parts[part] = parts.get(part, 0) + size
    return parts


def _part_of(name: str, path: PurePosixPath) -> str:
    folder = path.parts[0]
    if name == "trace":
        kind = path.name.partition("-")[0].partition(".")[0]
        return kind if kind in _PARTS else "manifest"
    if folder == "annotations":
        return "embeddings" if "embeddings" in path.parts else "annotation"
    if folder == "topics" and path.parts[1] == "model":
        return "topic model"
    if folder == "ablation" and (path.suffix == ".arrow" or path.name == "plan.json"):
        return "changes" if path.parts[1] == "changes" else "with all experts"
    return "results by topic" if path.stem in _BY_TOPIC else "results"


def count_padded(
    lengths: NDArray[np.integer], tokens: float, *, batch_tokens: int, first: int | None = None, largest: int = 2**20
) -> float:
    """Estimate the padded tokens of all forward passes, by drawing windows from those of a sample.

    Args:
        lengths: of the windows of a sample, in tokens, [windows].
        tokens: of all windows.
        batch_tokens: largest padded size of a batch.
        first: tokens of the first shard, each further one of which has as many as all before it; default: `largest`.
        largest: tokens of the largest shard.
    """
    rng = np.random.default_rng(0)
    seen = padded = last = 0.0
    while seen < tokens and not (last and seen > 4 * largest):
        wanted = min(largest, max(first or largest, seen), tokens - seen)
        drawn = rng.choice(lengths, max(1, round(wanted / lengths.mean())))
        last = float(sum(len(batch) * drawn[batch].max() for batch in batch_lengths(drawn, tokens=batch_tokens)))
        last /= drawn.sum()
        padded, seen = padded + last * wanted, seen + wanted
    return float(padded + last * (tokens - seen))
