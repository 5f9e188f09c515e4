"""Candidates along laws: in the space, scaled as the best values move, only under their conditions, deterministic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial

from autotune.sampler.pareto import law_candidates as module
from autotune.sampler.pareto.law_candidates import keep_laws, law_candidates
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.proposal import Proposer
from autotune.sampler.sources import NOTES
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace

SPACE = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Int(name="train_samples", low=100, high=10_000, log=True),
        Float(name="rate", low=1e-5, high=1e-1, log=True),
        Categorical(name="batch", choices=(4, 8, 16, 32, 64, 128), ordered=True),
        Centered(name="momentum", center=0.9, scale=0.5, kind="logit"),
    )
)


def cost(config: Mapping[str, Value]) -> float:
    return 5.0 * float(config["train_samples"])


def error(config: Mapping[str, Value]) -> float:
    """Return an error whose best rate is 1e-3 (cost / 5000)^-0.5 and whose best momentum is 0.9."""
    decades = np.log10(cost(config) / 5000)
    off = np.log10(float(config["rate"])) + 3.0 + 0.5 * decades
    return float(0.3 * 10 ** (-0.3 * decades) + 0.1 * off**2 + (float(config["momentum"]) - 0.9) ** 2)


def proposer(
    trials: int = 60,
    space: SearchSpace = SPACE,
    trial_cost: Callable[[Mapping[str, Value]], float] | None = cost,
    **fixed: Value,
) -> Proposer:
    """Return the view of a study of random trials with an error and an error that no cost explains."""
    study = optuna.create_study(directions=["minimize", "minimize"])
    rng = np.random.default_rng(3)
    for _ in range(trials):
        config = {**space.sample(rng), **fixed}
        distributions = {name: space[name].distribution() for name in config}
        values = [error({"train_samples": 1000, **config}), float(rng.random())]
        study.add_trial(create_trial(params=config, distributions=distributions, values=values))
    return ParetoSampler(space=space, seed=1, trial_cost=trial_cost).study_view(study)


POINT: Configuration = {
    "family": "lora",
    "train_samples": 1000,
    "rate": 1e-3,
    "batch": 16,
    "momentum": 0.9,
}
FRONT = SPACE.encode([POINT])


def test_candidates_lie_in_the_space_and_follow_the_law() -> None:
    view = proposer()
    rows = law_candidates(view, FRONT)
    configs = SPACE.decode(rows)
    assert len(configs) == 4
    slopes = view.notes["laws"]["slopes"]
    assert slopes["rate"] == pytest.approx(-0.5, abs=0.15)
    assert set(slopes) == {"rate", "batch", "momentum"}
    for config in configs:
        SPACE.validate(config)
        assert config["family"] == "lora"
        assert config["train_samples"] != 1000
        expected = 1e-3 * (float(config["train_samples"]) / 1000) ** slopes["rate"]
        assert config["rate"] == pytest.approx(expected)


def test_a_batch_size_moves_to_the_nearest_choice_and_a_value_stays_in_its_range() -> None:
    scaled = module._scaled(SPACE, POINT, {"batch": 1.0, "rate": 4.0, "momentum": 0.0}, np.log(5.0))
    assert scaled == {**POINT, "batch": 64, "rate": 1e-1, "momentum": pytest.approx(0.9)}
    smaller = module._scaled(SPACE, POINT, {"batch": 1.0}, np.log(0.01))
    assert smaller == {**POINT, "batch": 4}


@pytest.mark.parametrize(
    "view",
    [
        lambda: proposer(11),
        lambda: proposer(trial_cost=None),
        lambda: proposer(train_samples=1000),
        lambda: proposer(space=SearchSpace(tuple(p for p in SPACE.parameters if p.name != "train_samples"))),
    ],
    ids=["few trials", "unknown cost", "one cost", "no amount"],
)
def test_there_are_no_candidates_without_the_conditions(view: Callable[[], Proposer]) -> None:
    found = view()
    front = found.space.encode([{name: POINT[name] for name in found.space.names}])
    assert law_candidates(found, front).shape == (0, len(found.space))


def test_slopes_are_fitted_again_when_the_trials_have_grown_by_a_quarter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fits: list[int] = []

    def fitted(view: Proposer, *_: Any) -> dict[str, float]:
        fits.append(len(view.history.configs))
        return {"rate": -0.1}

    monkeypatch.setattr(module, "_fitted", fitted)
    memory: Mapping[str, Any] = {}
    for count in (20, 24, 25, 30):
        view = replace(proposer(count), memory=memory, notes={})
        law_candidates(view, FRONT)
        memory = view.notes
    assert fits == [20, 25]
    view = replace(proposer(31), memory=memory, notes={})
    keep_laws(view)
    assert view.notes == memory == {"laws": {"n": 25, "slopes": {"rate": -0.1}}}


def test_the_same_study_has_the_same_candidates_with_remembered_slopes_too() -> None:
    first = proposer()
    rows = law_candidates(first, FRONT)
    assert np.array_equal(law_candidates(proposer(), FRONT), rows)
    assert np.array_equal(law_candidates(replace(proposer(), memory=first.notes), FRONT), rows)


def test_a_search_stores_the_slopes_unless_the_option_is_off() -> None:
    def search(**options: bool) -> list[Mapping[str, Any]]:
        sampler = ParetoSampler(
            space=SPACE,
            known_objectives={1: cost},
            seed=1,
            n_startup=12,
            n_candidates=32,
            surrogate="matern",
            strategy_options=options,
        )
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        for _ in range(14):
            trial = study.ask()
            config = SPACE.suggest(trial)
            study.tell(trial, [error(config), cost(config)])
        return [trial.system_attrs.get(NOTES, {}) for trial in study.trials]

    notes = search()
    assert set(notes[-1]["laws"]["slopes"]) == {"rate", "batch", "momentum"}
    assert notes[-1]["laws"] == notes[-2]["laws"]
    assert "laws" not in search(laws=False)[-1]
