"""Strategy `carbs`: local search around the front of output and cost (Fetterman et al. 2023, arXiv 2306.08055).

CARBS ("Tune As You Scale: Hyperparameter Optimization For Compute Efficient Training") assumes that the optimum at a
larger cost is near the optimum at a smaller one. It draws candidates around the front within one search radius,
and so advances the front step by step towards better and more expensive configurations.

A proposal is one of three:

1. until four trials have succeeded, a draw around the default configurations;
2. after every five successes, the member of the front with the fewest runs, the cheapest first, is run again;
3. otherwise the candidate with the largest acquisition value (`acquisition.py`).

Differences from the published code, beside choices, conditions and ranges (`basic_space.py`) and the number of
objectives (`observations.py`):

* P(success) uses the standard deviation where the code passes the variance to the normal distribution;
* a known cost is a function, which the front and the limits use without a surrogate;
* hyperparameters are the maximum a posteriori (`kernels.py`), and pending trials condition the process without
  another fit;
* repeats are counted in the study, so that the strategy has no state;
* uncertain limits and constraints that trials report multiply the acquisition value by their probability, and groups
  that violate a limit are not on the front;
* steps beyond a bound are reflected instead of rejected.
"""

from __future__ import annotations

from autotune.sampler.carbs.basic_space import BasicSpace
from autotune.sampler.carbs.search import Search
from autotune.sampler.proposal import Proposer
from autotune.sampler.strategies import StrategySettings
from search_spaces.parameters.types import Configuration

_STARTS = 4
"""Successful trials before the surrogates are used."""
_START_CANDIDATES = 32
"""Draws around the defaults, of which the first feasible one is proposed."""


class CarbsStrategy:
    """Local search around the front of one uncertain objective and a cost.

    Args:
        settings: settings of the sampler; CARBS has its own number of candidates and its own surrogates. The option
            `repeats` (True by default) is whether members of the front are run again.
    """

    def __init__(self, settings: StrategySettings) -> None:
        self._has_repeats = bool(settings.options.get("repeats", True))

    def propose(self, proposer: Proposer) -> Configuration:
        """Return the configuration of the next trial.

        Args:
            proposer: the study.

        Raises:
            ValueError: Every objective is known, or no configuration satisfies the hard limits.
        """
        if len(proposer.history.configs) < _STARTS:
            return _start(proposer)
        search = Search(proposer)
        return (search.repeat() if self._has_repeats else None) or search.best_candidate()


def _start(proposer: Proposer) -> Configuration:
    defaults = proposer.space.encode(proposer.space.defaults())
    rows = BasicSpace(proposer.columns).around(defaults, _START_CANDIDATES, proposer.rng)
    return proposer.at_least_one(rows).configs[0]
