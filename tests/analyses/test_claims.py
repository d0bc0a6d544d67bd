"""Verdicts on planted effects."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from analyses.design_choices.claims import judge_claims
from analyses.design_choices.seeds import (
    OverSeeds,
    equivalence_p_value,
    judge_equivalence,
    judge_interaction,
    judge_positive,
    mean_by_seed,
    over_seeds,
    seeds_to_decide,
)
from scipy import stats

MARGIN = 1.02


def plant_runs(**effects: float) -> pd.DataFrame:
    """Runs whose log perplexity is 4 plus the effects of their choices, with a little noise that seeds share."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.05, 3)
    rows = []
    for unit, k, scope, router, seed in product(
        ("token", "sequence"), (1, 2), ("layer", "global"), ("learned", "frozen", "rerandomized"), range(3)
    ):
        log = 4 + shared[seed] + rng.normal(0, 0.001)
        log += sum(effects.get(name, 0.0) for name in (f"top{k}", scope, router, f"{unit}_top{k}", f"{unit}_{router}"))
        rows.append(("en", unit, k, scope, router, 4, seed, np.exp(log)))
    return pd.DataFrame(rows, columns=["corpus", "unit", "top_k", "scope", "router", "experts", "seed", "perplexity"])


def plant_measured(**levels: float) -> pd.DataFrame:
    """U of learned routers: `levels` by unit and label set, random routers at half, null at zero."""
    u = "uncertainty_coefficient"
    metrics = [("learned", u, 1), ("random", u, 2), ("learned − random", f"difference of {u}", 0.5)]  # the first alone
    rows = [
        (unit, top_k, label_set, "learned", routing, metric, "layer", 4, seed, layer, value, 0.0)
        for unit, top_k, label_set, (routing, metric, share), seed, layer in product(
            ("token", "sequence"), (1, 2), ("upos", "domain"), metrics, range(3), range(2)
        )
        for value in [levels[f"{unit}_{label_set}"] * share + 0.001 * seed]
    ]
    names = [
        "unit",
        "top_k",
        "label_set",
        "router",
        "routing",
        "metric",
        "scope",
        "experts",
        "seed",
        "layer",
        "value",
        "null_mean",
    ]
    return pd.DataFrame(rows, columns=names)


def plant_function(router: str = "learned", **agreements: float) -> pd.DataFrame:
    """Agreement of lift and effect of routers, by unit and label set."""
    rows = [
        (unit, router, top_k, name.partition("_")[2], "per_use_agreement", seed, layer, value + 0.01 * seed)
        for name, value in agreements.items()
        for unit, top_k, seed, layer in product([name.partition("_")[0]], (1, 2), range(3), range(2))
    ]
    return pd.DataFrame(rows, columns=["unit", "router", "top_k", "label_set", "metric", "seed", "layer", "value"])


NO_FUNCTION = plant_function()


def verdicts(runs: pd.DataFrame, measured: pd.DataFrame) -> dict[str, str]:
    frame = judge_claims(runs, measured, NO_FUNCTION, MARGIN)
    return dict(zip(frame["test"], frame["verdict"], strict=True))


def test_planted_effects_are_found_and_absent_ones_refuted() -> None:
    runs = plant_runs(rerandomized=0.2, token_top2=-0.1, token_frozen=0.001)
    measured = plant_measured(token_upos=0.2, sequence_upos=0.01, token_domain=0.01, sequence_domain=0.05)
    found = verdicts(runs, measured)
    assert found["top-2 against top-1, token ÷ sequence"] == "supported"
    assert found["global against layer-wise, token ÷ sequence"] == "not supported"
    assert found["en, token: frozen as good as learned, within 2%"] == "supported"
    assert found["en, sequence: drawn anew at every step worse than learned"] == "supported"
    assert found["U(POS): token more than sequence routing"] == "supported"
    assert found["U(POS), token: more than random routers"] == "supported"
    assert found["U(domain): sequence more than token routing"] == "supported"
    assert found["weak: U(domain) of sequence less than U(POS) of token routing"] == "supported"


def test_a_frozen_router_that_is_worse_is_not_equivalent() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    found = verdicts(plant_runs(frozen=0.1), measured)
    assert found["en, token: frozen as good as learned, within 2%"] == "not supported"
    assert found["frozen against learned, token ÷ sequence"] == "not supported"


def test_agreement_of_lift_and_effect_is_positive_or_not() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    function = plant_function(token_upos=0.4, token_next_upos=-0.2, sequence_domain=0.0, token_domain=0.9)
    frame = judge_claims(plant_runs(), measured, function, MARGIN)
    frame = frame[frame["claim"] == "4 function"].set_index("test")
    suffix = ": lift agrees with the effect of a use"
    assert frame["verdict"].to_dict() == {
        f"token, part of speech of the token{suffix}": "supported",
        f"token, part of speech of the next token{suffix}": "not supported",
        f"sequence, domain{suffix}": "undecided",
    }
    assert frame["estimate"].tolist() == pytest.approx([0.41, -0.19, 0.01])


def test_agreement_of_frozen_routers_is_a_test_of_its_own() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    learned = plant_function(token_upos=0.4, sequence_domain=0.1)
    frozen = plant_function(router="frozen", token_upos=0.1, sequence_domain=0.3)
    frame = judge_claims(plant_runs(), measured, pd.concat([learned, frozen]), MARGIN)
    frame = frame[frame["claim"] == "4 function"].set_index("test")
    suffix = ": lift agrees with the effect of a use"
    assert frame["estimate"].to_dict() == pytest.approx(
        {
            f"token, part of speech of the token{suffix}": 0.41,
            f"token, part of speech of the token, frozen{suffix}": 0.11,
            "token, part of speech of the token: learned agrees more than frozen": 0.3,
            f"sequence, domain{suffix}": 0.11,
            f"sequence, domain, frozen{suffix}": 0.31,
            "sequence, domain: learned agrees more than frozen": -0.2,
        }
    )
    assert frame.loc["token, part of speech of the token: learned agrees more than frozen", "verdict"] == "supported"
    assert frame.loc["sequence, domain: learned agrees more than frozen", "verdict"] == "not supported"


def test_a_seed_that_lacks_the_agreement_of_a_layer_is_left_out() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    function = plant_function(token_upos=0.4)
    function.loc[function["seed"].eq(2) & function["layer"].eq(1) & function["top_k"].eq(1), "value"] = np.nan
    frame = judge_claims(plant_runs(), measured, function, MARGIN).set_index("claim")
    assert frame.loc["4 function", "seeds"] == 2
    assert frame.loc["4 function", "estimate"] == pytest.approx(0.405)


def test_a_seed_that_lacks_u_of_a_layer_is_left_out() -> None:
    measured = plant_measured(token_upos=0.2, sequence_upos=0.01, token_domain=0.01, sequence_domain=0.05)
    lacks = (
        (measured["seed"] == 2) & (measured["layer"] == 1) & (measured["top_k"] == 1) & (measured["unit"] == "token")
    )
    measured.loc[lacks & (measured["label_set"] == "upos"), "value"] = np.nan
    frame = judge_claims(plant_runs(), measured, NO_FUNCTION, MARGIN).set_index("test")
    assert frame.loc["U(POS), token: more than the null", "seeds"] == 2
    assert frame.loc["U(domain), sequence: more than the null", "seeds"] == 3


def test_a_ratio_is_read_off_whole() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    frame = judge_claims(plant_runs(token_frozen=np.log(1.5)), measured, NO_FUNCTION, MARGIN).set_index("test")
    row = frame.loc["en, token: frozen as good as learned, within 2%"]
    assert row["estimate"] == pytest.approx(1.5, rel=0.005)
    assert row["seeds"] == 3


def test_a_seed_that_lacks_a_cell_is_left_out() -> None:
    measured = plant_measured(token_upos=0.2, sequence_upos=0.01, token_domain=0.01, sequence_domain=0.05)
    lacks = (measured["seed"] == 2) & (measured["top_k"] == 1) & (measured["unit"] == "token")
    frame = judge_claims(plant_runs(), measured[~lacks], NO_FUNCTION, MARGIN).set_index("test")
    assert frame.loc["U(POS), token: more than the null", "seeds"] == 2
    assert frame.loc["U(domain), sequence: more than the null", "seeds"] == 3


def test_means_are_over_the_cells_with_the_most_seeds() -> None:
    values = {("layer", seed): 1.0 + seed for seed in range(4)} | {("global", seed): 100.0 for seed in range(2)}
    series = pd.Series(values).rename_axis(["scope", "seed"])
    assert mean_by_seed(series, ["scope"]).to_dict() == {0: 1.0, 1: 2.0, 2: 3.0, 3: 4.0}


def test_the_seeds_to_decide_are_the_first_that_do() -> None:
    values = [0.5, -0.4, 0.6, 0.1]
    interval = over_seeds(values)
    needed = int(seeds_to_decide(interval, interval.mean, confidence=0.95))
    scaled = np.random.default_rng(0).normal(size=needed)
    for count, is_decided in ((needed, True), (needed - 1, False)):
        sample = scaled[:count] - scaled[:count].mean()
        sample = interval.mean + sample / sample.std(ddof=1) * np.std(values, ddof=1)
        assert (judge_positive(over_seeds(sample)) == "supported") == is_decided
    assert seeds_to_decide(interval, 1e-9, confidence=0.95) == np.inf
    assert np.isnan(seeds_to_decide(over_seeds([1.0]), 1.0, confidence=0.95))


def test_only_what_is_undecided_says_what_would_decide_it() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    noisy = plant_runs()
    noisy["perplexity"] *= np.exp(np.random.default_rng(3).normal(0, 0.05, len(noisy)))
    frame = judge_claims(noisy, measured, NO_FUNCTION, MARGIN)
    undecided = frame["verdict"] == "undecided"
    assert undecided.any()
    assert (frame.loc[undecided, "seeds_to_decide"] > 3).all()
    assert (frame.loc[undecided, "runs_to_decide"] > 0).all()
    assert frame.loc[~undecided, ["reach_to_decide", "seeds_to_decide", "runs_to_decide"]].isna().all(axis=None)


def test_an_undecided_test_names_the_interval_that_decides_and_the_runs_that_are_missing() -> None:
    measured = plant_measured(token_upos=0.1, sequence_upos=0.1, token_domain=0.1, sequence_domain=0.1)
    noisy = plant_runs()
    noisy["perplexity"] *= np.exp(np.random.default_rng(3).normal(0, 0.05, len(noisy)))
    measured["value"] += np.random.default_rng(4).normal(0, 0.01, len(measured))
    frame = judge_claims(noisy, measured, NO_FUNCTION, MARGIN).set_index("test")
    frame = frame[frame["verdict"] == "undecided"]
    equivalence = frame.loc["en, token: frozen as good as learned, within 2%"]
    to_bound = abs(np.log(MARGIN) - abs(np.log(equivalence["estimate"])))
    assert np.log(equivalence["reach_to_decide"]) == pytest.approx(to_bound)
    further = frame["seeds_to_decide"] - frame["seeds"]
    # {top-1, top-2} x {layer-wise, global} x {learned, frozen}, with token routing
    assert equivalence["runs_to_decide"] == 8 * further["en, token: frozen as good as learned, within 2%"]
    # {token, sequence} x {top-1, top-2} x {learned, frozen} x {layer-wise, global}
    scopes = "global against layer-wise, token ÷ sequence"
    assert frame.loc[scopes, "runs_to_decide"] == 16 * further[scopes]
    # {token, sequence} x {top-1, top-2}, learned
    syntax = "U(POS): token more than sequence routing"
    assert np.isfinite(further[syntax])
    assert frame.loc[syntax, "runs_to_decide"] == 4 * further[syntax]


def test_two_one_sided_tests_agree_with_the_interval() -> None:
    rng = np.random.default_rng(1)
    agreed = set()
    for _ in range(300):
        values = rng.normal(rng.normal(0, 0.02), 0.01, 3)
        interval = over_seeds(values, confidence=0.90)
        significant = equivalence_p_value(values, 0.02) <= 0.05
        assert significant == (judge_equivalence(interval, 0.02) == "supported")
        agreed.add(significant)
    assert agreed == {True, False}


def test_the_interval_is_scipys() -> None:
    values = [1.0, 2.5, 3.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = over_seeds(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_decides_nothing() -> None:
    alone = over_seeds([0.5])
    assert np.isnan(alone.low)
    assert judge_positive(alone) == judge_equivalence(alone, 1.0) == judge_interaction(alone, 1.0) == "undecided"
    assert np.isnan(equivalence_p_value([0.5], 1.0))


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.2, "supported"), (-0.2, -0.1, "not supported"), (-0.1, 0.1, "undecided")]
)
def test_more_than_zero(low: float, high: float, verdict: str) -> None:
    assert judge_positive(OverSeeds((low + high) / 2, low, high, 3)) == verdict
