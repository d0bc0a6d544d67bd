"""What `specialize ablate` measured on a run, by mode."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import pandas as pd

from specialize.choices import InterventionMode
from specialize.names import NEXT
from specialize.reporting.runs import GOLD, SYNTAX, TOPICS, RunResults
from specialize.text import is_smallest_p

MODES = {
    "drop": "its gate weight is set to 0",
    "renormalize": "its gate weight is set to 0, and the token’s other weights are scaled to the former sum",
    "reroute": "the next best expert by the model’s own scores takes its slot",
    "replace": "another expert, drawn at random, takes its slot",
}
_EXPERTS = "experts"


@dataclass(frozen=True)
class Ablation:
    """The results of one mode.

    Attributes:
        mode: what becomes of the slots of an expert that is switched off, one of `MODES`.
        experts: what needs no labels: effects and scores of each expert, removal of several; None if not measured.
        label_sets: by label set, part of speech first, labels of the next token after those of the token.
    """

    mode: str
    experts: pd.DataFrame | None
    label_sets: dict[str, pd.DataFrame]

    @property
    def means(self) -> str:
        """What the mode does, in words."""
        return f"mode {self.mode}: {MODES[self.mode]}"


def list_ablations(run: RunResults) -> list[Ablation]:
    """Return the results of each mode in which experts of a run were switched off, `drop` first."""
    by_mode: dict[str, dict[str, pd.DataFrame]] = {}
    for stem, frame in run.ablation.items():
        name, _, mode = stem.rpartition(".")
        if mode not in get_args(InterventionMode) or not name:
            name, mode = stem, "drop"
        by_mode.setdefault(mode, {})[name] = frame
    return [
        Ablation(
            mode,
            by_mode[mode].get(_EXPERTS),
            {name: by_mode[mode][name] for name in sorted(by_mode[mode], key=_place) if name != _EXPERTS},
        )
        for mode in MODES
        if mode in by_mode
    ]


def _place(label_set: str) -> tuple[int, str, bool]:
    own = label_set.removeprefix(NEXT)
    known = [SYNTAX, GOLD, TOPICS]
    return known.index(own) if own in known else len(known), own, own != label_set


@dataclass(frozen=True)
class Number:
    """A value with its interval, p-value and mean under the null; NaN for what was not measured."""

    value: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan
    p_value: float = math.nan
    p_is_smallest: bool = False
    null_mean: float = math.nan

    @property
    def is_measured(self) -> bool:
        """Whether there is a value."""
        return math.isfinite(self.value)


def find_number(frame: pd.DataFrame, metric: str, *, layer: float | None = None, label: str | None = None) -> Number:
    """Return a quantity of a layer (None: of all together) and, where given, of a label."""
    rows = frame[(frame["metric"] == metric) & frame["expert"].isna()]
    rows = rows[rows["layer"].isna() if layer is None else rows["layer"] == layer]
    rows = rows if label is None else rows[rows["label"] == label]
    if rows.empty:
        return Number()
    row = rows.iloc[0]
    value, low, high, p_value = (float(row[name]) for name in ("value", "ci_low", "ci_high", "p_value"))
    return Number(value, low, high, p_value, is_smallest_p(p_value, row["n_permutations"]), float(row["null_mean"]))


def layers_with(frame: pd.DataFrame, metrics: Sequence[str]) -> list[float | None]:
    """Return the layers of which one of `metrics` was measured, increasing, and None last if their mean was."""
    layers = frame.loc[frame["metric"].isin(metrics), "layer"]
    return [*sorted(layers.dropna().unique()), *([None] if layers.isna().any() else [])]


def of_sets(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the selectivity of the sets of experts that lead a label, a row a label, largest first."""
    rows = frame[(frame["metric"] == "effect_selectivity") & frame["expert"].isna() & frame["label"].notna()]
    return rows[rows["value"].notna()].sort_values("value", ascending=False, kind="stable")
