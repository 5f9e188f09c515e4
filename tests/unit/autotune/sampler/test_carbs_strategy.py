"""The strategy `carbs` in studies: repeats, limits, failures, directions and determinism."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from autotune.sampler.pareto_sampler import ParetoSampler
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace
from tests.support.configuration_keys import config_key

SPACE = SearchSpace(
    (
        Float(name="rate", low=1e-7, high=1.0, log=True, default=1e-5),
        Int(name="width", low=2, high=512, log=True, default=32),
    )
)
FAMILIES = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Int(name="rank", low=1, high=64, log=True, default=8, when={"family": ("lora",)}),
        Float(name="rate", low=1e-5, high=1e-1, log=True, default=1e-3),
        Categorical(name="batch", choices=(8, 16, 32), ordered=True, default=16),
    )
)


def width(config: Mapping[str, Value]) -> float:
    return float(config["width"])


def error(config: Mapping[str, Value]) -> float:
    """The first function of CARBS' notebooks without its noise: smallest at rate 1e-3 and the largest width."""
    return ((math.log10(float(config["rate"])) + 3.0) ** 2 + 0.2) * 512 / width(config)


def carbs(**arguments: object) -> ParetoSampler:
    defaults: dict[str, object] = {"space": SPACE, "known_objectives": {1: width}, "seed": 0}
    return ParetoSampler(strategy="carbs", **{**defaults, **arguments})  # type: ignore[arg-type]


def run(
    sampler: BaseSampler,
    trials: int,
    values: Callable[[Configuration], list[float]] = lambda config: [error(config), width(config)],
    directions: Sequence[Any] = ("minimize", "minimize"),
    space: SearchSpace = SPACE,
) -> optuna.Study:
    study = optuna.create_study(directions=list(directions), sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, values(space.suggest(trial)))
    return study


def test_the_search_moves_from_the_default_to_the_distant_optimum() -> None:
    """The optimum lies two decades and a factor of 16 from the default, nine radii in all."""
    for seed in range(2):
        found = [trial.values[0] for trial in run(carbs(seed=seed), 25).trials]
        assert found[0] == pytest.approx(67.2)
        assert min(found) < 0.5


def test_the_direction_of_the_output_does_not_matter() -> None:
    down = run(carbs(), 14)
    up = run(carbs(), 14, lambda c: [-error(c), width(c)], ("maximize", "minimize"))
    assert [trial.params for trial in down.trials] == [trial.params for trial in up.trials]


def test_a_study_that_is_read_again_continues_with_the_same_proposals() -> None:
    whole = run(carbs(), 16)
    first = run(carbs(), 9)
    first.sampler = carbs()
    for _ in range(7):
        trial = first.ask()
        first.tell(trial, [error(config := SPACE.suggest(trial)), width(config)])
    assert [trial.params for trial in whole.trials] == [trial.params for trial in first.trials]


def test_every_fifth_success_repeats_the_member_of_the_front_with_the_fewest_runs() -> None:
    noise = np.random.default_rng(0)
    study = run(carbs(), 24, lambda c: [error(c) + 0.1 * noise.random(), width(c)])
    keys = [config_key(trial.params) for trial in study.trials]
    repeats = [i for i, key in enumerate(keys) if key in keys[:i]]
    # The next repeat is due when more than 5 (r + 1) trials have succeeded after r repeats.
    assert repeats == [6, 11, 16, 21]
    assert max(Counter(keys).values()) <= 3
    for i in repeats:
        front = [t for t in study.trials[:i] if config_key(t.params) == keys[i]]
        cheaper = [t for t in study.trials[:i] if t.values[1] < front[0].values[1]]
        costs = sorted(t.values[1] for t in study.trials[:i])
        is_cheap = front[0].values[1] <= np.quantile(costs, 0.2)
        mean = np.mean([t.values[0] for t in front])
        assert is_cheap or all(mean < t.values[0] for t in cheaper if t.values[1] > np.quantile(costs, 0.2))


def test_repeats_are_an_option() -> None:
    keys = [config_key(trial.params) for trial in run(carbs(strategy_options={"repeats": False}), 13).trials]
    assert len(set(keys)) == len(keys)


def test_another_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate: this strategy has no 'saas'"):
        carbs(surrogate="saas")


def test_earlier_trials_do_not_cause_a_series_of_repeats() -> None:
    study = run(optuna.samplers.RandomSampler(seed=0), 40)
    study.sampler = carbs()
    keys = [config_key(trial.params) for trial in study.trials]
    for _ in range(6):
        trial = study.ask()
        config = SPACE.suggest(trial)
        study.tell(trial, [error(config), width(config)])
        keys.append(config_key(config))
    assert [i for i, key in enumerate(keys) if key in keys[:i]] == [40, 45]


def test_hard_limits_of_a_known_cost_hold_for_every_trial() -> None:
    study = run(carbs(limits={1: (16.0, 100.0)}), 20)
    assert all(16 <= trial.values[1] <= 100 for trial in study.trials)
    assert max(trial.values[1] for trial in study.trials) > 80


def test_a_limit_on_an_unknown_cost_holds_for_the_predicted_cost() -> None:
    limited = run(carbs(known_objectives={}, limits={1: (None, 100.0)}), 20)
    free = run(carbs(known_objectives={}), 20)
    assert np.mean([trial.values[1] > 100 for trial in limited.trials[10:]]) <= 0.2
    assert max(trial.values[1] for trial in free.trials[10:]) > 200


def test_the_search_returns_from_the_region_of_failures() -> None:
    """The error decreases with the width, but every trial above a width of 100 fails."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=carbs())
    failed = []
    for _ in range(20):
        trial = study.ask()
        config = SPACE.suggest(trial)
        failed.append(width(config) > 100)
        if failed[-1]:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [error(config), width(config)])
    assert any(failed)
    assert any(not later for first, later in pairwise(failed) if first)
    assert np.mean(failed[10:]) < 0.7


def test_parallel_proposals_differ() -> None:
    study = run(carbs(), 12)
    waiting = [study.ask() for _ in range(6)]
    keys = {config_key(SPACE.suggest(trial)) for trial in waiting}
    assert len(keys) >= 5  # one of them may repeat a finished trial


def test_conditions_choices_and_several_known_costs() -> None:
    def values(config: Configuration) -> list[float]:
        off = math.log10(float(config["rate"])) + 2.0
        rank = float(config.get("rank", 0.5))
        return [0.1 + 0.3 / math.sqrt(rank + 1) + 0.1 * off**2, rank, rank * float(config["batch"])]

    sampler = carbs(
        space=FAMILIES,
        known_objectives={1: lambda c: values(dict(c))[1], 2: lambda c: values(dict(c))[2]},
    )
    study = run(sampler, 25, values, ("minimize",) * 3, FAMILIES)
    families = Counter(trial.params["family"] for trial in study.trials)
    assert min(families.values()) >= 3
    assert min(trial.values[0] for trial in study.trials) < 0.17


def test_a_single_objective_is_minimized() -> None:
    def values(config: Configuration) -> list[float]:
        return [(math.log10(float(config["rate"])) + 3.0) ** 2 + (math.log2(width(config)) - 4.0) ** 2]

    for limits in ({}, {0: (None, 10.0)}):
        study = run(carbs(known_objectives={}, limits=limits), 25, values, ("minimize",))
        assert min(trial.values[0] for trial in study.trials) < 0.3


def test_a_cost_that_is_not_positive_has_no_logarithm() -> None:
    study = run(carbs(known_objectives={}), 12, lambda c: [error(c), -width(c)])
    assert len(study.trials) == 12


def test_a_study_with_only_known_objectives_is_refused() -> None:
    sampler = carbs(known_objectives={0: error, 1: width})
    with pytest.raises(ValueError, match=r'all objectives are known.*strategy="pareto"'):
        run(sampler, 8)


def test_torch_is_imported_with_the_first_proposal_only() -> None:
    code = (
        "import sys; from autotune.sampler.pareto_sampler import ParetoSampler; "
        "ParetoSampler(strategy='carbs'); print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
