"""Recommended points of hand-made fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autotune.results.confirmation_runs import RunKey
from autotune.results.recommendation import recommend, run_deviation
from autotune.results.selection import marked_trials, pick_trial
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics
from autotune.results.trial_tables import TRAINED_HEAD
from search_spaces.errors import InvalidInputError
from tests.support.synthetic import synthetic_results

CLEAR = {100: 0.70, 300: 0.80, 1_000: 0.90, 10_000: 0.91, 100_000: 0.92}
"""Accuracy by parameters, of a front that bends at 1,000 on the logarithmic axis of parameters."""
STRAIGHT = {100: 0.70, 1_000: 0.75, 10_000: 0.80, 100_000: 0.85}
BASELINE = {"majority class": 0.5}


def made(
    front: Mapping[int, float],
    spread: float | None = 0.002,
    baselines: Mapping[str, float] = BASELINE,
    confirmed: Sequence[int] | None = None,
) -> SweepTables:
    """A sweep with this front (trial numbers in its order).

    Args:
        front: accuracy by trainable parameters.
        spread: half the distance between the two confirmation runs of a point; None for no confirmation.
        baselines: accuracy by name.
        confirmed: trials with confirmation runs; all by default.
    """
    template = synthetic_results(Path("s"), trials=1, confirm_seeds=0, statuses=["complete"])
    rows = [
        {
            **template.trials.iloc[0].to_dict(),
            "trial": number, "accuracy": accuracy, "metric.accuracy": accuracy, "on_front": True, "feasible": True,
            "trainable_params": float(params), "cost.trainable_params": float(params),
        }
        for number, (params, accuracy) in enumerate(front.items())
    ]  # fmt: skip
    runs = [
        {"trial": row["trial"], "seed": seed, "elapsed": 1.0, "metric.accuracy": row["accuracy"] + step}
        for row in rows
        for seed, step in enumerate([] if spread is None else [-spread, spread])
        if confirmed is None or row["trial"] in confirmed
    ]
    return replace(
        template,
        trials=pd.DataFrame(rows),
        confirmations=pd.DataFrame(runs, columns=None if runs else ["trial", "seed", "elapsed"]),
        baselines=dict(baselines),
    )


def test_a_clear_bend_is_the_knee() -> None:
    results = made(CLEAR)
    found = recommend(results, results.front)
    assert (found.trial, found.is_knee) == (2, True)
    assert "the front bends here" in found.reason
    assert pick_trial(results, "knee") == 2


def test_a_clear_bend_needs_no_confirmation() -> None:
    results = made(CLEAR, spread=None)
    assert recommend(results, results.front).trial == 2


def test_a_straight_front_has_no_bend() -> None:
    # One run's standard deviation is 0.04 * sqrt(2) = 0.057, the standard error of a mean of two 0.04: the best is
    # 0.85, so that 0.85 and not 0.80 is within one standard error.
    results = made(STRAIGHT, spread=0.04)
    found = recommend(results, results.front)
    assert (found.trial, found.is_knee) == (3, False)
    assert found.reason.startswith(
        "the front has no bend, and no smaller point is within one standard error (4.0"
    )


def test_without_a_bend_the_smallest_point_within_one_standard_error_is_taken() -> None:
    results = made(STRAIGHT, spread=0.06)  # 0.85 - 0.06 < 0.80
    found = recommend(results, results.front)
    assert (found.trial, found.is_knee) == (2, False)
    assert found.reason.startswith("the front has no bend: the smallest point within one standard error (6.0")
    assert found.reason.endswith("of the best, trial 3")
    assert pick_trial(results, "knee") == 2
    assert pick_trial(results, "best") == 3


def test_noise_hides_a_bend() -> None:
    # The depth at trial 2 is 0.58 of a quality span of 0.22: a standard error of 0.06 leaves no bend.
    noisy = made(CLEAR, spread=0.06)
    found = recommend(noisy, noisy.front)
    assert not found.is_knee
    assert found.trial == 2  # 0.90 is the smallest within 0.06 of 0.92
    assert "no bend" in found.reason


def test_without_a_known_error_a_straight_front_gives_its_best() -> None:
    results = made(STRAIGHT, spread=None)
    found = recommend(results, results.front)
    assert (found.trial, found.is_knee) == (3, False)
    assert "no standard error is known" in found.reason


def test_a_single_point() -> None:
    results = made({1_000: 0.9})
    assert recommend(results, results.front).trial == 0
    assert recommend(results, results.front).reason == "the only point of the front"


def test_two_points_are_a_straight_front() -> None:
    results = made({100: 0.7, 1_000: 0.9})
    assert not recommend(results, results.front).is_knee


@pytest.mark.parametrize("spread", [0.002, None])
def test_points_that_do_not_beat_the_baseline_are_never_recommended(spread: float | None) -> None:
    results = made(CLEAR, spread, baselines={"majority class": 0.95})
    found = recommend(results, results.front)
    assert found.trial is None
    assert "beats the baseline majority class (95.0" in found.reason
    for pick in ("knee", "smallest"):
        with pytest.raises(
            InvalidInputError, match="no point of the front beats the baseline majority class"
        ):
            pick_trial(results, pick)
    assert pick_trial(results, "best") == 4
    assert pick_trial(results, "3") == 3
    assert marked_trials(results) == {4}


def test_the_smallest_point_beats_the_baseline() -> None:
    results = made(CLEAR, baselines={"majority class": 0.75})
    assert pick_trial(results, "smallest") == 1
    assert recommend(results, results.front).trial == 2


def test_a_point_within_its_standard_error_of_the_baseline_is_no_better() -> None:
    near = made(CLEAR, spread=0.02, baselines={"majority class": 0.69})
    assert pick_trial(near, "smallest") == 1
    clear = made(CLEAR, spread=0.002, baselines={"majority class": 0.69})
    assert pick_trial(clear, "smallest") == 0


def test_a_trained_head_is_no_untrained_baseline() -> None:
    results = made(CLEAR, baselines={TRAINED_HEAD: 0.99})
    assert recommend(results, results.front).trial == 2


def test_an_unconfirmed_score_does_not_beat_confirmed_means() -> None:
    results = made(CLEAR, confirmed=[0, 1, 3, 4])
    assert recommend(results, results.front).trial != 2
    assert (
        recommend(made(CLEAR, confirmed=[1]), made(CLEAR).front).reason
        == "the only eligible point of the front"
    )


def test_the_deviation_between_runs_is_pooled() -> None:
    results = made({100: 0.7, 1_000: 0.9})
    scores = [0.6, 0.8, 0.9, 0.9, 0.9]  # squares 0.02 and 0, degrees of freedom 1 and 2
    runs = pd.DataFrame({"trial": [0, 0, 1, 1, 1], "metric.accuracy": scores})
    deviation = run_deviation(replace(results, confirmations=runs), results.objectives[0])
    assert deviation == pytest.approx(np.sqrt(0.02 / 3))


def test_runs_that_tie_prove_no_standard_error() -> None:
    results = made(STRAIGHT, spread=0.0)
    found = recommend(results, results.front)
    assert (found.trial, found.is_knee) == (3, False)
    assert found.reason == "the front has no bend, and no standard error is known: the best point"
    intervals = confirmation_statistics(results, "accuracy")
    assert intervals[["low", "high"]].isna().all(axis=None)


def test_runs_that_tie_have_the_standard_error_of_a_proportion() -> None:
    results = made(STRAIGHT, spread=0.0)
    right = {
        RunKey(trial, seed): {"accuracy": np.repeat([1.0, 0.0], [round(40 * share), 40 - round(40 * share)])}
        for trial, share in enumerate(STRAIGHT.values())
        for seed in (0, 1)
    }
    results = replace(results, example_scores=right)
    found = recommend(results, results.front)
    # The deviation of 40 examples is near 0.065, and of the mean of two runs 0.046: less than a step of 0.05.
    assert found.reason.startswith(
        "the front has no bend, and no smaller point is within one standard error (4.7"
    )
    row = confirmation_statistics(results, "accuracy").loc[3]
    assert row["high"] - row["mean"] == pytest.approx(1.96 * np.sqrt(0.85 * 0.15 / 40 / 2), rel=0.05)


def test_intervals_end_at_the_range_of_the_metric() -> None:
    results = made({100: 0.03, 1_000: 0.97}, spread=0.02)
    found = confirmation_statistics(results, "accuracy")
    assert found.loc[0, "low"] == 0.0
    assert found.loc[1, "high"] == 1.0
    # t(0.975, 2) = 4.303 times the standard error of 0.02.
    assert found.loc[0, "high"] == pytest.approx(0.03 + 4.302653 * 0.02)
