"""What a report concludes about one run and label set: decided here, once; `wording` puts it into words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from specialize.reporting.findings import Finding, Record, find_best
from specialize.reporting.formatting import ALPHA
from specialize.reporting.random_control import RandomControl, find_random_control
from specialize.reporting.runs import RunResults
from specialize.text import is_smallest_p

_MOSTLY_TOKEN = 0.5  # share of the information that has to be left given the token id


class Outcome(StrEnum):
    """How a value compares with its null; see `decide_outcome`."""

    TOO_LITTLE_DATA = "too little data"
    NOT_TESTED = "not tested"
    AT_CHANCE = "at chance"
    UNCLEAR = "unclear"
    ABOVE_CHANCE = "above chance"


class AgainstRandom(StrEnum):
    """How the learned router compares with random routers (control) at the layer of its largest U.

    Above: the 95 % interval of the paired difference from their mean lies above 0, and the learned router has a larger
    U than each of them; below likewise. Not compared: results of an earlier version.
    """

    NOT_RECORDED = "not recorded"
    NOT_COMPARED = "not compared"
    ABOVE = "above"
    NOT_CLEARLY_ABOVE = "not clearly above"
    BELOW = "below"


class ExplainedByToken(StrEnum):
    """Whether token identity explains most of the association; unknown for documents and where it was not measured."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class TokenControl:
    """The association of expert and label given the token id, over ids that occur with more than one label, in bits.

    Attributes:
        whole: I(expert; label) over the tokens of those ids.
        within: I(expert; label | token id) over the same tokens.
        null_mean: mean of `within` with the labels permuted inside each id.
        p_value: of `within` against that null.
        p_is_smallest: whether it is the smallest that the permutations allow.
    """

    whole: float
    within: float
    null_mean: float
    p_value: float
    p_is_smallest: bool = False


@dataclass(frozen=True)
class Verdict:
    """The conclusion about one run and label set, with every number that it rests on.

    Shares are of H(label), 0.2 for 20 %; NaN where something was not measured.

    Attributes:
        label_set: what the labels are.
        level: ``token`` or ``document``, whichever has the labels.
        layer: where U is largest.
        num_layers: layers that it is the largest of.
        outcome: the value against chance.
        against_random: the value against random routers.
        explained_by_token: whether token identity explains most of it.
        value, ci_low, ci_high: U and its 95 % interval.
        null_mean: mean of U under the null.
        p_value: of the largest value over the layers.
        p_is_smallest: whether it is the smallest that the permutations allow, so that p and q are upper bounds.
        q_value: `p_value` after Benjamini-Hochberg over the tests of the report; NaN with too little data.
        num_tests: number of these tests.
        shortage: why there is too little data; an empty string where there is enough.
        random: the comparison with random routers at this layer, or None.
        token: the control for token identity of labels of tokens, or None.
    """

    label_set: str
    level: str
    layer: int | None
    num_layers: int
    outcome: Outcome
    against_random: AgainstRandom
    explained_by_token: ExplainedByToken
    value: float
    ci_low: float
    ci_high: float
    null_mean: float
    p_value: float
    p_is_smallest: bool
    q_value: float
    num_tests: int
    shortage: str
    random: RandomControl | None = None
    token: TokenControl | None = None


Verdicts = dict[str, dict[str, Verdict]]  # by the name of the run and the label set


def judge_runs(runs: Sequence[RunResults], records: Sequence[Record]) -> Verdicts:
    """Return the verdicts of a report: on every run and label set that was measured, in the order of the label sets.

    They are made together, because the tests are corrected for their number. Label sets with too little data are not
    among them: no claim can come of them.

    Args:
        runs: what was measured.
        records: those of the runs.

    Source:
        Benjamini & Hochberg (1995), Controlling the false discovery rate.
    """
    found = [
        (run, finding)
        for run in runs
        for label_set in run.label_sets
        if (finding := find_best(records, run.name, label_set)) is not None
    ]
    p_values = np.array([math.nan if has_shortage(finding.best) else finding.p_value for _, finding in found])
    tested = np.isfinite(p_values)
    q_values = np.full(len(found), np.nan)
    q_values[tested] = false_discovery_control(p_values[tested]) if tested.any() else np.nan
    verdicts: Verdicts = {run.name: {} for run in runs}
    for (run, finding), q_value in zip(found, q_values, strict=True):
        best = finding.best
        token = find_token_control(run, best.label_set, best.layer) if best.level == "token" else None
        random = find_random_control(run, best.label_set, best.layer)
        verdicts[run.name][best.label_set] = judge(
            finding, token, random, q_value=float(q_value), num_tests=int(tested.sum())
        )
    return verdicts


def has_shortage(best: Record) -> bool:
    """Return whether there is too little data: the value is marked, or its interval lies below 0, unlike the truth."""
    return bool(best.shortage) or best.ci_high < 0


def decide_outcome(best: Record, q_value: float) -> Outcome:
    """Decide how a value compares with its null: test and interval have to agree.

    A value is above chance if q <= 0.05 and its interval lies above the null mean and above 0; it is at chance if
    q > 0.05 and the interval does not lie above them. Otherwise test and interval disagree, and it is unclear. Where
    there is too little data (`has_shortage`), nothing is said about chance.

    Args:
        best: the value at the layer where it is largest.
        q_value: of the test of the largest value; NaN where there was none.
    """
    if has_shortage(best):
        return Outcome.TOO_LITTLE_DATA
    if not math.isfinite(q_value):
        return Outcome.NOT_TESTED
    reference = max(best.null_mean, 0.0) if math.isfinite(best.null_mean) else 0.0
    significant, above = q_value <= ALPHA, _low(best) > reference
    if significant != above:
        return Outcome.UNCLEAR
    return Outcome.ABOVE_CHANCE if above else Outcome.AT_CHANCE


def judge(
    finding: Finding,
    token: TokenControl | None,
    random: RandomControl | None = None,
    *,
    q_value: float,
    num_tests: int,
) -> Verdict:
    """Decide what a finding, its q-value among those of the report and its controls amount to."""
    best = finding.best
    outcome = decide_outcome(best, q_value)

    if token is None:
        explained = ExplainedByToken.UNKNOWN
    elif not token.p_value <= ALPHA or token.within - token.null_mean < _MOSTLY_TOKEN * token.whole:
        explained = ExplainedByToken.YES
    else:
        explained = ExplainedByToken.NO

    return Verdict(
        label_set=best.label_set,
        level=best.level,
        layer=best.layer,
        num_layers=finding.num_layers,
        outcome=outcome,
        against_random=_place(random, recorded=finding.has_random),
        explained_by_token=explained,
        value=best.value,
        ci_low=best.ci_low,
        ci_high=best.ci_high,
        null_mean=best.null_mean,
        p_value=finding.p_value,
        p_is_smallest=finding.p_is_smallest,
        q_value=q_value,
        num_tests=num_tests,
        shortage=best.shortage,
        random=random,
        token=token,
    )


def _place(random: RandomControl | None, *, recorded: bool) -> AgainstRandom:
    if random is None:
        return AgainstRandom.NOT_COMPARED if recorded else AgainstRandom.NOT_RECORDED
    if random.ci_low > 0 and random.num_below == random.draws:
        return AgainstRandom.ABOVE
    if random.ci_high < 0 and random.is_below_all:
        return AgainstRandom.BELOW
    return AgainstRandom.NOT_CLEARLY_ABOVE


def _low(record: Record) -> float:
    return record.ci_low if math.isfinite(record.ci_low) else record.value


def find_token_control(run: RunResults, label_set: str, layer: int | None) -> TokenControl | None:
    """Return the control for token identity of the model's own router at `layer`, or None where it was not measured."""
    rows = layer_rows(run, label_set, layer)
    needed = ["conditional_information", "ambiguous_mutual_information"]
    if not set(needed) <= set(rows.index) or rows.loc[needed, "value"].isna().any():
        return None
    within, whole = (float(rows.loc[metric, "value"]) for metric in needed)
    columns = ("null_mean", "p_value", "n_permutations")
    null_mean, p_value, n_permutations = (float(rows.loc[needed[0], column]) for column in columns)
    return TokenControl(whole, within, null_mean, p_value, is_smallest_p(p_value, n_permutations))


def layer_rows(run: RunResults, label_set: str, layer: int | None) -> pd.DataFrame:
    """Return the rows of whole-layer quantities of the model's own router at `layer`, indexed by metric."""
    frame = run.frames[label_set]
    rows = frame[(frame["routing"] == "learned") & (frame["layer"] == layer) & frame["expert"].isna()]
    return rows.drop_duplicates("metric").set_index("metric")
