"""What a process that traces one of several parts finds out about itself, and says."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from specialize.events import Reporter

if TYPE_CHECKING:
    from specialize.trace.parts import Part


def choose_part(shard: str, reporter: Reporter) -> "Part":
    """Return the part of a trace that is asked for, and say how ``auto`` was understood.

    Args:
        shard: ``I/N`` or ``auto``, see `specialize.tracing.launch.read_part`.
        reporter: receives a message.

    Raises:
        TraceError: it has another form, or the environment does not number several processes.
    """
    from specialize.tracing.launch import AUTO, read_part

    part, said_by = read_part(shard, os.environ)
    if shard == AUTO:
        reporter.say(f"shard auto: {part} ({said_by})")
    return part


def choose_gpu(reporter: Reporter) -> str | None:
    """Return the GPU of a process that is one of several on its machine; None for the default.

    Args:
        reporter: receives a message.
    """
    import torch

    from specialize.tracing.launch import choose_device

    device = choose_device(os.environ, torch.cuda.device_count())
    if device is not None:
        reporter.say(f"shard auto: the model runs on {device}, as one of several processes on this machine")
    return device


def note_merging(run: Path, part: "Part", reporter: Reporter) -> None:
    """Say how the parts of a trace are joined.

    Args:
        run: the run folder of the whole trace.
        part: that is complete.
        reporter: receives the message.
    """
    from shlex import quote

    from specialize.tracing.launch import part_folder, parts_pattern

    reporter.say(
        f"{part_folder(run, part)}: {part} is complete; when all are: specialize merge {parts_pattern(run, part)} "
        f"-o {quote(str(run))}"
    )
