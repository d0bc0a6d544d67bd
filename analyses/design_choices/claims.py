"""Tests of the original's claims, and of what experts are worth; each is supported, not supported or undecided."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from analyses.design_choices.seeds import (
    OverSeeds,
    judge_equivalence,
    judge_interaction,
    judge_positive,
    mean_by_seed,
    over_seeds,
    seeds_to_decide,
)

_CHOICES = {  # name of a contrast: column of the design choice, and the two values compared
    "top-2 against top-1": ("top_k", 2, 1),
    "global against layer-wise": ("scope", "global", "layer"),
    "frozen against learned": ("router", "frozen", "learned"),
    "drawn anew against learned": ("router", "rerandomized", "learned"),
}


def judge_claims(runs: pd.DataFrame, measured: pd.DataFrame, function: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Test every part of every claim.

    Args:
        runs: one row per run, with perplexity.
        measured: one row per run, routing, layer, label set and metric.
        function: the same of agreements of lifts and effects, of the runs whose experts were switched off.
        margin: margin of equivalence, as a ratio of perplexities.

    Returns:
        The columns claim, test, estimate, low, high, confidence, scale, seeds and verdict; seeds_to_decide is, of a
        test that is undecided, how many seeds of the same mean and deviation would decide it.
    """
    rows = [
        *_levels(runs, margin),
        *_frozen(runs, margin),
        *_specialization(measured),
        *_function(function),
    ]
    return pd.DataFrame(rows)


def _effects(runs: pd.DataFrame, corpus: str, choice: str) -> dict[str, pd.Series]:
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
    return {str(unit): mean_by_seed(own, keys) for unit, own in effect.groupby("unit")}


def _row(
    claim: str,
    test: str,
    interval: OverSeeds,
    verdict: str,
    *,
    confidence: float,
    ratio: bool,
    distance: float | None = None,
) -> dict[str, Any]:
    """Return a row of the table; `distance` is that from the mean to the nearest bound that decides, default: zero."""
    away = abs(interval.mean) if distance is None else distance
    missing = seeds_to_decide(interval, away, confidence=confidence) if verdict == "undecided" else np.nan
    shown = np.exp if ratio else np.asarray
    return {
        "claim": claim,
        "test": test,
        "estimate": float(shown(interval.mean)),
        "low": float(shown(interval.low)),
        "high": float(shown(interval.high)),
        "confidence": confidence,
        "scale": "ratio of perplexities" if ratio else "difference",
        "seeds": interval.seeds,
        "verdict": verdict,
        "seeds_to_decide": missing,
    }


def _levels(runs: pd.DataFrame, margin: float) -> Iterator[dict[str, Any]]:
    confidence = 1 - 0.05 / len(_CHOICES)  # Bonferroni: the claim holds if any of the effects differs
    for choice in _CHOICES:
        effects = _effects(runs, "en", choice)
        for unit, effect in effects.items():
            yield _row("1 levels", f"{choice}, {unit}", over_seeds(effect), "", confidence=0.95, ratio=True)
        if {"token", "sequence"} <= effects.keys():
            interval = over_seeds((effects["token"] - effects["sequence"]).dropna(), confidence=confidence)
            verdict = judge_interaction(interval, np.log(margin))
            distance = max(abs(interval.mean), np.log(margin) - abs(interval.mean))
            test = f"{choice}, token ÷ sequence"
            yield _row("1 levels", test, interval, verdict, confidence=confidence, ratio=True, distance=distance)


def _frozen(runs: pd.DataFrame, margin: float) -> Iterator[dict[str, Any]]:
    for corpus in dict.fromkeys(runs["corpus"]):
        for unit, effect in _effects(runs, corpus, "frozen against learned").items():
            interval = over_seeds(effect, confidence=0.90)
            verdict = judge_equivalence(interval, np.log(margin))
            test = f"{corpus}, {unit}: frozen as good as learned, within {margin - 1:.0%}"
            distance = abs(np.log(margin) - abs(interval.mean))
            yield _row("2 frozen", test, interval, verdict, confidence=0.90, ratio=True, distance=distance)
        for unit, effect in _effects(runs, corpus, "drawn anew against learned").items():
            interval = over_seeds(effect)
            test = f"{corpus}, {unit}: drawn anew at every step worse than learned"
            yield _row("2 frozen", test, interval, judge_positive(interval), confidence=0.95, ratio=True)


def _adaptation(
    claim: str, name: str, unit: str, label_set: str, take: Callable[..., pd.Series], control: Callable[..., pd.Series]
) -> Iterator[tuple[str, str, pd.Series, pd.Series]]:
    """Yield the tests of whether a model adapts to routers that it cannot change."""
    for router, what in (("frozen", "frozen"), ("rerandomized", "drawn anew")):
        own = take(unit, label_set, router=router)
        beside = control(unit, label_set, router=router)
        yield claim, f"{name}, {unit}, {what}: more than the random router", own, beside
    frozen = take(unit, label_set, router="frozen")
    yield claim, f"{name}, {unit}: learned more than frozen", take(unit, label_set), frozen


def _specialization(measured: pd.DataFrame) -> Iterator[dict[str, Any]]:
    measured = measured[(measured["scope"] == "layer") & (measured["experts"] == 4)]

    def take(unit: str, label_set: str, **other: str) -> pd.Series:
        """Return the mean over layers and top-k of U, or of another metric, of each seed that has all of them."""
        wanted = {"unit": unit, "label_set": label_set, "router": "learned", "routing": "learned"}
        wanted |= {"metric": "uncertainty_coefficient"} | other
        column = wanted.pop("column", "value")
        own = measured
        for name, value in wanted.items():
            own = own[own[name] == value]
        return own.pivot_table(index="seed", columns="top_k", values=column).dropna().mean(axis=1)

    def null(unit: str, label_set: str, **other: str) -> pd.Series:
        return take(unit, label_set, column="null_mean", **other)

    def control(unit: str, label_set: str, **other: str) -> pd.Series:
        return take(unit, label_set, routing="random", **other)

    syntax, conditional = take("token", "upos"), {"metric": "conditional_information"}
    bits = take("token", "upos", **conditional)
    tests = [
        ("3 syntax", "U(POS), token: more than the null", syntax, null("token", "upos")),
        ("3 syntax", "U(POS), token: more than the random router", syntax, control("token", "upos")),
        ("3 syntax", "U(POS): token more than sequence routing", syntax, take("sequence", "upos")),
        *_adaptation("3 syntax", "U(POS)", "token", "upos", take, control),
        (
            "3 syntax",
            "I(expert; POS | token id), token: more than the null",
            bits,
            null("token", "upos", **conditional),
        ),
    ]
    for label_set, short in (("domain", "domain"), ("bertopic", "fitted topic")):
        topics = take("sequence", label_set)
        tests += [
            ("3 topics", f"U({short}), sequence: more than the null", topics, null("sequence", label_set)),
            ("3 topics", f"U({short}), sequence: more than the random router", topics, control("sequence", label_set)),
            ("3 topics", f"U({short}): sequence more than token routing", topics, take("token", label_set)),
            *_adaptation("3 topics", f"U({short})", "sequence", label_set, take, control),
            ("3 topics", f"weak: U({short}) of sequence less than U(POS) of token routing", syntax, topics),
        ]
    languages = take("sequence", "lang")
    guided = take("sequence", "lang", router="guided")
    tests += [
        ("3 language", "U(language), sequence: more than the null", languages, null("sequence", "lang")),
        ("3 language", "U(language), sequence: more than the random router", languages, control("sequence", "lang")),
        ("3 language", "U(language): sequence more than token routing", languages, take("token", "lang")),
        ("3 language", "U(language), sequence: guided more than learned", guided, languages),
    ]
    for claim, test, one, other in tests:
        difference = (one - other).dropna()
        if len(difference):
            interval = over_seeds(difference)
            yield _row(claim, test, interval, judge_positive(interval), confidence=0.95, ratio=False)


def _function(function: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Test whether experts are worth more to the labels that they are chosen for: agreements, as means over layers."""
    own = function[function["metric"] == "per_use_agreement"]
    for unit, label_set, name in (
        ("token", "upos", "part of speech of the token"),
        ("token", "next_upos", "part of speech of the next token"),
        ("sequence", "domain", "domain"),
        ("sequence", "bertopic", "fitted topic"),
    ):
        kept = own[(own["unit"] == unit) & (own["label_set"] == label_set)]
        lacking = kept.loc[kept["value"].isna(), "seed"]  # an agreement in some layer: too few uses
        kept = kept[~kept["seed"].isin(lacking)]
        agreement = kept.pivot_table(index="seed", columns="top_k", values="value").dropna().mean(axis=1)
        if len(agreement):
            interval, test = over_seeds(agreement), f"{unit}, {name}: lift agrees with the effect of a use"
            yield _row("4 function", test, interval, judge_positive(interval), confidence=0.95, ratio=False)
