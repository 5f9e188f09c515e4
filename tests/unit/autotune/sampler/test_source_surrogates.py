"""Sources in the sampler: fitted once, missing values, startup, notes and determinism."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import optuna
import pytest

from autotune.sampler.pareto import source_surrogates
from autotune.sampler.pareto.source_surrogates import source_process
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.sources import SourceTrials, first_configurations, source_trust
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess

SPACE = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Int(name="rank", low=1, high=64, log=True, default=8, when={"family": ("lora",)}),
        Float(name="rate", low=1e-5, high=1e-1, log=True),
    )
)
EMBEDDING = Embedding(np.zeros(2, dtype=int))
ALL = np.ones(300, dtype=bool)


def cost(config: Mapping[str, Value]) -> float:
    return 1000.0 * float(config.get("rank", 0.5))


def error(config: Mapping[str, Value]) -> float:
    size = float(config.get("rank", 0.3))
    return 0.3 / size**0.5 + 0.05 * (np.log10(float(config["rate"])) + 3.0) ** 2


def source(name: str = "other", sign: float = 1.0, count: int = 24) -> SourceTrials:
    rng = np.random.default_rng(5)
    configs = [SPACE.sample(rng) for _ in range(count)]
    values = np.array([[sign * (1.0 + 3.0 * error(config)), np.nan] for config in configs])
    return SourceTrials(name=name, configs=configs, values=values)


def study_of(*sources: SourceTrials, trials: int, n_startup: int = 10) -> optuna.Study:
    sampler = ParetoSampler(
        space=SPACE,
        known_objectives={1: cost},
        sources=sources,
        seed=4,
        n_startup=n_startup,
        n_candidates=32,
        surrogate="matern",
    )
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        config = SPACE.suggest(trial)
        study.tell(trial, [error(config), cost(config)])
    return study


def test_a_process_is_fitted_once_for_the_same_content(monkeypatch: pytest.MonkeyPatch):
    fits = []
    fit = GaussianProcess.fit
    monkeypatch.setattr(source_surrogates, "_fitted", type(source_surrogates._fitted)())
    monkeypatch.setattr(
        GaussianProcess, "fit", lambda *args, **kwargs: fits.append(1) or fit(*args, **kwargs)
    )
    X = np.random.default_rng(0).random((8, 2))
    first = source_process(X, X[:, 0], ALL[:8], EMBEDDING)
    assert source_process(X.copy(), X[:, 0].copy(), ALL[:8], EMBEDDING) is first
    assert len(fits) == 1
    assert source_process(X, X[:, 1], ALL[:8], EMBEDDING) is not first
    assert len(fits) == 2


def test_missing_values_are_left_out_and_too_few_give_no_process():
    X = np.random.default_rng(0).random((8, 2))
    y = X[:, 0].copy()
    y[:3] = np.nan
    fitted = source_process(X, y, ALL[:8], EMBEDDING)
    assert fitted is not None
    assert len(fitted.observations.y) == 5
    y[:5] = np.nan
    assert source_process(X, y, ALL[:8], EMBEDDING) is None
    assert source_process(X, np.ones(8), ALL[:8], EMBEDDING) is None


def test_a_large_source_keeps_its_front(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source_surrogates, "_MOST", 20)
    X = np.random.default_rng(0).random((60, 2))
    is_front = np.arange(60) >= 55
    fitted = source_process(X, X[:, 0], is_front, EMBEDDING)
    assert fitted is not None
    kept = {tuple(row) for row in fitted.observations.X}
    assert len(kept) == 20
    assert {tuple(row) for row in X[is_front]} <= kept


def test_a_source_that_agrees_ends_startup_early_and_one_that_misleads_does_not():
    study = study_of(source("good"), source("bad", sign=-1.0), trials=7)
    trust = source_trust(study.trials)[0]
    assert trust.n >= 5
    assert trust.weights["good"] > 0.3
    assert trust.weights["bad"] == 0
    assert list(trust.dropped) == ["bad"]
    assert (trust.agreement["good"] or 0) > 0.5
    without = study_of(trials=7)
    misled = study_of(source("bad", sign=-1.0), trials=7)
    assert [t.params for t in misled.trials] == [t.params for t in without.trials]
    assert study.trials[5].params != without.trials[5].params


def test_proposals_are_a_function_of_the_seed_the_trials_and_the_sources():
    first, again = (study_of(source(), trials=8) for _ in range(2))
    assert [t.params for t in first.trials] == [t.params for t in again.trials]


def test_a_source_without_the_uncertain_objective_changes_nothing():
    lacking = source()
    lacking = SourceTrials(name="none", configs=lacking.configs, values=np.full((24, 2), np.nan))
    study = study_of(lacking, trials=5, n_startup=4)
    assert source_trust(study.trials) == {}


def test_first_configurations_of_a_source_run_first_and_count_as_startup():
    first = first_configurations([source()], 3, directions=["minimize", "minimize"], cost=cost)
    assert len(first) <= 3
    best: Configuration = min(source().configs, key=error)
    assert best in first
    assert [cost(config) for config in first] == sorted(cost(config) for config in first)


def test_sources_need_values_for_every_objective_of_the_study():
    short = SourceTrials(name="short", configs=[{"family": "ia3", "rate": 1e-3}], values=np.ones((1, 1)))
    with pytest.raises(ValueError, match="short has values for 1 objectives, and the study has 2"):
        study_of(short, trials=1)
