"""What scores at smaller budgets say of the full one: law, variances, and the choice against two rules."""

from __future__ import annotations

import numpy as np
import pytest

from surrogates.multi_fidelity import LAW, MEDIAN, NONE, FidelityModel

Z = np.array([0.1, 0.3, 1.0])


def made_up(
    n: int, m: np.ndarray, noise: float = 0.05, seed: int = 0, promoted: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Scores as a ladder leaves them, and all scores, [n, 3] each: a walk of steps on top of f(x) + m(z).

    Every fifth configuration is promoted whatever its score.
    """
    rng = np.random.default_rng(seed)
    walk = noise * rng.standard_normal((n, 2)) * [2.0, 1.0]
    whole = rng.standard_normal((n, 1)) + m + np.column_stack([walk.sum(axis=1), walk[:, 1], np.zeros(n)])
    seen = whole.copy()
    on = np.arange(n)
    for k in range(2):
        kept = on[np.argsort(whole[on, k])[: max(int(promoted * len(on)), 1)]]
        kept = np.union1d(kept, on[on % 5 == 0])
        seen[np.setdiff1d(on, kept), k + 1 :] = np.nan
        on = kept
    return seen, whole


def test_it_finds_the_law_and_the_noise_of_each_budget() -> None:
    seen, _ = made_up(200, 0.3 * (Z**-0.7 - 1))
    model = FidelityModel.fit(10 * Z, seen)
    assert model.rule == LAW
    np.testing.assert_allclose(model.budgets, Z)
    assert model.exponent == pytest.approx(0.7, abs=0.15)
    np.testing.assert_allclose(model.offset, 0.3 * (Z**-0.7 - 1), atol=0.06)
    # The prior and the steps of those behind, in a sample of about 30, add to it.
    truth, found = np.array([0.05 * 5**0.5, 0.05]), np.sqrt(model.variance)
    assert (truth < 1.3 * found[:2]).all()
    assert (found[:2] < 3 * truth).all()
    assert found[2] == 0
    assert model.errors[LAW] < 1.05 * model.errors[MEDIAN] < model.errors[NONE]


def test_trials_below_the_top_inform_the_model() -> None:
    seen, _ = made_up(60, 0.3 * (Z**-0.7 - 1))
    seen[:, 2] = np.nan
    model = FidelityModel.fit(Z, seen)
    assert model.rule == LAW
    # The first step is measured; the second, which no trial took, is predicted by the law.
    assert model.offset[0] - model.offset[1] == pytest.approx(0.3 * (0.1**-0.7 - 0.3**-0.7), abs=0.06)
    assert 0.1 < model.offset[1] < 0.8


def test_a_law_that_loses_is_not_used() -> None:
    for m, rule in (([-0.8, 0.5, 0.0], MEDIAN), ([0.0, 0.0, 0.0], NONE)):
        seen, _ = made_up(120, np.array(m))
        model = FidelityModel.fit(Z, seen)
        assert model.errors[rule] <= model.errors[LAW]
        if rule == MEDIAN:
            assert model.rule == MEDIAN
        np.testing.assert_allclose(model.offset, m, atol=0.1)


def test_predictions_for_trials_that_stayed_below_are_calibrated() -> None:
    """Of 30 ladders: the 80 % intervals of those behind hold for 65 to 95 %; the noise here is Gaussian."""
    held = []
    for seed in range(30):
        seen, whole = made_up(40, 0.3 * (Z**-0.7 - 1), noise=0.2, seed=seed)
        model = FidelityModel.fit(Z, seen)
        behind = np.isnan(seen[:, 1])
        error = seen[behind, 0] - model.offset[0] - whole[behind, 2]
        held += (np.abs(error) < 1.2816 * np.sqrt(model.variance[0])).tolist()
    assert 0.65 < np.mean(held) < 0.95


def test_diverged_runs_set_neither_law_nor_noise() -> None:
    seen, _ = made_up(80, 0.3 * (Z**-0.7 - 1))
    calm = FidelityModel.fit(Z, seen)
    seen[np.flatnonzero(np.isfinite(seen[:, 1]))[:3], 0] = 1e13
    seen[np.flatnonzero(np.isfinite(seen[:, 2]))[:1], 1] = np.inf
    wild = FidelityModel.fit(Z, seen)
    np.testing.assert_allclose(wild.offset, calm.offset, atol=0.05)
    np.testing.assert_allclose(np.sqrt(wild.variance), np.sqrt(calm.variance), atol=0.15)


def test_with_few_it_leans_on_the_prior() -> None:
    unmeasured = FidelityModel.fit(Z, np.array([[1.0, np.nan, np.nan], [3.0, np.nan, np.nan]]))
    assert unmeasured.rule == NONE
    assert np.isnan(unmeasured.coefficient)
    np.testing.assert_array_equal(unmeasured.offset, 0.0)
    # A correlation of 0.85 leaves 28 % of the variance, whose robust estimate is 2.2.
    assert unmeasured.variance[0] == pytest.approx((1 - 0.85**2) * 1.4826**2)
    assert 0 < unmeasured.variance[1] < unmeasured.variance[0]
    one = FidelityModel.fit(Z, np.array([[1.0, 0.5, np.nan], [3.0, np.nan, np.nan]]))
    assert one.rule == LAW
    assert one.errors == {}
    assert one.offset[0] - one.offset[1] == pytest.approx(0.5, abs=1e-9)
    assert one.variance[0] > 0
    empty = FidelityModel.fit(Z, np.empty((0, 3)))
    assert empty.rule == NONE
    np.testing.assert_array_equal(empty.variance, 0.0)


def test_a_ladder_of_one_rung_has_nothing_to_correct() -> None:
    model = FidelityModel.fit([5.0], np.array([[1.0], [2.0]]))
    assert (model.offset.tolist(), model.variance.tolist()) == ([0.0], [0.0])


def test_units_do_not_matter() -> None:
    seen, _ = made_up(50, 0.3 * (Z**-0.7 - 1))
    model, scaled = FidelityModel.fit(Z, seen), FidelityModel.fit(Z, 1e6 * seen - 3e6)
    assert scaled.rule == model.rule
    np.testing.assert_allclose(scaled.offset, 1e6 * model.offset, rtol=1e-6)
    np.testing.assert_allclose(scaled.variance, 1e12 * model.variance, rtol=1e-6)


@pytest.mark.parametrize(
    ("budgets", "scores", "message"),
    [
        ([0.0, 1.0], np.zeros((2, 2)), "give positive, increasing numbers"),
        ([2.0, 1.0], np.zeros((2, 2)), "give positive, increasing numbers"),
        ([], np.zeros((2, 0)), "give positive, increasing numbers"),
        ([1.0, 2.0], np.zeros((2, 3)), "one column per budget"),
    ],
)
def test_what_cannot_be_meant(budgets: list[float], scores: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FidelityModel.fit(budgets, scores)
