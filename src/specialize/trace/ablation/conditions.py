"""Conditions of an ablation: experts that are switched off together, and why."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from specialize.choices import InterventionMode


@dataclass(frozen=True)
class Condition:
    """Experts that are switched off together.

    Attributes:
        experts: pairs (name of the router, expert), sorted and different.
        mode: what becomes of their slots, see `specialize.intervene`.
        seed: of mode replace; 0 in the others, which draw nothing.
    """

    experts: tuple[tuple[str, int], ...]
    mode: InterventionMode = "drop"
    seed: int = 0

    @classmethod
    def of(cls, experts: Sequence[tuple[str, int]], mode: InterventionMode, seed: int) -> "Condition":
        """Make a condition of experts in any order."""
        pairs = tuple(sorted({(router, index(expert)) for router, expert in experts}))
        return cls(pairs, mode, seed if mode == "replace" else 0)

    @property
    def key(self) -> str:
        """Name of its file, the same for the same experts, mode and seed."""
        text = json.dumps([self.experts, self.seed])
        return f"{self.mode}-{len(self.experts)}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


@dataclass(frozen=True)
class LeadingSet:
    """The experts that lead a label, and load-matched random sets of as many.

    Attributes:
        label_set: name of the annotation.
        label: one of its labels.
        experts: pairs (name of the router, expert).
        random: random sets, likewise.
    """

    label_set: str
    label: str
    experts: tuple[tuple[str, int], ...]
    random: tuple[tuple[tuple[str, int], ...], ...]

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "LeadingSet":
        """Make it of an entry of the plan."""
        return cls(
            str(entry["label_set"]),
            str(entry["label"]),
            _pairs(entry["experts"]),
            tuple(_pairs(each) for each in entry["random"]),
        )


@dataclass(frozen=True)
class Removal:
    """The first experts of a ranking, switched off together.

    Attributes:
        ranking: saliency, load, lift or random.
        experts: pairs (name of the router, expert), of all layers.
    """

    ranking: str
    experts: tuple[tuple[str, int], ...]

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> "Removal":
        """Make it of an entry of the plan."""
        return cls(str(entry["ranking"]), _pairs(entry["experts"]))


def _pairs(entry: Any) -> tuple[tuple[str, int], ...]:
    """Read pairs of a plan; raise TypeError where an expert is no whole number, which would be rounded in silence."""
    return tuple((str(router), index(expert)) for router, expert in entry)
