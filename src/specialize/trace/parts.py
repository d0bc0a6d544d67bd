"""A run that holds one of several parts of a trace: some of its shards, which other processes complete."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specialize.errors import TraceError


@dataclass(frozen=True)
class Part:
    """One of the parts that a trace is divided into.

    Attributes:
        number: of the part, from 1.
        of: number of parts.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"part {self.number} of {self.of}"


def part_of(manifest: Mapping[str, Any]) -> Part | None:
    """Return which part of a trace a manifest describes; None if it is a whole trace."""
    entry = manifest.get("part")
    return None if entry is None else Part(entry["number"], entry["of"])


def refuse_part(run: Path, manifest: Mapping[str, Any]) -> None:
    """Raise TraceError if a run holds a part of a trace.

    Args:
        run: the run folder.
        manifest: of its trace.
    """
    part = part_of(manifest)
    if part is not None:
        first = "" if manifest["complete"] else "repeat its trace to resume it, then "
        raise TraceError(
            f"{run}: expected a whole trace, got {part}{'' if manifest['complete'] else ', unfinished'}; {first}join "
            "the parts with `specialize merge`"
        )
