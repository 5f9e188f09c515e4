"""The comparison of a precision with fp32, on losses and gradients of the test's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autotune.calibrate.agreement import MOST, Agreement, Trace, compare

LOSSES = [[1.0, 2.0], [3.0, 2.0]]
"""Of two seeds; the standard deviations over seeds of the steps are √2 and 0, and the root of the mean variance 1."""


def traces(losses: list[list[float]], rounding: float = 0.0) -> list[Trace]:
    """The gradients of two batches differ by (2, 0), so their noise is √2; `rounding` moves that of the first."""
    gradients = np.array([[1.0 + rounding, 0.0], [-1.0, 0.0]])
    return [Trace(np.array(each), gradients) for each in losses]


def test_equal_trials_agree() -> None:
    assert compare(traces(LOSSES), traces(LOSSES)) == Agreement(0.0, 0.0)


def test_differences_are_shares_of_the_noise() -> None:
    found = compare(traces(LOSSES), traces([[1.1, 2.1], [3.1, 1.9]], rounding=0.2))
    assert found.loss == pytest.approx(0.1)
    assert found.gradient == pytest.approx(0.2 / math.sqrt(2))
    assert found.is_close
    assert str(found) == "loss within 10 %, gradient within 14 % of the noise of seeds"


def test_a_difference_in_one_direction_counts_like_any_other() -> None:
    assert compare(traces(LOSSES), traces([[1.6, 2.6], [3.6, 2.6]])).loss == pytest.approx(0.6)


@pytest.mark.parametrize("ratios", [(MOST + 0.01, 0.0), (0.0, MOST + 0.01), (math.nan, 0.0), (0.0, math.inf)])
def test_more_rounding_than_noise_is_no_agreement(ratios: tuple[float, float]) -> None:
    assert not Agreement(*ratios).is_close


def test_without_noise_only_an_exact_result_agrees() -> None:
    same = [[1.0, 1.0], [1.0, 1.0]]
    assert compare(traces(same), traces(same)).is_close
    assert compare(traces(same), traces([[1.0, 1.0], [1.0, 1.0001]])).loss == math.inf


def test_a_loss_that_is_not_finite_is_no_agreement() -> None:
    assert not compare(traces(LOSSES), traces([[1.0, math.nan], [3.0, 2.0]])).is_close
