"""The samplers that are compared, behind one interface: this project's, Optuna's, SMAC and Ax.

Every arm sees the same space and the same values. SMAC and Ax take spaces without conditions. Rates and sizes are the
packages' defaults but for these: SMAC scalarizes with ParEGO (Knowles 2006) and counts each configuration once
(`deterministic`), since the other arms do not repeat one on purpose; its initial design is a quarter of the trials.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import optuna

from autotune.sampler.pareto_sampler import ParetoSampler
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter


class Search(Protocol):
    """A search with one trial at a time."""

    def ask(self) -> Configuration:
        """Return the next configuration."""

    def tell(self, values: tuple[float, float]) -> None:
        """Report the minimized objectives of the last configuration."""


class OptunaSearch:
    """A search with an Optuna sampler, in memory."""

    def __init__(self, problem: Problem, sampler: optuna.samplers.BaseSampler) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = problem.space
        self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        self._trial: optuna.Trial | None = None

    def ask(self) -> Configuration:
        self._trial = self._study.ask()
        return self._space.suggest(self._trial)

    def tell(self, values: tuple[float, float]) -> None:
        assert self._trial is not None
        self._study.tell(self._trial, values)


class SmacSearch:
    """A search with SMAC3's random-forest facade and ParEGO."""

    def __init__(self, problem: Problem, seed: int, trials: int) -> None:
        _without_conditions(problem, "smac")
        try:
            import ConfigSpace
            from smac import HyperparameterOptimizationFacade as Facade
            from smac import Scenario
            from smac.multi_objective.parego import ParEGO
        except ImportError as error:
            raise SystemExit("the arm smac needs a package: pip install smac") from error
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        space.add([_smac_parameter(parameter) for parameter in problem.space.parameters])
        self._folder = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space,
            objectives=["error", "cost"],
            deterministic=True,
            n_trials=trials,
            seed=seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = Facade(
            scenario,
            lambda config, seed=0: {"error": 0.0, "cost": 0.0},  # not called: the values come by `tell`
            multi_objective_algorithm=ParEGO(scenario),
            logging_level=logging.ERROR,
            overwrite=True,
        )
        self._info: Any = None

    def ask(self) -> Configuration:
        self._info = self._smac.ask()
        return {name: _plain(value) for name, value in dict(self._info.config).items()}

    def tell(self, values: tuple[float, float]) -> None:
        from smac.runhistory.dataclasses import TrialValue

        self._smac.tell(self._info, TrialValue(cost=list(values)))


class AxSearch:
    """A search with Ax's default generation strategy."""

    def __init__(self, problem: Problem, seed: int) -> None:
        _without_conditions(problem, "ax")
        try:
            from ax.api.client import Client
        except ImportError as error:
            raise SystemExit("the arm ax needs a package: pip install ax-platform") from error
        logging.getLogger("ax").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        self._client = Client(random_seed=seed)
        self._client.configure_experiment(
            parameters=[_ax_parameter(parameter) for parameter in problem.space.parameters]
        )
        self._client.configure_optimization(objective="-error, -cost")
        self._index = -1

    def ask(self) -> Configuration:
        ((self._index, values),) = self._client.get_next_trials(max_trials=1).items()
        return {name: _plain(value) for name, value in values.items()}

    def tell(self, values: tuple[float, float]) -> None:
        error, cost = values
        self._client.complete_trial(self._index, raw_data={"error": error, "cost": cost})


def _pareto(problem: Problem, seed: int, options: Mapping[str, Any], *, is_cost_known: bool = True) -> Search:
    known = {1: problem.cost} if is_cost_known else None
    sampler = ParetoSampler(space=problem.space, known_objectives=known, seed=seed, **options)
    return OptunaSearch(problem, sampler)


def _gp(problem: Problem, seed: int) -> Search:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
    return OptunaSearch(problem, sampler)


def _tpe(problem: Problem, seed: int) -> Search:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    return OptunaSearch(problem, sampler)


def _nsga2(problem: Problem, seed: int) -> Search:
    # The default population of 50 would leave one or two generations; 12 leaves five to eight.
    return OptunaSearch(problem, optuna.samplers.NSGAIISampler(seed=seed, population_size=12))


Options = Mapping[str, Any]

ARMS: dict[str, Callable[[Problem, int, int, Options], Search]] = {
    "pareto": lambda problem, seed, _, options: _pareto(problem, seed, options),
    "pareto-unknown": lambda problem, seed, _, options: _pareto(problem, seed, options, is_cost_known=False),
    "pareto-bare": lambda problem, seed, _, options: OptunaSearch(
        problem, ParetoSampler(seed=seed, **options)
    ),
    "carbs": lambda problem, seed, _, options: _pareto(problem, seed, {"strategy": "carbs", **options}),
    "autopeft": lambda problem, seed, _, options: _pareto(problem, seed, {"strategy": "autopeft", **options}),
    "gp": lambda problem, seed, *_: _gp(problem, seed),
    "tpe": lambda problem, seed, *_: _tpe(problem, seed),
    "nsga2": lambda problem, seed, *_: _nsga2(problem, seed),
    "random": lambda problem, seed, *_: OptunaSearch(problem, optuna.samplers.RandomSampler(seed=seed)),
    "smac": lambda problem, seed, trials, _: SmacSearch(problem, seed, trials),
    "ax": lambda problem, seed, *_: AxSearch(problem, seed),
}
"""Builders of searches from a problem, a seed, the number of trials and options of this project's sampler.

`pareto-unknown` models both objectives; `pareto-bare` is not given the space either. `carbs` and `autopeft` are
strategies of the same sampler.
"""


def _without_conditions(problem: Problem, arm: str) -> None:
    if any(parameter.when for parameter in problem.space.parameters) or problem.space.masks:
        raise SystemExit(f"the arm {arm} takes spaces without conditions, and {problem.name} has some")


def _smac_parameter(parameter: Parameter) -> Any:
    import ConfigSpace

    match parameter:
        case Int() | Float():
            kind = ConfigSpace.Integer if isinstance(parameter, Int) else ConfigSpace.Float
            return kind(parameter.name, (parameter.low, parameter.high), log=parameter.log)
        case Categorical():
            return ConfigSpace.Categorical(parameter.name, list(parameter.choices), ordered=parameter.ordered)
    raise TypeError(f"{parameter.name}: {type(parameter).__name__} has no counterpart in ConfigSpace")


def _ax_parameter(parameter: Parameter) -> Any:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    match parameter:
        case Int() | Float():
            kind = "int" if isinstance(parameter, Int) else "float"
            return RangeParameterConfig(
                name=parameter.name,
                bounds=(parameter.low, parameter.high),
                parameter_type=kind,
                scaling="log" if parameter.log else "linear",
            )
        case Categorical():
            kind = {bool: "bool", int: "int", float: "float", str: "str"}[type(parameter.choices[0])]
            return ChoiceParameterConfig(
                name=parameter.name,
                values=list(parameter.choices),
                parameter_type=kind,
                is_ordered=parameter.ordered,
            )
    raise TypeError(f"{parameter.name}: {type(parameter).__name__} has no counterpart in Ax")


def _plain(value: Any) -> Any:
    """Return a Python value of a NumPy one."""
    return value.item() if hasattr(value, "item") else value
