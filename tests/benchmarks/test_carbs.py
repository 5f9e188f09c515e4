"""The problems of `benchmarks.carbs`: their values, their fronts and the table of errors."""

from __future__ import annotations

import pytest

from benchmarks.carbs import PROBLEMS, error_table
from benchmarks.run_cache import Run, Runs


def test_the_functions_are_those_of_the_notebooks() -> None:
    hidden, epochs = (PROBLEMS[name]() for name in ("hidden", "epochs"))
    assert hidden.error(hidden.space.default()) == pytest.approx((4.0 + 0.2) * 16 + 0.05)
    assert epochs.error(epochs.space.default()) == pytest.approx(51.2 + 0.05)
    values = [hidden.measure(hidden.space.default(), 0, number)[0] for number in range(200)]
    assert 67.2 <= min(values) < 67.21
    assert 67.29 < max(values) <= 67.3


def test_the_front_of_the_best_rate_has_no_gap() -> None:
    for name in ("hidden", "epochs"):
        problem = PROBLEMS[name]()
        front = [{**problem.space.default(), "lr": 1e-3, name: size} for size in range(2, 513, 5)]
        assert problem.gaps(front)[-1] == pytest.approx(0.0, abs=0.05)
        assert problem.gaps([problem.space.default()])[0] > 0.5


def test_errors_are_those_of_the_best_trial_so_far() -> None:
    rows: list[list[object]] = [[1e-5, 32], [1e-3, 32], *[[1e-3, 512]] * 28]
    runs = Runs(
        Run("carbs", "hidden", seed, gaps=[1.0] * 30, seconds=[0.0] * 30, configs=rows)  # type: ignore[arg-type]
        for seed in range(2)
    )
    [row] = error_table(runs).rows
    assert row == ("carbs", "hidden", *["0.25 ×/÷ 1.00"] * 3)
