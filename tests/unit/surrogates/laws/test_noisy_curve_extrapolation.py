"""Short, noisy curves carried on: exact without noise, shared where one curve does not say, and honest intervals."""

from __future__ import annotations

import numpy as np
import pytest

from surrogates.laws import FEWEST_POINTS, extrapolate_noisy
from surrogates.laws.noisy_curve_extrapolation import _fit

X = 1600.0 * 2.0 ** (-np.arange(6, -1, -1) / 2)


def test_power_laws_without_noise_are_carried_on_exactly() -> None:
    levels, slopes = np.array([0.9, 0.5, 0.7]), np.array([0.1, 0.4, 0.25])
    curves = levels[:, None] * (X / X[0]) ** -slopes[:, None]
    found = extrapolate_noisy(X, curves, 16_000)
    np.testing.assert_allclose(found.value, levels * (16_000 / X[0]) ** -slopes, rtol=1e-6)
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert found.backtest["used"] < 1e-6 < found.backtest["last value"]


def test_two_curves_worked_by_hand() -> None:
    """y = b u + s r with r across the line: residuals give the noise, and slopes draw near by a quarter."""
    u, r = np.arange(-2.0, 3.0), np.array([1.0, -2.0, 0.0, 2.0, -1.0])
    law = _fit(u, np.array([[-0.5], [-0.3]]) * u + np.sqrt(0.015) * r, "all alike")
    assert law.noise == pytest.approx(10 * 0.015 / 3)  # the sum of squares over n - 2
    assert law.level_variance == pytest.approx(0.05 / 5)
    # A slope's own variance is noise / 10 = 0.005, a quarter of the 0.02 by which the two differ.
    np.testing.assert_allclose(law.slope, [-0.475, -0.325])
    assert law.slope_variance == pytest.approx(0.75 * 0.005 + 0.25**2 * 0.02 / 2)
    value, deviation = law.at(4.0)
    np.testing.assert_allclose(value, [-1.9, -1.3])
    drift = (0.3 * 0.4) ** 2 * 2**3 / 3
    assert deviation**2 == pytest.approx(0.05 / 5 + 4**2 * 0.004375 + 0.05 + drift)


def test_later_points_count_for_more() -> None:
    """Weights of 1, 2, 4, 8 and 16 where they halve every doubling."""
    u = np.log(2.0) * np.arange(5)
    law = _fit(u, -0.2 * u[None], "halving 1")
    assert law.center == pytest.approx(np.log(2.0) * (0 + 2 + 8 + 24 + 64) / 31)
    assert law.level[0] == pytest.approx(-0.2 * law.center)


def test_held_out_forecasts_and_intervals_worked_by_hand() -> None:
    """Exact power laws: the last value is off by the slope times what lies between, and intervals are drift alone."""
    slopes = np.array([0.1, 0.4, 0.25])
    found = extrapolate_noisy(X, (X / X[0]) ** -slopes[:, None], 10 * X[-1])
    # From four points to the next three, from five to two, from six to one: ten half doublings in six forecasts.
    steps = (1 + 2 + 3 + 1 + 2 + 1) / 6
    assert found.backtest["last value"] == pytest.approx(slopes.mean() * steps * np.log(2) / 2)
    deviation = 0.3 * slopes.mean() * np.sqrt(np.log(10) ** 3 / 3)
    np.testing.assert_allclose(np.log(found.value / found.low), 1.2816 * deviation, rtol=1e-4)


def test_five_points_are_enough() -> None:
    assert FEWEST_POINTS == 5
    found = extrapolate_noisy(X[:5], (X[:5] / X[0]) ** -0.3, 2 * X[4])
    assert found.value[0] == pytest.approx((2 * X[4] / X[0]) ** -0.3)


def test_a_curve_that_the_noise_hides_takes_the_slope_of_the_others() -> None:
    """Six curves of slope 0.3 with noise of 0.05: shared slopes lie closer to it than those of each alone."""
    rng = np.random.default_rng(0)
    together, alone = [], []
    for _ in range(40):
        curves = (X / X[0]) ** -0.3 * np.exp(0.05 * rng.normal(size=(6, 7)))
        truth = (10 * X[-1] / X[0]) ** -0.3
        together.append(np.log(extrapolate_noisy(X, curves, 10 * X[-1]).value / truth))
        alone.append([np.log(extrapolate_noisy(X, curve, 10 * X[-1]).value[0] / truth) for curve in curves])
    assert np.std(together) < 0.7 * np.std(alone)


def simulated(rng: np.random.Generator, noise: float, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Six curves that saturate or have just begun to fall, E + A / (1 + (x / x0)^b), and a new run further on."""
    floor, height = rng.uniform(0.05, 0.3), rng.uniform(0.4, 0.7)
    power, middle = rng.uniform(0.5, 1.2, (6, 1)), 1600 * np.exp(rng.normal(-0.5, 1.0, (6, 1)))

    def law(x: np.ndarray) -> np.ndarray:
        return (floor + height / (1 + (x / middle) ** power)) * np.exp(noise * rng.normal(size=(6, len(x))))

    return law(X), law(np.array([factor * X[-1]]))[:, 0]


@pytest.mark.parametrize("factor", [2.0, 10.0])
@pytest.mark.parametrize("noise", [0.01, 0.08])
def test_intervals_hold_what_comes_and_the_middle_beats_the_rules(noise: float, factor: float) -> None:
    """480 new runs, six at a time: 80 % intervals held 81 to 91 % of them in simulations of 900."""
    rng = np.random.default_rng(1)
    inside, off, last = [], [], []
    for _ in range(80):
        curves, new = simulated(rng, noise, factor)
        found = extrapolate_noisy(X, curves, factor * X[-1])
        inside.append((found.low <= new) & (new <= found.high))
        off.append(np.abs(np.log(found.value / new)))
        last.append(np.abs(np.log(curves[:, -1] / new)))
    assert 0.72 <= np.mean(inside) <= 0.96
    assert np.mean(off) < 0.65 * np.mean(last)


def test_more_data_makes_no_law_worse() -> None:
    rising = np.linspace(0.5, 0.6, 7)[None] * np.ones((3, 1))
    found = extrapolate_noisy(X, rising, 2 * X[-1])
    assert (found.value <= 0.6 + 1e-9).all()
    assert (found.high < 0.75).all()
    assert not found.rule.startswith("a power law")  # whose slopes are at most 0
    assert (found.value <= found.high).all()


def test_the_worse_end_is_what_is_there_now_and_noise() -> None:
    rng = np.random.default_rng(0)
    curves = (X / X[0]) ** -0.3 * np.exp(0.03 * rng.normal(size=(6, 7)))
    far = extrapolate_noisy(X, curves, 1e14 * X[-1])
    assert (far.low < 0.1 * far.value).all()  # the interval is wide, and its better end with it
    assert (far.high < 1.2 * curves[:, -1]).all()
    assert (far.high > 10 * far.value).all()


@pytest.mark.parametrize(
    ("x", "errors", "at", "message"),
    [
        (X[:2], [0.5, 0.4], 3200, "a curve needs three"),
        (X[:4], np.ones(4), 3200, "give at least five"),
        (X, np.zeros(7), 3200, "not a positive number"),
        (X, np.ones(7), 800, "is within the curve"),
    ],
)
def test_what_cannot_be_carried_on_is_said(x, errors, at, message) -> None:
    with pytest.raises(ValueError, match=message):
        extrapolate_noisy(np.asarray(x), np.asarray(errors), at)
