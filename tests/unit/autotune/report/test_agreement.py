"""How far the ranking of a search held in its confirmation, on made-up scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, spearmanr

from autotune.rank_statistics import kendall, spearman
from autotune.report.agreement import rank_agreement
from autotune.report.front_rows import point_columns
from autotune.report.headline import mean_selection_bias
from autotune.results.estimates import confirmed_values, estimates, reported_front
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality
from tests.support.confirmations import searched_sweep

COSTS = [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]
SEARCHED = [0.50, 0.55, 0.60, 0.65, 0.70, 0.75]


def confirmed(
    scores: Sequence[float],
    spread: float = 0.001,
    searched: Sequence[float] = SEARCHED,
    as_search: bool = False,
) -> SweepTables:
    """A search whose points each have two runs, this far apart around a score; NaN for a point without runs."""
    rows = [
        {
            "trial": trial,
            "seed": seed,
            "elapsed": 1.0,
            "as_search": as_search,
            "metric.accuracy": score + shift,
        }
        for trial, score in enumerate(scores)
        for seed, shift in ((1, -spread), (3, spread))
        if not np.isnan(score)
    ]
    tables = searched_sweep(COSTS[: len(searched)], searched)
    runs = pd.DataFrame(rows)
    front = reported_front(tables.objectives, tables.trials, runs)
    return replace(tables, confirmations=runs, trials=tables.trials.assign(on_front=front))


def test_correlations_of_a_case_by_hand():
    found = rank_agreement(confirmed([0.66, 0.65, 0.70, 0.75, 0.85, 0.80]))
    assert found is not None
    assert found.spearman.value == pytest.approx(1 - 6 * 4 / (6 * 35))
    assert found.kendall.value == pytest.approx((13 - 2) / 15)
    assert found.spearman.low < found.spearman.value <= found.spearman.high <= 1
    assert (found.reversed_pairs, found.clearly_reversed) == (2, 2)
    assert [(point.trial, point.search_rank, point.rank) for point in found.points] == [
        (4, 2, 1), (5, 1, 2), (3, 3, 3), (2, 4, 4), (0, 6, 5), (1, 5, 6),
    ]  # fmt: skip
    assert {point.trial for point in found.moved} == {0, 1, 4, 5}
    assert "between search and the full budget, over 6 points" in found.summary
    assert "2 of 15 pairs changed their order, 2 of them beyond their intervals" in found.summary


def test_pairs_within_the_noise_are_reversed_and_not_clearly():
    found = rank_agreement(confirmed([0.66, 0.65, 0.70, 0.75, 0.85, 0.80], spread=0.1))
    assert found is not None
    assert (found.reversed_pairs, found.clearly_reversed) == (2, 0)
    steady = rank_agreement(confirmed([0.66, 0.65, 0.70, 0.75, 0.85, 0.80]))
    assert steady is not None
    assert found.spearman.low < steady.spearman.low


def test_the_same_order_has_a_correlation_of_one():
    found = rank_agreement(confirmed([0.6, 0.65, 0.7, 0.75, 0.8, 0.85], as_search=True))
    assert found is not None
    assert (found.spearman.value, found.kendall.value, found.reversed_pairs) == (1.0, 1.0, 0)
    assert found.moved == ()
    assert "between search and new seeds" in found.summary
    assert found.choice == found.search_choice
    assert found.choice_words.startswith("Search and confirmation recommend the same point")


def test_few_points_have_no_interval_and_say_so():
    nan = float("nan")
    found = rank_agreement(confirmed([0.6, nan, 0.7, 0.65, nan, nan]))
    assert found is not None
    assert np.isnan([found.spearman.low, found.kendall.high]).all()
    assert "fewer than 6 points are too few for an interval" in found.summary
    assert rank_agreement(confirmed([0.6, 0.7, nan, nan, nan, nan])) is None


def test_another_point_may_be_recommended_at_the_full_budget():
    found = rank_agreement(confirmed([0.95, 0.60, 0.61, 0.62, 0.63, 0.64]))
    assert found is not None
    assert found.choice == 0
    assert found.search_choice != 0
    assert f"The search alone recommends trial {found.search_choice}" in found.choice_words
    assert "the confirmed scores trial 0 (" in found.choice_words


def test_correlations_equal_those_of_scipy_with_ties():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 5, size=(2, 20, 8)).astype(float)
    assert spearman(a, b) == pytest.approx([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert kendall(a, b) == pytest.approx([kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert np.isnan(spearman(np.ones((1, 4)), np.arange(4.0)[None])).all()


def test_runs_at_another_fidelity_are_not_averaged_with_the_search():
    nan = float("nan")
    scores = [0.8, nan, 0.9, 0.9, 0.95, 1.0]
    full, same = confirmed(scores), confirmed(scores, as_search=True)
    means = estimates(quality(full), full.trials, full.confirmations)
    assert means[0] == pytest.approx(0.8)
    assert estimates(quality(same), same.trials, same.confirmations)[0] < 0.8
    values, is_confirmed = confirmed_values(full.objectives, full.trials, full.confirmations)
    gain = np.mean([0.8 - 0.5, 0.9 - 0.6, 0.9 - 0.65, 0.95 - 0.7, 1.0 - 0.75])
    assert values[1, 0] == pytest.approx(0.55 + gain)
    assert not is_confirmed[1]


def test_the_report_shows_the_gain_of_the_full_budget_in_place_of_a_bias():
    scores = [0.8, 0.85, 0.9, 0.9, 0.95, 1.0]
    assert "Gain of the full budget" in point_columns(confirmed(scores))
    assert mean_selection_bias(confirmed(scores)) == ""
    assert "Selection bias" in point_columns(confirmed(scores, as_search=True))
    assert mean_selection_bias(confirmed(scores, as_search=True)) != ""
