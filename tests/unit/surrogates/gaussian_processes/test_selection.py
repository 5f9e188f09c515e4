"""The choice of a surrogate by leave-one-out densities."""

from __future__ import annotations

import numpy as np

from surrogates.gaussian_processes.selection import choose


def test_the_default_stays_without_a_clear_difference() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=40)
    noisy = first + 0.05 + np.where(np.arange(40) % 2, 1.0, -1.0)
    found = choose({"default": first, "other": noisy})
    assert found.name == "default"
    assert found.n == 40
    assert found.scores == {"default": first.mean(), "other": noisy.mean()}


def test_a_clear_difference_over_the_same_observations_decides() -> None:
    rng = np.random.default_rng(0)
    first = 5.0 * rng.normal(size=40)  # difficult observations are difficult for both
    better = first + 0.3 + 0.1 * rng.normal(size=40)
    best = first + 0.6 + 0.1 * rng.normal(size=40)
    assert choose({"default": first, "better": better}).name == "better"
    assert choose({"default": first, "best": best, "better": better}).name == "best"
    assert choose({"default": first, "worse": first - 1.0}).name == "default"


def test_one_observation_decides_nothing() -> None:
    assert choose({"default": np.zeros(1), "other": np.ones(1)}).name == "default"
