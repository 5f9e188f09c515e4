"""Repeats of a configuration: one observation, a new run where the noise is worth it, none where it is not."""

from __future__ import annotations

from collections import Counter

import numpy as np
import optuna
import pytest

from autotune.sampler.history import History, completed_values
from autotune.sampler.pareto.strategy import posterior_scores
from autotune.sampler.pareto_sampler import ParetoSampler
from search_spaces.parameters.types import Float, Int
from search_spaces.space import SearchSpace

SPACE = SearchSpace(
    (Int(name="width", low=1, high=64, log=True), Float(name="rate", low=1e-4, high=1e-1, log=True))
)


def quality(params: dict[str, float]) -> float:
    """The true loss: better with width, best at a rate of 0.003."""
    return float(0.5 / (1 + np.log2(params["width"])) + 0.1 * np.log10(params["rate"] / 3e-3) ** 2)


def searched(trials: int, deviation: float, seed: int = 0, **options: object) -> optuna.Study:
    """A study of width against loss with normal noise."""
    sampler = ParetoSampler(
        space=SPACE, known_objectives={1: lambda config: float(config["width"])}, n_startup=6, n_candidates=16,
        seed=seed, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        SPACE.suggest(trial)
        noise = deviation * np.random.default_rng([seed, trial.number]).normal()
        study.tell(trial, [quality(trial.params) + noise, float(trial.params["width"])])
    return study


def repeats(study: optuna.Study) -> int:
    counts = Counter(tuple(sorted(trial.params.items())) for trial in study.trials)
    return sum(count - 1 for count in counts.values())


def test_repeats_are_one_group_of_the_history() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    for width, loss in ((4, 0.2), (8, 0.3), (4, 0.4)):
        study.enqueue_trial({"width": width, "rate": 0.01})
        SPACE.suggest(study.ask())
        study.tell(study.trials[-1].number, [loss, float(width)])
    none = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
    history = History.read(study, none, SPACE, completed_values)
    assert [group.tolist() for group in history.groups] == [[0, 2], [1]]
    assert history.numbers == [0, 1, 2]
    assert History.read(study, study.trials[0], SPACE, completed_values).numbers == [1, 2]


@pytest.mark.parametrize("is_noisy", [False, True])
def test_a_deterministic_objective_is_repeated_never_or_twice(is_noisy: bool) -> None:
    # Told to expect noise, the sampler learns from two equal repeats that there is none.
    assert repeats(searched(22, 0.0, is_noisy=is_noisy)) <= (2 if is_noisy else 0)


def test_noise_that_is_unknown_is_not_measured_on_anybody_s_study() -> None:
    assert repeats(searched(16, 0.1)) == 0


def test_a_fifth_of_the_proposals_after_startup_repeats_where_the_noise_is_worth_it() -> None:
    study = searched(26, 0.1, is_noisy=True)
    assert 2 <= repeats(study) <= 4
    assert repeats(searched(14, 0.1, is_noisy=True, resample=0.0)) == 0
    assert 3 <= repeats(searched(16, 0.1, resample=0.5)) <= 5


@pytest.mark.parametrize("share", [0.125, 0.25])
def test_no_interleaved_proposal_takes_the_place_of_a_repeat(share: float) -> None:
    """Every eighth proposal continues the startup sequence, where a share of an eighth is due, too."""
    study = searched(26, 0.3, resample=share)
    assert repeats(study) == int(20 * share)


def test_what_is_repeated_is_near_the_front() -> None:
    study = searched(21, 0.05, resample=0.3)
    seen: dict[tuple[object, ...], float] = {}
    for trial in study.trials:
        key = tuple(sorted(trial.params.items()))
        if key in seen:
            better = [
                quality(other.params)
                for other in study.trials
                if other.params["width"] <= trial.params["width"]
            ]
            assert quality(trial.params) <= min(better) + 0.15
        seen[key] = 0.0


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="resample: 20 is not a share"):
        ParetoSampler(resample=20)


def test_posterior_means_are_closer_to_the_truth_than_values() -> None:
    study = searched(30, 0.05, is_noisy=True)
    found = posterior_scores(study.sampler.study_view(study), is_noisy=True)  # type: ignore[attr-defined]
    assert found.is_worth_it
    errors, values = [], []
    for trial in study.trials:
        if trial.number not in found.means[0]:
            continue  # an outlier
        errors.append(found.means[0][trial.number] - quality(trial.params))
        values.append(trial.values[0] - quality(trial.params))
    assert np.std(errors) < 0.9 * np.std(values)
    assert np.mean(list(found.deviations[0].values())) < 0.05
    assert set(found.means) == {0}, "the width is known"


def test_repeats_that_differ_reach_the_posterior() -> None:
    """Two runs of one configuration that differ by much make the posterior of every trial less certain."""

    def mean_deviation(difference: float) -> float:
        sampler = ParetoSampler(space=SPACE, known_objectives={1: lambda config: float(config["width"])})
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        points = [(1, 0.1), (2, 0.01), (4, 1e-3), (8, 1e-4), (16, 0.003), (32, 0.03), (64, 3e-4), (16, 0.003)]
        for number, (width, rate) in enumerate(points):
            study.enqueue_trial({"width": width, "rate": rate})
            trial = study.ask()
            SPACE.suggest(trial)
            shift = {4: -0.5, 7: 0.5}.get(number, 0.0) * difference
            study.tell(trial, [quality(trial.params) + shift, float(width)])
        found = posterior_scores(sampler.study_view(study), is_noisy=True)
        return float(np.mean(list(found.deviations[0].values())))

    assert mean_deviation(0.2) > 2.0 * mean_deviation(0.0)


def test_without_noise_the_posterior_is_not_worth_it() -> None:
    study = searched(16, 0.0, is_noisy=True)
    view = study.sampler.study_view(study)  # type: ignore[attr-defined]
    assert not posterior_scores(view, is_noisy=True).is_worth_it
