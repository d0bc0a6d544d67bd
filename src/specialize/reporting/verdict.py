"""What a report concludes about one run and label set: decided here, once; `wording` puts it into words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from specialize.reporting.findings import Finding, Record, find_best
from specialize.reporting.formatting import ALPHA
from specialize.reporting.random_control import RandomControl, find_random_control
from specialize.reporting.runs import RunResults

_MOSTLY_NULL = 0.5  # share of the value that the null mean may reach before the value is barely above chance
_MOSTLY_TOKEN = 0.5  # share of the information that has to be left given the token id


class Outcome(StrEnum):
    """How a value compares with its null."""

    NOT_TESTED = "not tested"
    AT_CHANCE = "at chance"
    BARELY_ABOVE_CHANCE = "barely above chance"
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
    """

    whole: float
    within: float
    null_mean: float
    p_value: float


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
        p_value: of the largest value over the layers where `corrected`, else of this layer.
        corrected: whether `p_value` accounts for the choice of the layer.
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
    corrected: bool
    random: RandomControl | None = None
    token: TokenControl | None = None


def judge(finding: Finding, token: TokenControl | None, random: RandomControl | None = None) -> Verdict:
    """Decide what a finding and its controls for token identity and for random routers amount to."""
    best = finding.best
    if not math.isfinite(finding.p_value):
        outcome = Outcome.NOT_TESTED
    elif finding.p_value > ALPHA:
        outcome = Outcome.AT_CHANCE
    elif best.null_mean >= _MOSTLY_NULL * best.value:
        outcome = Outcome.BARELY_ABOVE_CHANCE
    else:
        outcome = Outcome.ABOVE_CHANCE

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
        corrected=finding.corrected,
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


def judge_run(run: RunResults, records: Sequence[Record], label_set: str) -> Verdict | None:
    """Return the verdict on `label_set` in `run`, or None where it was not measured.

    Args:
        run: what was measured.
        records: those of the run, and of others.
        label_set: what the labels are.
    """
    finding = find_best(records, run.name, label_set)
    if finding is None:
        return None
    layer = finding.best.layer
    token = find_token_control(run, label_set, layer) if finding.best.level == "token" else None
    return judge(finding, token, find_random_control(run, label_set, layer))


def find_token_control(run: RunResults, label_set: str, layer: int | None) -> TokenControl | None:
    """Return the control for token identity of the model's own router at `layer`, or None where it was not measured."""
    rows = layer_rows(run, label_set, layer)
    needed = ["conditional_information", "ambiguous_mutual_information"]
    if not set(needed) <= set(rows.index) or rows.loc[needed, "value"].isna().any():
        return None
    within, whole = (float(rows.loc[metric, "value"]) for metric in needed)
    null_mean, p_value = (float(rows.loc[needed[0], column]) for column in ("null_mean", "p_value"))
    return TokenControl(whole, within, null_mean, p_value)


def layer_rows(run: RunResults, label_set: str, layer: int | None) -> pd.DataFrame:
    """Return the rows of whole-layer quantities of the model's own router at `layer`, indexed by metric."""
    frame = run.frames[label_set]
    rows = frame[(frame["routing"] == "learned") & (frame["layer"] == layer) & frame["expert"].isna()]
    return rows.drop_duplicates("metric").set_index("metric")
