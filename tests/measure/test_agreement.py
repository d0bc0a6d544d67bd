import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from specialize.errors import MeasurementError
from specialize.measure import count_blocks, count_effects, lift, measure_agreement, measure_score_agreement
from specialize.measure.base.ranks import rank_correlations
from specialize.measure.estimators.rank_agreement import weigh_blocks

BLOCKS, LABELS, EXPERTS = 20, 6, 10


def draw_tables(seed, *, noise=0.3, follows=0.0, layers=1):
    """Masses and sums of effects by block; per-use effects follow the lift by a share, with noise of each block."""
    rng = np.random.default_rng(seed)
    masses, effects = [], []
    for _ in range(layers):
        lifts = rng.lognormal(0, 0.6, (LABELS, EXPERTS))
        load, shares = rng.dirichlet(np.full(EXPERTS, 5)), rng.dirichlet(np.full(LABELS, 8))
        rates = 400 * lifts * load * shares[:, None]
        mass = rng.poisson(rates, (BLOCKS, LABELS, EXPERTS)).astype(float)
        own = follows * np.log(lift(rates)) + (1 - follows) * rng.normal(0, 0.6, lifts.shape)
        per_use = own + noise * rng.standard_t(4, mass.shape)
        tokens = np.broadcast_to(mass.sum(axis=2, keepdims=True), mass.shape)
        elsewhere = 0.01 * (tokens - mass)
        masses.append(mass)
        effects.append(np.stack([per_use * mass, elsewhere, mass, tokens], axis=-1))
    return masses, effects


def expected_correlation(mass, sums, kind, *, min_uses=20):
    """The definition, from frames of cells and scipy."""
    table = mass.sum(axis=0)
    lifts = (table / table.sum(axis=0)) / (table.sum(axis=1, keepdims=True) / table.sum())
    changed, elsewhere, uses, tokens = np.moveaxis(sums.sum(axis=0), -1, 0)
    effect = changed / uses if kind == "per_use" else (changed + elsewhere) / tokens
    cells = pd.DataFrame({"lift": lifts.ravel(), "effect": effect.ravel(), "uses": uses.ravel()})
    cells = cells[cells["uses"] >= min_uses]
    return scipy.stats.spearmanr(cells["lift"], cells["effect"])[0], len(cells)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), few=st.integers(1, 12))
def test_rank_correlations_are_those_of_scipy(seed, few):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, few, (2, 3, 15)).astype(float)
    first[rng.random(first.shape) < 0.2] = np.nan
    for one, other, found in zip(first, second, rank_correlations(first, second), strict=True):
        known = ~np.isnan(one)
        if known.sum() < 3 or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
            assert np.isnan(found)
        else:
            np.testing.assert_allclose(found, scipy.stats.spearmanr(one[known], other[known])[0], atol=1e-12)


@pytest.mark.parametrize("kind", ["per_use", "total"])
@pytest.mark.parametrize("min_uses", [1, 50, 150])
def test_agreement_is_that_of_frames(kind, min_uses):
    masses, effects = draw_tables(0, layers=3)
    found = measure_agreement(iter(masses), iter(effects), min_uses=min_uses, permutations=0, n_documents=40)
    expected = [
        expected_correlation(mass, sums, kind, min_uses=min_uses) for mass, sums in zip(masses, effects, strict=True)
    ]
    agreement = getattr(found, kind)
    np.testing.assert_allclose(agreement.layers.value, [value for value, _ in expected])
    assert found.cells.tolist() == [count for _, count in expected]
    np.testing.assert_allclose(agreement.mean.value, np.mean([value for value, _ in expected]))
    assert agreement.mean.n_documents == 40
    assert agreement.mean.n_tokens == max(sums[:, :, 0, 3].sum() for sums in effects)


def test_standard_errors_are_those_of_loops_over_halves():
    masses, effects = draw_tables(1)
    effects[0][..., 2] += 0.01  # no half of a cell is without uses
    masses[0] *= np.random.default_rng(0).uniform(0.5, 1.5, masses[0].shape)  # no two lifts are equal
    value, _ = expected_correlation(masses[0], effects[0], "per_use", min_uses=1)
    squares = []
    for weights in weigh_blocks(BLOCKS)[1:]:
        half = weights > 0
        assert half.sum() == BLOCKS / 2
        own, _ = expected_correlation(masses[0][half], effects[0][half], "per_use", min_uses=0)
        squares.append((own - value) ** 2)
    found = measure_agreement(masses, effects, min_uses=1, permutations=0).per_use.layers[0]
    reach = np.sqrt(np.mean(squares)) * scipy.stats.t.ppf(0.975, BLOCKS - 1)
    np.testing.assert_allclose([found.ci_low, found.ci_high], [value - reach, value + reach])


def test_halves_have_the_standard_error_of_a_mean():
    """Also of an odd number of blocks: deleting half of them gives the variance of a mean over blocks."""
    for count in (20, 21):
        values, weights = np.random.default_rng(0).normal(size=(400, count)), weigh_blocks(count)[1:]
        kept = weights.sum(axis=1)
        means = values @ weights.T / kept
        squares = (kept / (count - kept)) * (means - values.mean(axis=1, keepdims=True)) ** 2
        np.testing.assert_allclose(squares.mean(), (values.var(axis=1, ddof=1) / count).mean(), rtol=0.05)


def test_reliability_is_that_of_halves():
    masses, effects = draw_tables(2)
    halves = []
    for weights in weigh_blocks(BLOCKS)[1::2]:
        one, other = (
            sums[..., 0].sum(axis=0) / sums[..., 2].sum(axis=0)
            for sums in (effects[0][weights > 0], effects[0][weights == 0])
        )
        halves.append(scipy.stats.spearmanr(one.ravel(), other.ravel())[0])
    mean = np.mean(halves)
    found = measure_agreement(masses, effects, min_uses=1, permutations=0)
    np.testing.assert_allclose(found.per_use.effect_reliability, [2 * mean / (1 + mean)])
    exact = measure_agreement(*draw_tables(2, noise=0.0), min_uses=1, permutations=0).per_use
    np.testing.assert_allclose(exact.effect_reliability, 1)
    noisy = measure_agreement(*draw_tables(2, noise=50.0), min_uses=1, permutations=0).per_use
    assert abs(noisy.effect_reliability[0]) < 0.5
    assert np.isnan(noisy.corrected_mean.value)
    assert "biased" in noisy.mean.ci_kind
    assert np.isnan(noisy.corrected_layers.value).all()


def test_noise_is_corrected():
    """Effects and lifts follow one another as much whatever the noise, and values say where noise has hidden it."""
    exact = [measure_agreement(*draw_tables(seed, noise=0, follows=0.7)).per_use.mean.value for seed in range(12)]
    noisy = [
        measure_agreement(*draw_tables(seed, noise=0.6, follows=0.7), permutations=0).per_use for seed in range(12)
    ]
    apart = np.array([each.mean.value for each in noisy]) - exact
    corrected = np.array([each.corrected_mean.value for each in noisy]) - exact
    assert apart.mean() < -0.05
    assert abs(corrected.mean()) < 0.04
    for each in noisy:
        product = each.observed_reliability * each.effect_reliability
        np.testing.assert_allclose(each.corrected_layers.value, each.layers.value / np.sqrt(product))
        assert each.corrected_mean.ci_high - each.corrected_mean.ci_low > each.mean.ci_high - each.mean.ci_low
    assert np.mean(["biased" in each.mean.ci_kind for each in noisy]) > 0.8
    quiet = measure_agreement(*draw_tables(0, noise=0.1)).per_use
    assert "biased" not in quiet.mean.ci_kind


def test_the_mean_carries_the_warning_of_a_layer_without_corrected_value():
    exact, noisy = draw_tables(2, noise=0.0), draw_tables(3, noise=50.0)
    found = measure_agreement(exact[0] + noisy[0], exact[1] + noisy[1], min_uses=1, permutations=0).per_use
    assert np.isnan(found.corrected_layers.value).tolist() == [False, True]
    assert found.corrected_mean.value == found.corrected_layers.value[0]
    assert "biased" in found.mean.ci_kind
    assert "biased" not in found.layers.ci_kind[0]
    assert "corrected for noise" in found.corrected_mean.ci_kind


def test_planted_agreement_is_found():
    """Effects are those of the lift alone; the total effect rises with exposure even where per-use effects do not."""
    found = measure_agreement(*draw_tables(3, noise=0.05, follows=1.0, layers=2), permutations=39).per_use
    assert found.mean.value > 0.9
    assert found.corrected_mean.value == pytest.approx(1, abs=0.1)
    assert found.mean.p_value == 1 / 40
    masses, effects = draw_tables(4, layers=2)
    for sums in effects:
        sums[..., 0] = 1.0 * sums[..., 2] + 0.001 * sums[..., 0]  # each use costs the same
    found = measure_agreement(masses, effects, permutations=39)
    assert found.total.mean.value > 0.5
    assert found.total.mean.p_value == 1 / 40
    assert abs(found.per_use.mean.value) < 0.4


def test_tables_of_arrays_are_those_that_agreement_takes():
    """From arrays of tokens: the loss rises where the expert is used, as much as the label prefers the expert."""
    rng = np.random.default_rng(0)
    documents, codes = np.repeat(np.arange(30), 200), rng.integers(0, 4, 6000)
    shares = rng.dirichlet(np.full(5, 2), size=4)
    experts = np.array([rng.choice(5, p=shares[code]) for code in codes])[:, None]
    blocks = documents % 10
    shape = {"num_labels": 4, "num_blocks": 10}
    mass = count_blocks(codes, experts, blocks=blocks, num_experts=5, **shape)
    lifts = shares / (shares.mean(axis=0))
    sums = []
    for expert in range(5):
        used = experts[:, 0] == expert
        sums.append(count_effects(used * lifts[codes, expert], used, codes, blocks=blocks, **shape))
    found = measure_agreement([mass], [np.stack(sums, axis=2)], permutations=0)
    assert found.per_use.mean.value > 0.95
    assert found.cells.tolist() == [int((mass.sum(axis=0) >= 20).sum())]


def test_five_percent_of_null_data_sets_are_rejected(monkeypatch):
    monkeypatch.setattr("specialize.measure.estimators.rank_agreement.SPLITS", 1)  # for intervals only
    p_values = []
    for seed in range(400):
        masses, effects = draw_tables(seed)
        how = {"min_uses": 1, "permutations": 19, "seed": seed}
        cells = measure_agreement(masses, effects, **how).per_use.mean.p_value
        score = np.random.default_rng(seed).normal(size=(1, EXPERTS))
        experts = measure_score_agreement(score, effects, **how)
        p_values.append([cells, experts.per_use.mean.p_value, experts.total.mean.p_value])
    rejected = (np.array(p_values) <= 0.05).mean(axis=0)
    assert ((rejected >= 0.03) & (rejected <= 0.07)).all(), rejected


def test_scores_of_experts():
    _, effects = draw_tables(5, layers=2)
    totals = [sums.sum(axis=(0, 1)) for sums in effects]
    scores = [np.exp(total[:, 0] / total[:, 2]) for total in totals]
    found = measure_score_agreement(scores, effects, permutations=39)
    np.testing.assert_allclose(found.per_use.layers.value, 1)
    expected = [
        scipy.stats.spearmanr(score, (total[:, 0] + total[:, 1]) / total[:, 3])[0]
        for score, total in zip(scores, totals, strict=True)
    ]
    np.testing.assert_allclose(found.total.layers.value, expected)
    assert found.per_use.mean.p_value == 1 / 40
    scores[0][:8] = np.nan
    assert np.isnan(measure_score_agreement(scores, effects, permutations=9).per_use.layers.value).tolist() == [
        True,
        False,
    ]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_names_of_experts_and_labels_and_the_order_of_layers_do_not_matter(seed):
    masses, effects = draw_tables(seed, layers=2)
    rng = np.random.default_rng(seed)
    experts, labels = rng.permutation(EXPERTS), rng.permutation(LABELS)
    found = measure_agreement(masses, effects, permutations=0)
    again = measure_agreement(
        [mass[:, labels][:, :, experts] for mass in masses[::-1]],
        [sums[:, labels][:, :, experts] for sums in effects[::-1]],
        permutations=0,
    )
    for kind in ("per_use", "total"):
        one, other = getattr(found, kind), getattr(again, kind)
        np.testing.assert_allclose(other.layers.value[::-1], one.layers.value, atol=1e-12)
        np.testing.assert_allclose(other.corrected_layers.value[::-1], one.corrected_layers.value, atol=1e-9)
        np.testing.assert_allclose(other.mean.ci_low, one.mean.ci_low, atol=1e-9)


def test_layers_without_enough_cells_have_no_value():
    masses, effects = draw_tables(6, layers=2)
    effects[0][..., 2] = 0
    found = measure_agreement(masses, effects, min_uses=1, permutations=9)
    assert found.cells.tolist() == [0, LABELS * EXPERTS]
    assert np.isnan(found.per_use.layers.value[0])
    assert found.per_use.mean.value == found.per_use.layers.value[1]
    none = measure_agreement(masses[:1], effects[:1], permutations=9)
    assert np.isnan([none.per_use.mean.value, none.per_use.mean.p_value, none.total.mean.ci_low]).all()


def test_wrong_arguments_raise():
    masses, effects = draw_tables(7)
    with pytest.raises(MeasurementError, match="expected at least one layer, got none"):
        measure_agreement([], [])
    with pytest.raises(MeasurementError, match=r"expected masses \(20, 6, 10\)"):
        measure_agreement([masses[0][:3]], effects)
    with pytest.raises(
        MeasurementError, match=r"expected effects \[block, label, expert, 4\], got shape \(20, 6, 10\)"
    ):
        measure_agreement(masses, masses)
    with pytest.raises(MeasurementError, match=r"expected scores .* of 10 experts"):
        measure_score_agreement([[1.0, 2.0]], effects)
