"""The priors that the benchmark compares: they fit their problems, and only the right one is near the best values."""

from __future__ import annotations

import numpy as np
import pytest

from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.prior import Prior
from benchmarks.priors import MARGINALS
from benchmarks.sampler_toy import PROBLEMS


@pytest.mark.parametrize("name", MARGINALS)
def test_the_right_prior_draws_better_configurations_than_the_wrong_one(name: str) -> None:
    problem = PROBLEMS[name]()
    columns = EncodedSpace(problem.space)
    errors = {}
    for label, marginals in MARGINALS[name].items():
        prior = Prior(marginals)
        prior.check(problem.space)
        assert set(marginals) <= set(problem.space.names)
        drawn = columns.configurations(prior.on(columns).random(200, np.random.default_rng(0)))
        errors[label] = np.median([problem.error(config) for config in drawn])
    assert errors["right prior"] < errors["wrong prior"] - 0.05
