"""Trials of earlier studies: what is accepted, and which of their configurations run first."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.sources import SourceTrials, first_configurations
from search_spaces.parameters.types import Configuration, Int
from search_spaces.space import SearchSpace

SPACE = SearchSpace((Int(name="rank", low=1, high=64),))
BOTH = ("maximize", "minimize")


def source(name: str, *trials: tuple[int, float]) -> SourceTrials:
    """A source with trials of (rank, score), whose cost is the rank."""
    configs: list[Configuration] = [{"rank": rank} for rank, _ in trials]
    return SourceTrials(
        name=name, configs=configs, values=np.array([[score, rank] for rank, score in trials])
    )


def ranks(configs: list[Configuration]) -> list[int]:
    return [int(config["rank"]) for config in configs]


def test_first_configurations_are_on_the_front_spread_along_it_and_cheapest_first():
    front = [(rank, float(rank)) for rank in range(1, 10)]
    first = first_configurations([source("a", (20, 0.5), *front)], 3, directions=BOTH)
    assert ranks(first) == [1, 5, 9]
    assert ranks(first_configurations([source("a", *front)], 1, directions=BOTH)) == [9]


def test_the_next_front_follows_where_a_front_has_too_few_points():
    trials = source("a", (1, 1.0), (2, 0.9), (4, 2.0), (6, 1.5), (8, 1.6), (9, 0.1))
    assert ranks(first_configurations([trials], 2, directions=BOTH)) == [1, 4]
    assert ranks(first_configurations([trials], 3, directions=BOTH)) == [1, 4, 8]
    assert ranks(first_configurations([trials], 5, directions=BOTH)) == [1, 2, 4, 6, 8]
    repeated = source("a", (4, 2.0), (4, 1.0), (5, 1.0))
    assert ranks(first_configurations([repeated], 3, directions=BOTH)) == [4, 5]


def test_sources_take_turns_and_share_configurations():
    one, two = source("a", (1, 1.0), (2, 2.0)), source("b", (2, 1.0), (3, 2.0))
    assert ranks(first_configurations([one, two], 2, directions=BOTH)) == [2, 3]
    assert ranks(first_configurations([one, two], 9, directions=BOTH)) == [1, 2, 3]
    assert first_configurations([one], 0, directions=BOTH) == []


def test_the_cost_of_a_trial_can_replace_the_last_objective():
    first = first_configurations(
        [source("a", (1, 1.0), (2, 2.0))], 2, directions=BOTH, cost=lambda config: -float(config["rank"])
    )
    assert ranks(first) == [2, 1]


def test_an_objective_that_the_source_lacks_does_not_decide():
    lacking = SourceTrials(
        name="a",
        configs=[{"rank": 1}, {"rank": 2}, {"rank": 3}],
        values=np.array([[np.nan, 1.0], [np.nan, 2.0], [np.nan, 3.0]]),
    )
    assert ranks(first_configurations([lacking], 3, directions=BOTH)) == [1]


def test_the_front_that_a_source_reports_comes_before_trials_that_look_better():
    values = np.array([[0.5, 1.0], [0.9, 2.0], [0.8, 3.0], [0.4, 4.0]])
    configs: list[Configuration] = [{"rank": 1}, {"rank": 2}, {"rank": 3}, {"rank": 4}]
    for is_on_front, expected in (((True, False, True, False), [1, 3]), ((False,) * 4, [1, 2])):
        own = SourceTrials(name="a", configs=configs, values=values, is_on_front=is_on_front)
        assert ranks(first_configurations([own], 2, directions=BOTH)) == expected
    own = SourceTrials(name="a", configs=configs, values=values, is_on_front=(True, False, True, False))
    assert ranks(first_configurations([own], 3, directions=BOTH)) == [1, 2, 3]
    with pytest.raises(ValueError, match="is_on_front has 1 entries"):
        SourceTrials(name="a", configs=configs, values=values, is_on_front=(True,))


@pytest.mark.parametrize(
    ("values", "message"),
    [(np.ones(2), "one row of values"), (np.ones((1, 2)), "one row"), (np.full((2, 2), np.inf), "infinite")],
)
def test_values_that_do_not_fit_are_refused(values: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        SourceTrials(name="a", configs=[{"rank": 1}, {"rank": 2}], values=values)


def test_the_sampler_refuses_sources_that_it_cannot_use():
    good = source("a", (1, 1.0))
    with pytest.raises(ValueError, match="need a space"):
        ParetoSampler(sources=[good])
    with pytest.raises(ValueError, match="two sources have the name 'a'"):
        ParetoSampler(space=SPACE, sources=[good, good])
    with pytest.raises(ValueError, match="configuration 0 of a is not one of this space"):
        ParetoSampler(space=SPACE, sources=[source("a", (65, 1.0))])
    for strategy in ("carbs", "autopeft"):
        with pytest.raises(ValueError, match="sources: this strategy does not use it"):
            ParetoSampler(space=SPACE, sources=[good], strategy=strategy)
