"""Fronts and hypervolume: cases worked by hand, and properties over random fronts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from autotune import pareto
from autotune.pareto import (
    hypervolume,
    hypervolume_contributions,
    knee,
    non_dominated,
)


def _dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def test_non_dominated_by_hand() -> None:
    values = [[1.0, 4], [2, 2], [2, 3], [4, 1], [2, 2], [np.nan, 0], [1, 5]]
    assert non_dominated(np.array(values)).tolist() == [True, True, False, True, False, False, False]


def test_non_dominated_of_nothing() -> None:
    assert non_dominated(np.empty((0, 3))).shape == (0,)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_non_dominated_agrees_with_the_definition(m: int) -> None:
    # A coarse grid makes ties and repetitions common.
    values = np.random.default_rng(m).integers(0, 4, size=(40, m)).astype(float)
    kept = non_dominated(values)
    for i, row in enumerate(values):
        dominated = any(_dominates(other, row) for other in values)
        repeated = any((values[k] == row).all() for k in range(i))
        assert kept[i] == (not dominated and not repeated)


@pytest.mark.parametrize(
    ("values", "reference", "volume"),
    [
        ([[3.0]], [10.0], 7.0),
        ([[1, 3], [2, 2], [3, 1]], [4, 4], 3 + 2 + 1),
        ([[1, 3], [1, 3]], [4, 4], 3.0),
        ([[4, 1], [5, 0]], [4, 4], 0.0),
        ([[0, 0, 0]], [1, 2, 3], 6.0),
        # In each slice two 1 x 2 and 2 x 1 rectangles that share 1 x 1, and the slice is 2 deep.
        ([[0, 1, 0], [1, 0, 0]], [2, 2, 2], (2 * 1 + 1 * 2 - 1 * 1) * 2.0),
        ([[0, 0, 1, 1], [1, 1, 0, 0]], [2, 2, 2, 2], 4 + 4 - 1.0),
    ],
)
def test_hypervolume_by_hand(values: list[list[float]], reference: list[float], volume: float) -> None:
    assert hypervolume(values, reference) == pytest.approx(volume)


def test_hypervolume_of_nothing_and_of_nan() -> None:
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0.0
    assert hypervolume([[np.nan, 0.0]], [1, 1]) == 0.0


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_hypervolume_by_inclusion_and_exclusion(m: int) -> None:
    points = np.random.default_rng(m).random((7, m))
    expected = 0.0
    for size in range(1, len(points) + 1):
        for group in itertools.combinations(points, size):
            expected += (-1) ** (size + 1) * float(np.prod(1.2 - np.max(group, axis=0)))
    assert hypervolume(points, np.full(m, 1.2)) == pytest.approx(expected)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_slices_give_the_same_volume(m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(m).random((12, m))
    expected = hypervolume(points, np.full(m, 1.2))
    monkeypatch.setattr(pareto, "_volume_function", lambda: pareto._sliced_volume)
    assert hypervolume(points, np.full(m, 1.2)) == pytest.approx(expected)


def test_contributions() -> None:
    values = [[1.0, 3], [2, 2], [3, 1], [3, 3], [9, 0], [np.nan, 0]]
    contributions = hypervolume_contributions(np.array(values), [4, 4])
    np.testing.assert_allclose(contributions, np.array([1.0, 1, 1, 0, 0, 0]))
    # Neither of two equal points would be missed.
    np.testing.assert_allclose(hypervolume_contributions([[1, 1], [1, 1]], [2, 2]), np.zeros(2))


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([[5, 5]], 0),
        ([[0, 1], [1, 0]], 0),
        ([[0, 10], [1, 2], [10, 0]], 1),
        ([[np.nan, 0], [0, 100], [0.9, 99], [0.2, 30], [1, 0]], 3),
        ([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0.3, 0.3, 0.4], [2, 2, 2]], 3),
        # The second objective never varies and has no say.
        ([[0, 7, 3], [1, 7, 1], [3, 7, 0]], 1),
    ],
)
def test_knee(values: list[list[float]], index: int) -> None:
    assert knee(np.array(values)).row == index


def test_knee_does_not_depend_on_units() -> None:
    x = np.linspace(0.05, 1, 30)
    front = np.column_stack([x, 1 / x])
    found, moved = knee(front), knee(front * [1e6, 1e-3] + [5, -2])
    assert (found.row, found.points) == (moved.row, moved.points)
    assert found.depth == pytest.approx(moved.depth)


def test_depth_of_a_knee_by_hand() -> None:
    # Scaled to [0, 1]^2 the middle point is (0.25, 0.25): 1 - 0.5 below the line through the ends.
    found = knee([[0.0, 8], [1, 2], [4, 0]])
    assert (found.row, found.points) == (1, 3)
    assert found.depth == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "bends"),
    [
        ([[5, 5]], False),
        ([[0, 1], [1, 0]], False),
        ([[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]], False),  # straight
        ([[0, 1], [0.7, 0.7], [1, 0]], False),  # bent away from the ideal
        ([[0, 1], [0.3, 0.3], [1, 0]], False),  # depth 0.4, points 0.5 apart
        ([[0, 1], [0.2, 0.2], [1, 0]], True),  # depth 0.6
        ([[0, 1], [0.05, 0.45], [0.3, 0.3], [0.7, 0.1], [1, 0]], True),  # depth 0.5, points 0.25 apart
    ],
)
def test_a_bend_exceeds_the_spacing_of_the_points(values: list[list[float]], bends: bool) -> None:
    assert knee(values).exceeds_spacing is bends


def test_messages() -> None:
    with pytest.raises(ValueError, match="reference: shape"):
        hypervolume([[1, 2]], [1, 2, 3])
    with pytest.raises(ValueError, match="5 objectives"):
        hypervolume([[1, 2, 3, 4, 5]], [9] * 5)
    with pytest.raises(ValueError, match="two-dimensional"):
        non_dominated([1, 2, 3])
    with pytest.raises(ValueError, match="no knee"):
        knee(np.array([[np.nan, 1.0]]))
