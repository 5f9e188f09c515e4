"""How a confirmation spends its runs: budget, elimination, contenders, resumption."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from optuna.trial import FrozenTrial, create_trial

from autotune.results.confirmation import chosen_points, confirmed_front, report_seed, search_seed
from autotune.results.confirmation_plan import plan_confirmation
from autotune.results.confirmation_runs import RunKey, empty_confirmations, ended_runs
from autotune.results.estimates import estimates, reported_front, search_front
from autotune.results.sweep_tables import SweepTables, with_confirmations
from autotune.results.tables import quality
from autotune.results.trial_tables import share_dominated
from autotune.trial_attributes import stored
from tests.support.confirmations import (
    Score,
    confirm_in_rounds,
    noisy,
    resume_in_rounds,
    searched_sweep,
    with_runs,
)
from tests.support.synthetic import synthetic_sweep
from trials.records import TrialResult, TrialStatus
from trials.tasks.example_scores import encode_scores

COSTS = [1e3, 2e3, 5e3, 1e4, 3e4, 1e5]
LUCKY = [0.70, 0.78, 0.80, 0.87, 0.88, 0.90]
"""Searched accuracies; trial 2 was lucky by 4 points."""
TRUE = [0.70, 0.78, 0.76, 0.87, 0.88, 0.90]
QUIET = noisy(TRUE, 0.003)


def counts(runs: list[RunKey]) -> Counter[int]:
    return Counter(run.trial for run in runs)


def test_the_runs_are_as_many_as_the_seeds_times_the_points() -> None:
    runs = confirm_in_rounds(searched_sweep(COSTS, LUCKY), QUIET)
    assert len(runs) == len(set(runs)) == 3 * len(COSTS)
    assert set(counts(runs)) == set(range(6))
    assert max(counts(runs).values()) <= 6


def test_an_overestimated_point_is_eliminated_and_its_runs_go_to_others() -> None:
    searched = searched_sweep(COSTS, LUCKY)
    runs = confirm_in_rounds(searched, QUIET)
    assert counts(runs)[2] < 3
    results = with_runs(searched, QUIET, runs)
    front = reported_front(results.objectives, results.trials, results.confirmations)
    assert np.flatnonzero(front).tolist() == [0, 1, 3, 4, 5]


def test_points_in_doubt_have_more_runs_than_certain_ones() -> None:
    # Trial 4 costs more than trial 3 and is better by a third of a standard deviation; the others are many apart.
    true, runs = [0.60, 0.70, 0.78, 0.868, 0.870, 0.95], Counter[int]()
    for seed in range(5):
        runs += counts(confirm_in_rounds(searched_sweep(COSTS, true), noisy(true, 0.006, seed)))
    assert runs[4] > 1.3 * max(runs[trial] for trial in (0, 1, 2, 3, 5))


def test_an_underestimated_trial_is_rescued() -> None:
    # In the search, trial 6 is dominated by trial 3 by a hair; it is better by 3 points.
    costs, scores = [*COSTS, 1.2e4], [*TRUE[:2], 0.80, *TRUE[3:], 0.868]
    searched = searched_sweep(costs, scores)
    assert not searched.trials["on_search_front"][6]
    score = noisy([*TRUE[:2], 0.80, *TRUE[3:], 0.90], 0.004)
    runs = confirm_in_rounds(searched, score)
    results = with_runs(searched, score, runs)
    front = reported_front(results.objectives, results.trials, results.confirmations)
    assert counts(runs)[6] >= 1
    assert front[6]
    assert not front[4], "it costs more than the rescued trial, and scores less"
    assert len(runs) <= 3 * len(chosen_points(searched))


def test_one_seed_has_no_contenders() -> None:
    searched = searched_sweep([*COSTS, 1.2e4], [*TRUE, 0.868], seeds=1)
    assert sorted(run.trial for run in confirm_in_rounds(searched, QUIET)) == chosen_points(searched)


@pytest.mark.parametrize("stopped", [1, 5, 7, 8, 12, 17])
def test_an_interrupted_confirmation_resumes_with_the_same_runs(stopped: int) -> None:
    searched, score = searched_sweep([*COSTS, 1.2e4], [*LUCKY, 0.868]), noisy([*TRUE, 0.87], 0.01)
    whole = confirm_in_rounds(searched, score)
    part = confirm_in_rounds(searched, score, stop_after=stopped)
    assert part == whole[:stopped]
    assert resume_in_rounds(searched, score, part) == whole


def test_the_order_in_which_the_runs_of_a_round_end_does_not_matter() -> None:
    searched, score = searched_sweep(COSTS, LUCKY), noisy(TRUE, 0.01)
    whole = confirm_in_rounds(searched, score)
    shuffled = [whole[i] for i in np.random.default_rng(0).permutation(len(whole))]
    assert plan_confirmation(with_runs(searched, score, shuffled), shuffled).runs == []
    first = plan_confirmation(with_runs(searched, score, whole[3:6]), whole[3:6]).runs
    assert first == whole[:3]


def test_an_equal_allocation_of_an_earlier_version_is_complete() -> None:
    searched = searched_sweep(COSTS, LUCKY)
    runs = [RunKey(t, report_seed(0, k)) for k in range(3) for t in chosen_points(searched)]
    assert plan_confirmation(with_runs(searched, QUIET, runs), runs).runs == []
    begun = runs[:10]
    rest = resume_in_rounds(searched, QUIET, begun)[10:]
    assert len(rest) == 8
    assert not set(rest) & set(begun)


def test_failed_runs_count_and_a_point_without_a_score_has_no_further_one() -> None:
    searched = searched_sweep(COSTS, LUCKY)
    runs = confirm_in_rounds(searched, QUIET, failing=frozenset({1}))
    assert counts(runs)[1] == 1
    assert len(runs) <= 18
    every = confirm_in_rounds(searched, QUIET, failing=frozenset(range(6)))
    assert counts(every) == dict.fromkeys(range(6), 1)


def test_points_are_limited_and_nothing_runs_without_a_front() -> None:
    searched = searched_sweep(COSTS, TRUE, points=3)
    assert len(confirm_in_rounds(searched, noisy(TRUE, 0.01))) == 9
    assert confirm_in_rounds(searched_sweep([], []), QUIET) == []


def test_by_need_reports_a_better_front_than_an_equal_allocation() -> None:
    """Over 12 sweeps, the true hypervolume that the reported front loses is less for the same number of runs."""
    losses = {"need": 0.0, "equal": 0.0}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        costs = 10 ** rng.uniform(2.5, 5.5, 15)
        true = 0.92 - 0.3 * np.exp(2.5 - np.log10(costs)) - rng.exponential(0.02, 15)
        searched = searched_sweep(costs, true + 0.01 * rng.normal(size=15))
        score = noisy(true, 0.01, seed)
        equal = [RunKey(t, report_seed(0, k)) for k in range(3) for t in chosen_points(searched)]
        for name, runs in (("need", confirm_in_rounds(searched, score)), ("equal", equal)):
            losses[name] += lost_hypervolume(with_runs(searched, score, runs), true)
    assert losses["need"] < 0.8 * losses["equal"]


def lost_hypervolume(results: SweepTables, true: np.ndarray) -> float:
    """The share of the box that the best front dominates and the reported one does not, by true scores."""
    front = reported_front(results.objectives, results.trials, results.confirmations)
    trials = results.trials.assign(accuracy=true)
    whole = replace(results, trials=trials).search_hypervolume
    return whole - replace(results, trials=trials[front]).search_hypervolume


def test_the_hypervolume_is_that_of_the_reported_front() -> None:
    """The search overestimated trial 0: the reported front is trial 1, with the estimate after its runs."""
    searched = searched_sweep([1e3, 1e3, 1e5], [0.9, 0.8, 0.85])
    whole = searched.hypervolume
    assert whole == searched.search_hypervolume
    runs = [RunKey(trial, report_seed(0, k)) for trial in (0, 1) for k in range(3)]
    scored = with_runs(searched, lambda trial, _: [0.6, 0.8][trial], runs)
    front = reported_front(scored.objectives, scored.trials, scored.confirmations)
    results = replace(scored, trials=scored.trials.assign(on_front=front))
    assert results.front["trial"].tolist() == [1]
    estimate = estimates(quality(results), results.trials, results.confirmations)[1]
    by_hand = share_dominated(results.objectives, np.array([[estimate, 1e3]]))
    assert results.hypervolume == pytest.approx(by_hand)
    assert 0 < results.hypervolume < results.search_hypervolume == whole


def test_search_seeds_and_report_seeds_differ() -> None:
    searches = {search_seed(0, number) for number in range(1000)}
    assert not searches & {report_seed(0, index) for index in range(1000)}


def test_confirmed_points_off_the_reported_front_are_not_probed() -> None:
    searched: SweepTables = searched_sweep(COSTS, LUCKY)
    assert confirmed_front(searched) == chosen_points(searched)
    score: Score = QUIET
    results = with_runs(searched, score, confirm_in_rounds(searched, score))
    reported = reported_front(results.objectives, results.trials, results.confirmations)
    results = replace(results, trials=results.trials.assign(on_front=reported))
    assert confirmed_front(results) == [0, 1, 3, 4, 5]


def test_an_empty_table_of_runs_has_the_columns_of_one() -> None:
    assert list(empty_confirmations()) == ["trial", "seed", "elapsed"]
    assert isinstance(empty_confirmations(), pd.DataFrame)


def with_repeats(scores: list[float], costs: list[float], repeats: dict[int, int]) -> SweepTables:
    """A search in which each trial among the keys of `repeats` had the configuration of its value."""
    searched = searched_sweep(costs, scores)
    configs = [searched.config(repeats.get(trial, trial)) for trial in range(len(costs))]
    trials = searched.trials.assign(config=configs)
    on_front = search_front(searched.objectives, trials)
    return replace(searched, trials=trials.assign(on_search_front=on_front, on_front=on_front))


def test_a_configuration_that_was_repeated_is_confirmed_once_by_its_first_trial() -> None:
    # Trials 6 and 7 are trials 3 and 5 again; their configurations have the mean of both scores.
    searched = with_repeats([*LUCKY, 0.87, 0.90], [*COSTS, 1e4, 1e5], {6: 3, 7: 5})
    assert chosen_points(searched) == [0, 1, 2, 3, 4, 5]
    runs = confirm_in_rounds(searched, noisy([*TRUE, 0.87, 0.90], 0.003))
    assert not {6, 7} & set(counts(runs))
    assert len(runs) == 3 * len(COSTS)


def test_a_posterior_that_favors_a_repeat_leaves_the_first_trial_on_the_front() -> None:
    searched = with_repeats([0.70, 0.80, 0.80], [1e3, 2e3, 2e3], {2: 1})
    trials = searched.trials.assign(**{"posterior.accuracy": [0.70, 0.79, 0.81]})
    assert search_front(searched.objectives, trials).tolist() == [True, True, False]


def test_the_best_trials_of_one_objective_are_different_configurations() -> None:
    searched = with_repeats([0.9, 0.8, 0.9, 0.7], [1e3] * 4, {2: 0})
    sweep = synthetic_sweep(("accuracy",), confirm={"seeds": 2, "points": 2})
    assert chosen_points(replace(searched, sweep=sweep)) == [0, 1]


def confirmed(trial: int, seed: int, accuracy: float) -> FrozenTrial:
    result = TrialResult(
        TrialStatus.COMPLETE,
        {"accuracy": accuracy},
        example_scores={"accuracy": encode_scores(np.array([accuracy > 0.5]))},
    )
    return create_trial(value=0.0, user_attrs=stored(trial=trial, seed=seed, result=result))


def test_runs_of_an_earlier_version_count_once_for_each_configuration_and_seed() -> None:
    searched = with_repeats([0.7, 0.8, 0.8], [1e3, 2e3, 2e3], {2: 1})
    study = [confirmed(1, 5, 0.81), confirmed(2, 5, 0.31), confirmed(2, 7, 0.83)]
    results = with_confirmations(searched, study)
    assert results.confirmations[["trial", "seed"]].to_numpy().tolist() == [[1, 5], [1, 7]]
    assert results.confirmations["metric.accuracy"].tolist() == [0.81, 0.83]
    assert set(results.example_scores) == {RunKey(1, 5), RunKey(1, 7)}
    assert results.example_scores[RunKey(1, 5)]["accuracy"].tolist() == [1.0]
    assert ended_runs(study, searched.first_trials) == {RunKey(1, 5), RunKey(1, 7)}


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_contender_keeps_up_with_the_points_that_it_displaces(seeds: int, seed: int) -> None:
    # Trial 6 is off the search's front by a hair, and far better than trials 3 to 5 of it.
    searched = searched_sweep([*COSTS, 1.2e4], [*TRUE[:2], 0.80, 0.87, 0.88, 0.90, 0.869], seeds=seeds)
    score = noisy([*TRUE[:2], 0.80, 0.85, 0.855, 0.86, 0.93], 0.02, seed)
    runs = confirm_in_rounds(searched, score)
    assert counts(runs)[6] >= max(counts(runs)[trial] for trial in (4, 5))
    assert len(runs) <= seeds * len(chosen_points(searched))
