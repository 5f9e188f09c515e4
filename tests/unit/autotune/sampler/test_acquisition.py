"""Expected hypervolume improvement: hand-worked, against quadrature, and against Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from autotune.pareto import box_decomposition, hypervolume
from autotune.sampler import acquisition
from autotune.sampler.acquisition import (
    expected_hypervolume_improvement,
    expected_improvement,
    probability_within,
)


def _ehvi(mean: object, std: object, front: object, reference: object) -> np.ndarray:
    lower, upper = box_decomposition(np.asarray(front, dtype=float), np.asarray(reference, dtype=float))
    return expected_hypervolume_improvement(
        np.asarray(mean, dtype=float), np.asarray(std, dtype=float), lower, upper
    )


def test_expected_improvement_by_hand() -> None:
    # At the threshold itself it is s * phi(0).
    assert expected_improvement(np.array(0.0), np.array(0.0), np.array(2.0)) == pytest.approx(2 * norm.pdf(0))
    assert expected_improvement(np.array(3.0), np.array(1.0), np.array(0.0)) == 2.0
    assert expected_improvement(np.array(1.0), np.array(3.0), np.array(0.0)) == 0.0
    assert expected_improvement(np.array(-np.inf), np.array(0.0), np.array(1.0)) == 0.0
    assert expected_improvement(np.array(-np.inf), np.array(0.0), np.array(0.0)) == 0.0
    # Far inside, the variance no longer matters.
    assert expected_improvement(np.array(100.0), np.array(0.0), np.array(1.0)) == pytest.approx(100.0)


def test_one_objective_is_expected_improvement() -> None:
    mean, std = np.linspace(-2, 2, 9)[:, None], np.linspace(0.1, 1, 9)[:, None]
    expected = expected_improvement(np.array(0.5), mean[:, 0], std[:, 0])
    np.testing.assert_allclose(_ehvi(mean, std, [[0.5], [0.9]], [3.0]), expected, rtol=1e-12)


def test_known_objectives_give_the_improvement_itself() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 2, 3, 4):
        front, reference, points = rng.random((6, m)), np.full(m, 1.1), rng.random((20, m)) * 1.3
        gained = [
            hypervolume(np.vstack([front, point]), reference) - hypervolume(front, reference)
            for point in points
        ]
        np.testing.assert_allclose(_ehvi(points, np.zeros_like(points), front, reference), gained, atol=1e-12)


def test_two_boxes_by_hand() -> None:
    # Front (1, 1) below (2, 2), candidate known to be at x = 0 with Y ~ N(1, 1): for x in (0, 1] the whole
    # of E (2 - Y)^+ counts, for x in (1, 2] only what lies below 1.
    expected = expected_improvement(np.array(2.0), np.array(1.0), np.array(1.0)) + norm.pdf(0)
    assert _ehvi([[0, 1]], [[0, 1]], [[1, 1]], [2, 2])[0] == pytest.approx(expected)


def test_against_quadrature() -> None:
    front, reference = np.array([[0.2, 0.9], [0.5, 0.5], [0.8, 0.1]]), np.array([1.0, 1.0])
    whole = hypervolume(front, reference)
    for known, mean, std in [(0.4, 0.6, 0.3), (0.1, 0.2, 0.05), (0.9, 0.9, 0.5)]:

        def weighted(y: float, known: float = known, mean: float = mean, std: float = std) -> float:
            return (hypervolume([*front, [known, y]], reference) - whole) * norm.pdf(y, mean, std)

        expected = quad(weighted, mean - 9 * std, 1.0, points=[0.1, 0.5, 0.9], epsabs=1e-10)[0]
        assert _ehvi([[known, mean]], [[0.0, std]], front, reference)[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_against_monte_carlo(m: int) -> None:
    """Within five standard errors: a right formula fails one seed in 1.7 million; this one is fixed."""
    rng = np.random.default_rng(m)
    front, reference = rng.random((5, m)), np.full(m, 1.2)
    mean, std = rng.random(m), np.where(np.arange(m) == 1, 0.0, 0.4)
    draws = mean + std * rng.standard_normal((2000, m))
    whole = hypervolume(front, reference)
    gains = np.array([hypervolume(np.vstack([front, y]), reference) - whole for y in draws])
    error = gains.std() / np.sqrt(len(gains))
    assert _ehvi(mean[None], std[None], front, reference)[0] == pytest.approx(gains.mean(), abs=5 * error)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arguments = rng.random((50, 2)), rng.random((50, 2)), rng.random((7, 2)), [1.0, 1.0]
    whole = _ehvi(*arguments)
    monkeypatch.setattr(acquisition, "_CHUNK", 20)
    np.testing.assert_array_equal(_ehvi(*arguments), whole)


def test_empty_front_and_no_candidate() -> None:
    value = _ehvi([[0.0, 0.0]], [[0.0, 0.0]], np.empty((0, 2)), [2, 3])
    assert value[0] == pytest.approx(6.0)
    assert _ehvi(np.empty((0, 2)), np.empty((0, 2)), [[0, 0]], [1, 1]).shape == (0,)


def test_probability_within() -> None:
    mean, std = np.zeros(3), np.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(probability_within(mean, std, None, None), 1)
    np.testing.assert_allclose(probability_within(mean, std, None, 0.0), [0.5, 0.5, 1])
    np.testing.assert_allclose(probability_within(mean, std, 0.5, None), [norm.sf(0.5), norm.sf(0.5), 0])
    np.testing.assert_allclose(probability_within(mean, std, -1.0, 1.0), [0.6827, 0.6827, 1], atol=1e-4)
