"""The cases of `benchmarks.search_laws`: what counts as covered, and the row of a table."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.search_laws import Outcome, coverage_table, required_table
from benchmarks.search_laws_cases import Best, Case, simulated_cases


def test_an_interval_may_miss_the_best_by_half_a_step() -> None:
    best = Best(0.01, 0.005, 0.01, 2.0, is_log=True)
    assert best.is_within(0.015, 0.1)
    assert not best.is_within(0.025, 0.1)
    assert best.overlaps(0.001, 0.003)
    assert not best.overlaps(0.001, 0.002)
    linear = Best(0.3, 0.3, 0.3, 0.1, is_log=False)
    assert linear.is_within(0.0, 0.25)
    assert not linear.is_within(0.0, 0.15)


def test_simulations_predict_ten_times_the_largest_cost() -> None:
    cases = list(simulated_cases(2))
    assert [len(case.trials) for case in cases] == [60, 60, 120, 120]
    for case in cases:
        assert case.cost == pytest.approx(10 * case.trials["cost"].max())
        assert set(case.best) == set(case.parameters)


def test_a_configuration_has_the_loss_of_the_nearest_runs() -> None:
    measured = pd.DataFrame(
        {"rate": [1e-3, 1e-3, 1e-2, 1e-2], "kind": ["a", "b", "a", "b"], "loss": [1.0, 9.0, 2.0, 9.0]}
    )
    case = Case("tables", "t", measured, {"rate": "log"}, ("kind",), (), 1.0, {}, measured)
    assert case.loss_of({"rate": 2e-3, "kind": "a"}) == 1.0
    assert case.loss_of({"rate": 5e-3, "kind": "a"}) == 2.0


def test_tables_count_draws_and_targets() -> None:
    rows = [
        Outcome(
            "FCNet, held out", "init_lr", f"t{i % 2}", i > 0, True, 4.0, 1.5, 2.0, None, np.nan, 0.5, False
        )
        for i in range(10)
    ]
    [row] = coverage_table(rows).rows
    assert row[:6] == ("FCNet, held out", "init_lr", "10 (2)", "0.90", "1.00", "×4.00")
    [required] = required_table(rows).rows
    assert required == ("held-out tables, learning rate", "≥ 0.80", "0.90 of 10 draws, 2 targets", "yes")
