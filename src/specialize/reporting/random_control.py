"""A run's router among the random routers beside it, as the result files have it."""

import math
from dataclasses import dataclass

from specialize.reporting.formatting import ALPHA
from specialize.reporting.runs import RunResults

AMONG = "uncertainty_coefficient_among_random_routers"
_DIFFERENCE = "difference of uncertainty_coefficient"
_DRAWS = "random_router_draws"


@dataclass(frozen=True)
class RandomControl:
    """U of the learned router at one layer among random routers on the same hidden states.

    Shares are of H(label), 0.2 for 20 %.

    Attributes:
        draws: number of random routers.
        value: U of the learned router.
        mean, low, high: mean, smallest and largest U of the random routers.
        place_p: (1 + random routers with a U at least as large) / (1 + random routers).
        difference, ci_low, ci_high: U of the learned router minus the mean, paired over blocks of documents, with its
            95 % interval.
        difference_p: p-value of the paired t test of the difference against 0.
    """

    draws: int
    value: float
    mean: float
    low: float
    high: float
    place_p: float
    difference: float
    ci_low: float
    ci_high: float
    difference_p: float

    @property
    def num_below(self) -> int:
        """Number of random routers with a smaller U than the learned router."""
        return 1 + self.draws - round(self.place_p * (1 + self.draws))

    @property
    def is_p_limited(self) -> bool:
        """Whether `place_p` is the smallest that so many random routers allow, and not significant for that reason."""
        return self.num_below == self.draws and self.place_p > ALPHA

    @property
    def is_below_all(self) -> bool:
        """Whether all random routers have a larger U."""
        return self.value < self.low


def find_random_control(run: RunResults, label_set: str, layer: int | None) -> RandomControl | None:
    """Return the comparison with random routers at `layer`, or None where it was not measured.

    Results of earlier versions have U of one random router, but not the comparison.
    """
    frame = run.frames[label_set]
    rows = frame[(frame["layer"] == layer) & frame["metric"].isin([AMONG, _DIFFERENCE, _DRAWS])]
    rows = rows.drop_duplicates("metric").set_index("metric")
    if len(rows) < 3 or not math.isfinite(rows.loc[AMONG, "value"]):
        return None
    among, difference = rows.loc[AMONG], rows.loc[_DIFFERENCE]
    return RandomControl(
        draws=int(rows.loc[_DRAWS, "value"]),
        value=float(among["value"]),
        mean=float(among["null_mean"]),
        low=float(among["null_low"]),
        high=float(among["null_high"]),
        place_p=float(among["p_value"]),
        difference=float(difference["value"]),
        ci_low=float(difference["ci_low"]),
        ci_high=float(difference["ci_high"]),
        difference_p=float(difference["p_value"]),
    )
