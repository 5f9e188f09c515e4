"""The benchmarks of noise: problems with known noise, and tables of their results."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import confirmation, noise


def test_the_synthetic_problem_has_the_noise_that_it_says() -> None:
    problem = noise.synthetic()
    config = problem.space.sample(np.random.default_rng(0))
    seen = [
        problem.observed(config, np.random.default_rng(seed)) - problem.error(config) for seed in range(500)
    ]
    # The standard error of a standard deviation of 500 draws is 3 %.
    assert np.std(seen) == pytest.approx(0.04, rel=0.15)
    assert problem.gaps([{"width": 256, "rate": 3e-3, "dropout": 0.1}])[0] < 1.0


def test_a_table_has_one_row_per_problem_and_arm_with_ratios_to_the_first_arm() -> None:
    keys = ("bias", "regret", "front_error", "front_gap", "gap", "repeats", "trials")
    lines = [
        {"arm": arm, "problem": "p", "seed": seed, "error": error, **dict.fromkeys(keys, 0.5)}
        for arm, error in (("before", 0.4), ("after", 0.1))
        for seed in (0, 1)
    ]
    before, after = noise.rows(lines, ["before", "after"])
    assert before[:5] == ("p", "before", "2", "0.4000 ± 0.0000", "1.00")
    assert after[:5] == ("p", "after", "2", "0.1000 ± 0.0000", "0.25")
    assert len(before) == len(noise.COLUMNS)


def test_both_allocations_spend_the_same_number_of_runs() -> None:
    results, true = confirmation.searched(np.random.default_rng(0), 0.01)
    equal, by_need = (confirmation.confirm(results, true, 0.01, is_by_need) for is_by_need in (False, True))
    assert len(by_need.confirmations) <= len(equal.confirmations) == 24
    assert len(confirmation.judge(equal, true)) == len(confirmation.COLUMNS) - 2
