"""Priors: densities and draws, the startup design, decay with evidence, and recovery from a wrong prior."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.prior import Near, Prior, Weights, marginal_problem
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Configuration, Float, Int
from search_spaces.space import SearchSpace

SPACE = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Float(name="lora.lr", low=1e-5, high=1e-2, log=True, when={"family": ("lora",)}),
        Categorical(name="batch", choices=(8, 16, 32, 64), ordered=True),
        Int(name="epochs", low=1, high=10),
        Categorical(name="bias", choices=(False, True)),
    )
)
PRIOR = Prior(
    {
        "family": Weights({"lora": 3.0}),
        "lora.lr": Near(center=1e-4, spread=2.0),
        "batch": Near(center=32, spread=1.0),
    }
)
MODE: Configuration = {"family": "lora", "lora.lr": 1e-4, "batch": 32, "epochs": 4, "bias": False}


def log_density(config: Configuration) -> float:
    return float(PRIOR.on(EncodedSpace(SPACE)).log_density(SPACE.encode([config]))[0])


def test_the_density_is_relative_to_the_mode_in_the_units_of_the_spread() -> None:
    assert log_density(MODE) == pytest.approx(0.0)
    assert log_density({**MODE, "lora.lr": 2e-4}) == pytest.approx(-0.5, abs=0.01)
    assert log_density({**MODE, "batch": 8}) == pytest.approx(-2.0, abs=0.1)
    assert log_density({**MODE, "epochs": 9}) == pytest.approx(0.0)


def test_the_density_far_from_a_center_has_a_floor() -> None:
    columns = EncodedSpace(SPACE)
    narrow = Prior({"lora.lr": Near(center=1e-5, spread=1.01)}).on(columns)
    assert narrow.log_density(SPACE.encode([{**MODE, "lora.lr": 1e-2}])) == pytest.approx([math.log(0.01)])


def test_an_inactive_parameter_does_not_favor_a_family() -> None:
    other: Configuration = {"family": "ia3", "batch": 32, "epochs": 4, "bias": False}
    assert log_density(other) == pytest.approx(math.log(1 / 3))


def test_draws_follow_the_marginals_and_stay_within_the_range() -> None:
    columns = EncodedSpace(SPACE)
    configs = columns.configurations(PRIOR.on(columns).random(4000, np.random.default_rng(0)))
    rates = np.log([float(config["lora.lr"]) for config in configs if "lora.lr" in config])
    assert len(rates) / 4000 == pytest.approx(0.75, abs=0.03)
    assert np.exp(rates.mean()) == pytest.approx(1e-4, rel=0.05)
    assert np.exp(rates.std()) == pytest.approx(2.0, rel=0.05)
    assert np.mean([config["epochs"] for config in configs]) == pytest.approx(5.5, abs=0.2)
    edge = Prior({"lora.lr": Near(center=1e-2, spread=3.0)}).on(columns)
    for config in columns.configurations(edge.random(500, np.random.default_rng(1))):
        assert SPACE.problems(config) == []


def test_a_centered_parameter_takes_a_factor() -> None:
    space = SearchSpace((Centered(name="lr", center=1e-3, scale=0.5, kind="log"),))
    columns = EncodedSpace(space)
    prior = Prior({"lr": Near(center=1e-4, spread=10.0)}).on(columns)
    assert prior.log_density(space.encode([{"lr": 1e-3}, {"lr": 1e-4}])) == pytest.approx(
        [-0.5, 0.0], abs=0.01
    )
    draws = [math.log10(float(c["lr"])) for c in columns.configurations(prior.sobol(256, 0))]
    assert np.mean(draws) == pytest.approx(-4.0, abs=0.05)
    assert np.std(draws) == pytest.approx(1.0, abs=0.05)


def test_the_influence_fades_with_the_proposals() -> None:
    prior = PRIOR.on(EncodedSpace(SPACE))
    rows = SPACE.encode([{**MODE, "lora.lr": 2e-4}])
    assert prior.log_bonus(rows, 1) == pytest.approx(3 * prior.log_density(rows))
    assert prior.log_bonus(rows, 3) == pytest.approx(prior.log_density(rows))
    assert prior.log_bonus(rows, 1000) == pytest.approx([0.0], abs=0.01)


@pytest.mark.parametrize(
    ("name", "marginal", "words"),
    [
        ("lora.lr", Near(center=1.0, spread=2.0), "the center"),
        ("lora.lr", Near(center=1e-4, spread=0.5), "a factor"),
        ("lora.lr", Weights({1e-4: 2.0}), "it is a number"),
        ("epochs", Near(center=2.5, spread=0.0), "above 0"),
        ("family", Near(center="lora", spread=1.0), "no order"),
        ("family", Weights({"lra": 1.0}), "'lra'"),
        ("family", Weights({"lora": 0.0}), "weight"),
        ("batch", Near(center=12, spread=1.0), "12"),
    ],
)
def test_a_marginal_that_does_not_fit_is_refused(name: str, marginal: Near | Weights, words: str) -> None:
    assert words in (marginal_problem(SPACE[name], marginal) or "")
    with pytest.raises(ValueError, match="prior: "):
        ParetoSampler(space=SPACE, prior=Prior({name: marginal}))


@pytest.mark.parametrize("strategy", ["carbs", "autopeft"])
def test_other_strategies_refuse_a_prior(strategy: str) -> None:
    with pytest.raises(ValueError, match="use strategy pareto"):
        ParetoSampler(space=SPACE, prior=PRIOR, strategy=strategy)


LINE = SearchSpace((Float(name="x", low=0.0, high=1.0), Float(name="y", low=0.0, high=1.0)))


def searched(prior: Prior | None, trials: int, optimum: float = 0.1, seed: int = 0) -> list[Configuration]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=ParetoSampler(space=LINE, prior=prior, n_startup=6, seed=seed))
    study.optimize(
        lambda trial: ((c := LINE.suggest(trial))["x"] - optimum) ** 2 + 0.3 * (float(c["y"]) - optimum) ** 2,
        n_trials=trials,
    )
    return [trial.params for trial in study.trials]


def test_half_of_the_startup_design_is_drawn_from_the_prior() -> None:
    prior = Prior({"x": Near(center=0.9, spread=0.02)})
    found = [float(config["x"]) for config in searched(prior, 6)]
    near = [abs(x - 0.9) < 0.08 for x in found]
    # After the default configuration, points of the prior alternate with those of the sequence.
    assert near == [False, True, False, True, False, True]


def test_proposals_are_a_function_of_seed_trials_and_prior() -> None:
    prior = Prior({"x": Near(center=0.2, spread=0.1)})
    assert searched(prior, 9) == searched(prior, 9)
    assert searched(prior, 9)[6:] != searched(Prior(prior.marginals, strength=1.0), 9)[6:]
    assert searched(prior, 6) != searched(None, 6)


def test_a_right_prior_finds_the_optimum_early_and_a_wrong_one_is_overcome() -> None:
    right = Prior({name: Near(center=0.1, spread=0.05) for name in "xy"})
    wrong = Prior({name: Near(center=0.9, spread=0.05) for name in "xy"})

    def distance(config: Configuration) -> float:
        return math.hypot(float(config["x"]) - 0.1, float(config["y"]) - 0.1)

    assert min(map(distance, searched(right, 4))) < 0.15
    with_wrong = searched(wrong, 18)
    assert min(map(distance, with_wrong[:4])) > 0.15
    assert min(map(distance, with_wrong)) < 0.05
