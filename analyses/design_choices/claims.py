"""Tests of the original's claims, and of what experts are worth; each is supported, not supported or undecided."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from analyses.design_choices.seeds import (
    OverSeeds,
    judge_equivalence,
    judge_interaction,
    judge_positive,
    over_seeds,
    seeds_to_decide,
    with_most_seeds,
)

from specialize.measure.runs.random_routers import AGAINST, DIFFERENCE

_CHOICES = {  # name of a contrast: column of the design choice, and the two values compared
    "top-2 against top-1": ("top_k", 2, 1),
    "global against layer-wise": ("scope", "global", "layer"),
    "frozen against learned": ("router", "frozen", "learned"),
    "drawn anew against learned": ("router", "rerandomized", "learned"),
}


@dataclass(frozen=True)
class _Sample:
    """One number per seed, and the cells whose runs they were made from."""

    values: pd.Series
    cells: frozenset[object]

    def __sub__(self, other: "_Sample") -> "_Sample":
        return _Sample((self.values - other.values).dropna(), self.cells | other.cells)


@dataclass(frozen=True)
class _Rule:
    """How a test is decided.

    Attributes:
        judge: returns the verdict of an interval.
        distance: returns, of a mean, how far an interval about it may reach to either side to decide the test.
        confidence: of the interval.
        is_ratio: whether the values are logarithms of ratios of perplexities.
    """

    judge: Callable[[OverSeeds], str]
    distance: Callable[[float], float] = abs
    confidence: float = 0.95
    is_ratio: bool = False


def judge_claims(runs: pd.DataFrame, measured: pd.DataFrame, function: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Test every part of every claim.

    Args:
        runs: one row per run, with perplexity.
        measured: one row per run, routing, layer, label set and metric.
        function: the same of agreements of lifts and effects, of the runs whose experts were switched off.
        margin: margin of equivalence, as a ratio of perplexities.

    Returns:
        The columns claim, test, estimate, low, high, confidence, scale, seeds and verdict. Of a test that is undecided
        also, if further seeds had the same mean and deviation: reach_to_decide, how far an interval about the estimate
        may reach to either side (in units of the scale; for a ratio, as a factor) to decide it, seeds_to_decide, how
        many seeds have one that reaches less far, and runs_to_decide, how many runs are missing until then.
    """
    rows = [
        *_levels(runs, margin),
        *_frozen(runs, margin),
        *_specialization(measured),
        *_function(function),
    ]
    return pd.DataFrame(rows)


def _effects(runs: pd.DataFrame, corpus: str, choice: str) -> dict[str, _Sample]:
    """Return the mean log ratio of a contrast, all else equal: for each unit of routing, one number per seed."""
    column, one, other = _CHOICES[choice]
    routed = runs[(runs["corpus"] == corpus) & (runs["unit"] != "dense") & (runs["experts"] == 4)]
    if column != "router":
        routed = routed[routed["router"].isin(["learned", "frozen"])]
    keys = [name for name in ("top_k", "scope", "router") if name != column]
    wide = routed.assign(log=np.log(routed["perplexity"])).pivot(
        index=["unit", *keys, "seed"], columns=column, values="log"
    )
    if not {one, other} <= set(wide.columns):
        return {}
    effect = (wide[one] - wide[other]).dropna()
    return {str(unit): _mean_effect(own, keys) for unit, own in effect.groupby("unit")}


def _mean_effect(effect: pd.Series, keys: list[str]) -> _Sample:
    kept = with_most_seeds(effect, keys)
    compared = kept.index.droplevel("seed").unique()
    return _Sample(kept.groupby("seed").mean(), frozenset(product(compared, ("one", "other"))))


def _mean_measured(own: pd.DataFrame, column: str = "value") -> _Sample:
    """Return the mean over layers and top-k of each seed that has all of them: none without one of the layers."""
    layers = own.groupby(["seed", "top_k"])[column]
    by_seed = layers.mean().where(layers.count() == layers.size()).unstack().dropna()
    cells = own[["unit", "router", "top_k"]].drop_duplicates().itertuples(index=False, name=None)
    return _Sample(by_seed.mean(axis=1), frozenset(cells))


def _row(claim: str, test: str, sample: _Sample, rule: _Rule) -> dict[str, Any]:
    """Return a row of the table."""
    interval = over_seeds(sample.values, confidence=rule.confidence)
    verdict, reach, seeds = rule.judge(interval), np.nan, np.nan
    if verdict == "undecided":
        reach = rule.distance(interval.mean)
        seeds = seeds_to_decide(interval, reach, confidence=rule.confidence)
    shown = np.exp if rule.is_ratio else np.asarray
    return {
        "claim": claim,
        "test": test,
        "estimate": float(shown(interval.mean)),
        "low": float(shown(interval.low)),
        "high": float(shown(interval.high)),
        "confidence": rule.confidence,
        "scale": "ratio of perplexities" if rule.is_ratio else "difference",
        "seeds": interval.seeds,
        "verdict": verdict,
        "reach_to_decide": float(shown(reach)),
        "seeds_to_decide": seeds,
        "runs_to_decide": (seeds - interval.seeds) * len(sample.cells),
    }


def _levels(runs: pd.DataFrame, margin: float) -> Iterator[dict[str, Any]]:
    bound = float(np.log(margin))
    only_shown = _Rule(lambda _: "", is_ratio=True)
    interaction = _Rule(
        lambda interval: judge_interaction(interval, bound),
        lambda mean: max(abs(mean), bound - abs(mean)),
        confidence=1 - 0.05 / len(_CHOICES),  # Bonferroni: the claim holds if any of the effects differs
        is_ratio=True,
    )
    for choice in _CHOICES:
        effects = _effects(runs, "en", choice)
        for unit, effect in effects.items():
            yield _row("1 levels", f"{choice}, {unit}", effect, only_shown)
        if {"token", "sequence"} <= effects.keys():
            difference = effects["token"] - effects["sequence"]
            yield _row("1 levels", f"{choice}, token ÷ sequence", difference, interaction)


def _frozen(runs: pd.DataFrame, margin: float) -> Iterator[dict[str, Any]]:
    bound = float(np.log(margin))
    equivalence = _Rule(
        lambda interval: judge_equivalence(interval, bound),
        lambda mean: abs(bound - abs(mean)),
        confidence=0.90,
        is_ratio=True,
    )
    for corpus in dict.fromkeys(runs["corpus"]):
        for unit, effect in _effects(runs, corpus, "frozen against learned").items():
            yield _row(
                "2 frozen",
                f"{corpus}, {unit}: frozen as good as learned, within {margin - 1:.0%}",
                effect,
                equivalence,
            )
        for unit, effect in _effects(runs, corpus, "drawn anew against learned").items():
            test = f"{corpus}, {unit}: drawn anew at every step worse than learned"
            yield _row("2 frozen", test, effect, _Rule(judge_positive, is_ratio=True))


def _adaptation(
    claim: str, name: str, unit: str, label_set: str, take: Callable[..., _Sample], apart: Callable[..., _Sample]
) -> Iterator[tuple[str, str, _Sample]]:
    """Yield the tests of whether a model adapts to routers that it cannot change."""
    for router, what in (("frozen", "frozen"), ("rerandomized", "drawn anew")):
        yield claim, f"{name}, {unit}, {what}: more than random routers", apart(unit, label_set, router=router)
    frozen = take(unit, label_set, router="frozen")
    yield claim, f"{name}, {unit}: learned more than frozen", take(unit, label_set) - frozen


def _specialization(measured: pd.DataFrame) -> Iterator[dict[str, Any]]:
    measured = measured[(measured["scope"] == "layer") & (measured["experts"] == 4)]

    def take(unit: str, label_set: str, **other: str) -> _Sample:
        """Return U, or another metric, of the routers of a design, see `_mean_measured`."""
        wanted = {"unit": unit, "label_set": label_set, "router": "learned", "routing": "learned"}
        wanted |= {"metric": "uncertainty_coefficient"} | other
        column = wanted.pop("column", "value")
        own = measured
        for name, value in wanted.items():
            own = own[own[name] == value]
        return _mean_measured(own, column)

    def above_null(unit: str, label_set: str, **other: str) -> _Sample:
        return take(unit, label_set, **other) - take(unit, label_set, column="null_mean", **other)

    def apart(unit: str, label_set: str, **other: str) -> _Sample:
        """Return U minus the mean over the random routers on the same hidden states."""
        return take(unit, label_set, metric=DIFFERENCE, routing=AGAINST, **other)

    syntax = take("token", "upos")
    tests = [
        ("3 syntax", "U(POS), token: more than the null", above_null("token", "upos")),
        ("3 syntax", "U(POS), token: more than random routers", apart("token", "upos")),
        ("3 syntax", "U(POS): token more than sequence routing", syntax - take("sequence", "upos")),
        *_adaptation("3 syntax", "U(POS)", "token", "upos", take, apart),
        (
            "3 syntax",
            "I(expert; POS | token id), token: more than the null",
            above_null("token", "upos", metric="conditional_information"),
        ),
    ]
    for label_set, short in (("domain", "domain"), ("bertopic", "fitted topic")):
        topics = take("sequence", label_set)
        tests += [
            ("3 topics", f"U({short}), sequence: more than the null", above_null("sequence", label_set)),
            ("3 topics", f"U({short}), sequence: more than random routers", apart("sequence", label_set)),
            ("3 topics", f"U({short}): sequence more than token routing", topics - take("token", label_set)),
            *_adaptation("3 topics", f"U({short})", "sequence", label_set, take, apart),
            ("3 topics", f"weak: U({short}) of sequence less than U(POS) of token routing", syntax - topics),
        ]
    languages = take("sequence", "lang")
    tests += [
        ("3 language", "U(language), sequence: more than the null", above_null("sequence", "lang")),
        ("3 language", "U(language), sequence: more than random routers", apart("sequence", "lang")),
        ("3 language", "U(language): sequence more than token routing", languages - take("token", "lang")),
        (
            "3 language",
            "U(language), sequence: guided more than learned",
            take("sequence", "lang", router="guided") - languages,
        ),
    ]
    for claim, test, difference in tests:
        if len(difference.values):
            yield _row(claim, test, difference, _Rule(judge_positive))


def _function(function: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Test whether experts are worth more to the labels that they are chosen for: agreements, as means over layers."""
    own = function[function["metric"] == "per_use_agreement"]
    for unit, label_set, name in (
        ("token", "upos", "part of speech of the token"),
        ("token", "next_upos", "part of speech of the next token"),
        ("sequence", "domain", "domain"),
        ("sequence", "bertopic", "fitted topic"),
    ):
        of_labels = own[(own["unit"] == unit) & (own["label_set"] == label_set)]
        learned, frozen = (_mean_measured(of_labels[of_labels["router"] == each]) for each in ("learned", "frozen"))
        for test, agreement in (
            (f"{unit}, {name}: lift agrees with the effect of a use", learned),
            (f"{unit}, {name}, frozen: lift agrees with the effect of a use", frozen),
            (f"{unit}, {name}: learned agrees more than frozen", learned - frozen),
        ):
            if len(agreement.values):
                yield _row("4 function", test, agreement, _Rule(judge_positive))
