"""The promises of `ParetoSampler` with every strategy: Optuna's contract, and what a search relies on.

The tests run over the registry `STRATEGIES`. Optuna's own suite takes a few hundred small studies, so that of the
strategies other than `pareto` runs on request (`-m slow`); the tests below it are those of every run.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing import pytest_samplers
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)
from optuna.trial import Trial, TrialState

from autotune import ParetoSampler
from autotune.sampler.strategies import STRATEGIES
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace
from tests.support.configuration_keys import config_key

SPACE = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Int(name="rank", low=1, high=64, log=True, default=8, when={"family": ("lora",)}),
        Float(name="lora.lr", low=1e-5, high=1e-2, log=True, default=3e-4, when={"family": ("lora",)}),
        Float(name="ia3.lr", low=1e-4, high=1e-1, log=True, default=3e-3, when={"family": ("ia3",)}),
        Float(name="dropout", low=0.0, high=0.2, step=0.05, default=0.0),
        Categorical(name="batch", choices=(8, 16, 32), ordered=True, default=16),
    )
)
STARTUP = 3
EARLY = {"n_startup": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "models from the second trial on": EARLY,
    "within constraints": {**EARLY, "constraints": lambda configs: np.full((len(configs), 1), -1.0)},
}


def few_candidates(strategy: str) -> dict[str, int]:
    """Return settings that make the proposals of a strategy fast."""
    return {"n_candidates": 48} if "n_candidates" in STRATEGIES[strategy].settings else {}


def contract_parameters() -> list[Any]:
    """Each strategy with each of `SETTINGS`; in every run the first two of `pareto`."""
    return [
        pytest.param(
            {"strategy": strategy, **few_candidates(strategy), **settings},
            id=f"{strategy}, {name}",
            marks=() if strategy == "pareto" and "constraints" not in settings else pytest.mark.slow,
        )
        for strategy in sorted(STRATEGIES)
        for name, settings in SETTINGS.items()
    ]


@pytest.mark.filterwarnings("ignore:every configuration has been proposed")
class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=contract_parameters())
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: ParetoSampler(seed=0, **request.param)


def test_the_contract_is_whole() -> None:
    """Every class of Optuna's suite applies, except that of samplers for one objective alone."""
    suites = {
        each
        for name, each in inspect.getmembers(pytest_samplers, inspect.isclass)
        if name.endswith("TestCase") and not name.startswith("_")
    }
    assert suites - set(TestContract.__mro__) == {pytest_samplers.SingleOnlySamplerTestCase}


# --- what a search relies on


QUICK = ("pareto", "carbs")
"""Strategies whose proposals take less than a tenth of a second."""


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(
    params=[pytest.param(s, marks=() if s in QUICK else pytest.mark.slow) for s in sorted(STRATEGIES)]
)
def quick_strategy(request: pytest.FixtureRequest) -> str:
    """Every strategy; the others than `QUICK` on request."""
    return str(request.param)


def cost(config: Mapping[str, Value]) -> float:
    return 1000.0 * float(config.get("rank", 0.5))


def outcomes(config: Mapping[str, Value]) -> list[float]:
    """An error, the known cost, and a speed to maximize."""
    if config["family"] == "ia3":
        error = 0.3 + 0.1 * (math.log10(float(config["ia3.lr"])) + 2.5) ** 2
    else:
        off = math.log10(float(config["lora.lr"])) + 3.5
        error = 0.1 + 0.15 / math.sqrt(float(config["rank"])) + 0.1 * off**2
    return [error + 0.1 * float(config["dropout"]), cost(config), 1.0 / float(config["batch"])]


def sampler(strategy: str, **arguments: Any) -> ParetoSampler:
    defaults = {"space": SPACE, "n_startup": STARTUP, "seed": 0, **few_candidates(strategy)}
    return ParetoSampler(strategy=strategy, **{**defaults, **arguments})


def proceed(study: optuna.Study, trials: int) -> list[Configuration]:
    """Ask for configurations, tell their outcomes, and return the configurations."""
    configs = []
    for _ in range(trials):
        trial = study.ask()
        configs.append(SPACE.suggest(trial))
        study.tell(trial, outcomes(configs[-1])[: len(study.directions)])
    return configs


def objective(trial: Trial) -> tuple[float, ...]:
    return tuple(outcomes(SPACE.suggest(trial))[:2])


def study_of(sampler: BaseSampler, directions: Sequence[str] = ("minimize", "minimize")) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler)


def check_proposals(strategy: str, directions: list[str]) -> None:
    known = {1: cost} if len(directions) > 1 else {}
    configs = proceed(study_of(sampler(strategy, known_objectives=known), directions), STARTUP + 3)
    for config in configs:
        SPACE.validate(config)
    assert len({config_key(config) for config in configs}) == len(configs)


def test_proposals_are_new_and_within_the_space(strategy: str) -> None:
    check_proposals(strategy, ["minimize", "minimize"])


@pytest.mark.parametrize(
    "directions", [["minimize"], ["maximize"], ["minimize", "minimize", "maximize"]], ids=str
)
def test_proposals_for_other_numbers_of_objectives(quick_strategy: str, directions: list[str]) -> None:
    check_proposals(quick_strategy, directions)


def test_known_limits_and_constraints_are_never_broken(strategy: str) -> None:
    def excess(configs: Sequence[Configuration]) -> np.ndarray:
        return np.array([[float(config["batch"]) - 16.0] for config in configs])

    limits = {1: (0.0, 6000.0)}
    limited = sampler(strategy, known_objectives={1: cost}, limits=limits, constraints=excess)
    configs = proceed(study_of(limited), STARTUP + 4)
    assert max(map(cost, configs)) <= 6000
    assert all(config["batch"] in (8, 16) for config in configs)


def test_constraints_that_trials_report_are_accepted(quick_strategy: str) -> None:
    study = study_of(sampler(quick_strategy), ["minimize"])

    def limited(trial: Trial) -> float:
        config = SPACE.suggest(trial)
        trial.set_constraint("memory", float(config["batch"]) - 16.0)
        return outcomes(config)[0]

    study.optimize(limited, n_trials=STARTUP + 4)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


def test_trials_run_in_parallel(strategy: str) -> None:
    study = study_of(sampler(strategy))
    study.optimize(objective, n_trials=STARTUP + 4, n_jobs=2)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * (STARTUP + 4)


def test_running_trials_are_not_proposed_again(quick_strategy: str) -> None:
    study = study_of(sampler(quick_strategy))
    proceed(study, STARTUP + 1)
    running = [SPACE.suggest(study.ask()) for _ in range(4)]
    assert len({config_key(config) for config in running}) == 4


def test_failed_pruned_and_undefined_trials_stop_no_search(quick_strategy: str) -> None:
    study = study_of(sampler(quick_strategy), ["minimize"])
    proceed(study, STARTUP)
    for ending in (
        {"state": TrialState.FAIL},
        {"state": TrialState.PRUNED},
        {"values": math.inf},
        {"values": outcomes(SPACE.defaults()[0])[0]},
    ):
        trial = study.ask()
        SPACE.validate(SPACE.suggest(trial))
        study.tell(trial, **ending)
    SPACE.validate(SPACE.suggest(study.ask()))


def test_proposals_follow_from_the_study_and_the_seed(strategy: str) -> None:
    """A sampler that is rebuilt for every trial proposes the same; with another seed it does not."""
    expected, other = (proceed(study_of(sampler(strategy, seed=seed)), STARTUP + 3) for seed in (1, 2))
    study, configs = study_of(sampler(strategy)), []
    for _ in range(STARTUP + 3):
        study.sampler = sampler(strategy, seed=1)
        configs += proceed(study, 1)
    assert configs == expected
    assert configs != other


def test_without_a_space_parameters_are_inferred(quick_strategy: str) -> None:
    study = study_of(sampler(quick_strategy, space=None))

    def plain(trial: Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 1e-4, 1.0, log=True)
        width = trial.suggest_int("width", 1, 64)
        deep = trial.suggest_float("depth", 0, 1) if width > 32 else 0.0
        return abs(math.log10(x) + 2) + deep, float(width)

    study.optimize(plain, n_trials=STARTUP + 4)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
