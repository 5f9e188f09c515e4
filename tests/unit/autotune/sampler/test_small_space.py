"""Small spaces: what is in them, and what is left."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.sampler.small_space import small_space
from search_spaces.parameters.types import Categorical, Float, Int
from search_spaces.space import SearchSpace

FAMILY = Categorical(name="family", choices=("a", "b"))
RANK = Int(name="a.rank", low=1, high=3, when={"family": ("a",)})


def test_conditions_and_steps_count():
    space = SearchSpace((FAMILY, RANK, Float(name="dropout", low=0.0, high=0.2, step=0.1)))
    small = small_space(space)
    assert len(small) == (3 + 1) * 3
    left = small.untried([{"family": "b", "dropout": 0.1}, {"dropout": 0.2, "a.rank": 2, "family": "a"}])
    assert len(left) == 10
    assert {"family": "b", "dropout": 0.1} not in left
    assert small.untried([*left, {"family": "b", "dropout": 0.1}]) == [
        {"family": "a", "a.rank": 2, "dropout": pytest.approx(0.2)}
    ]


def test_limits_leave_configurations_out():
    space = SearchSpace((FAMILY, RANK))
    small = small_space(space, lambda configs: np.array([[c.get("a.rank", 0) - 2.0] for c in configs]))
    assert len(small) == 3


@pytest.mark.parametrize(
    "parameter",
    [Float(name="rate", low=1e-5, high=1e-2, log=True), Int(name="size", low=1, high=10_000)],
)
def test_an_infinite_or_large_space_is_not_small(parameter):
    assert small_space(SearchSpace((FAMILY, RANK, parameter))) is None


def test_a_space_of_many_parameters_is_given_up_at_once():
    switches = tuple(Categorical(name=f"on.{i}", choices=(False, True)) for i in range(40))
    assert small_space(SearchSpace(switches)) is None
