"""Which part of a trace a process makes: as it is given, or as Slurm or torchrun have numbered the processes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from specialize.errors import TraceError, show_value
from specialize.trace.parts import Part

AUTO = "auto"
_FORM = "expected I/N with I from 1 to N, such as 1/2 and 2/2, or auto"
_INSTEAD = "give the part, such as --shard 1/2"


@dataclass(frozen=True)
class _Place:
    """The number of a process among several, from 0, and how the environment says so."""

    index: int
    count: int
    said_by: str


def read_part(shard: str, environment: Mapping[str, str]) -> tuple[Part, str]:
    """Return the part of a trace that is asked for, and in words where its number comes from.

    With ``auto``, tasks of a Slurm job array are numbered by ``SLURM_ARRAY_TASK_ID``, and processes by torchrun's
    ``RANK`` and ``WORLD_SIZE``, or else, in a step of srun, by ``SLURM_PROCID`` and ``SLURM_NTASKS``: srun starts
    torchrun, whose processes are those that trace. Where there are an array and processes, each process of each task
    has a part.

    Args:
        shard: ``I/N``, the I-th of N parts, from 1; or ``auto``.
        environment: the variables of the process.

    Raises:
        TraceError: it has another form, or the environment does not number several processes.
    """
    if shard == AUTO:
        return _read_environment(environment)
    form = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard) if isinstance(shard, str) else None
    if form is None or not 1 <= int(form[1]) <= int(form[2]):
        raise TraceError(f"shard: {_FORM}, got {show_value(shard)}")
    return Part(int(form[1]), int(form[2])), "as given"


def part_folder(run: Path, part: Part) -> Path:
    """Return the run folder of a part: beside that of the whole trace, so that all processes can be given that one.

    Raises:
        TraceError: `run` is the folder of a part, or has no name.
    """
    return _beside(run, f".part-{part.number:0{len(str(part.of))}}-of-{part.of}")


def parts_pattern(run: Path, part: Part) -> str:
    """Return a shell pattern of the run folders of all parts, as a word of a command."""
    return f"{quote(str(_beside(run, '.part-')))}*-of-{part.of}"


def choose_device(environment: Mapping[str, str], count: int) -> str | None:
    """Return the GPU of a process that is one of several on its machine; None for the default.

    Args:
        environment: the variables of the process; torchrun and srun number those on a machine.
        count: number of GPUs that the process can use. Where Slurm gives each process its own, it is 1.
    """
    number = environment.get("LOCAL_RANK") or environment.get("SLURM_LOCALID") or ""
    return f"cuda:{int(number) % count}" if count > 1 and number.isdecimal() else None


def _beside(run: Path, ending: str) -> Path:
    named = run if run.name not in ("", "..") else run.resolve()
    whole = re.sub(r"\.part-[0-9]+-of-[0-9]+$", "", named.name)
    if not named.name or whole != named.name:
        instead = f"such as {named.with_name(whole)}, got that of a part" if whole else "got one without a name"
        raise TraceError(f"{run}: expected with shard the folder of the whole trace, {instead}")
    return named.with_name(f"{named.name}{ending}")


def _read_environment(environment: Mapping[str, str]) -> tuple[Part, str]:
    places = [place for place in (_array(environment), _process(environment)) if place is not None]
    if not places:
        raise TraceError(
            "shard auto: expected a task of a Slurm array (SLURM_ARRAY_TASK_ID), or a process of torchrun (RANK, "
            "WORLD_SIZE) or srun (SLURM_STEP_ID, SLURM_PROCID, SLURM_NTASKS), found no such variables; start the "
            f"command with one of these, or {_INSTEAD}"
        )
    index, count = 0, 1
    for place in places:
        index, count = index * place.count + place.index, count * place.count
    said = ", ".join(place.said_by for place in places)
    if count == 1:
        # an array of the one task that failed, for instance, whose number among the parts is not known
        raise TraceError(f"shard auto: expected several tasks or processes, got one ({said}); {_INSTEAD}")
    return Part(index + 1, count), said


def _array(environment: Mapping[str, str]) -> _Place | None:
    """Return the place of a task in a Slurm job array, whose ids have equal distances."""
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return None
    task, first, count = (_number(environment, f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "COUNT"))
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", default=1)
    last = _number(environment, "SLURM_ARRAY_TASK_MAX", default=first + (count - 1) * step)
    index, rest = divmod(task - first, step) if step else (0, 1)
    if rest or not 0 <= index < count or last != first + (count - 1) * step:
        raise TraceError(
            f"shard auto: expected a Slurm array without gaps, such as --array=1-{max(count, 2)}, got task {task} of "
            f"{count:,} from {first} to {last}; {_INSTEAD}"
        )
    return _Place(index, count, f"SLURM_ARRAY_TASK_ID {task} of {first} to {last}")


def _process(environment: Mapping[str, str]) -> _Place | None:
    """Return the place of a process among those that torchrun or srun started."""
    if {"RANK", "WORLD_SIZE"} & environment.keys():
        names = ("RANK", "WORLD_SIZE")
    elif {"SLURM_STEP_ID", "SLURM_PROCID", "SLURM_NTASKS"} <= environment.keys():
        # without a step it is the script of the job, which is a single process however many tasks the job has
        names = ("SLURM_PROCID", "SLURM_NTASKS")
    else:
        return None
    index, count = (_number(environment, name) for name in names)
    if index >= count:
        raise TraceError(f"shard auto: expected {names[0]} below {names[1]}, got {index} and {count}; {_INSTEAD}")
    return _Place(index, count, f"{names[0]} {index} of {names[1]} {count}")


def _number(environment: Mapping[str, str], name: str, *, default: int | None = None) -> int:
    value = environment.get(name)
    if value is None and default is not None:
        return default
    if value is None or not re.fullmatch("[0-9]{1,9}", value):
        got = "none" if value is None else show_value(value)
        raise TraceError(f"shard auto: expected a whole number in the variable {name}, got {got}; {_INSTEAD}")
    return int(value)
