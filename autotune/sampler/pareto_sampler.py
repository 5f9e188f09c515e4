"""ParetoSampler: an optuna sampler for mixed, conditional spaces and objectives of which some are known.

How a suggestion comes about:

1. Start-up. With a space, the customary default of each family, then a scrambled Sobol sequence; which point
   it is follows from the trials in the study, so that a new process goes on where an old one stopped.
2. Afterwards, a Gaussian process for each uncertain objective (`beliefs.py`), known objectives through their
   functions, and the candidate with the largest expected hypervolume improvement, times the probability of
   success, times the probability of keeping uncertain limits.
3. Now and then, the next point of the Sobol sequence instead (as SMAC interleaves random configurations): where
   the start-up found no more than the corner of what is cheap, a model that believes it would never leave it.

The sampler keeps no state between trials, and draws for a trial come from the seed and the trial's number.
Hence `reseed_rng` has nothing to do, and threads and processes may share a study.
"""

from __future__ import annotations

import copy
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from autotune.sampler.candidates import Columns
from autotune.sampler.feasible_sampling import Excess
from autotune.sampler.history import History, Observe, values_of_complete
from autotune.sampler.posterior import KnownObjective, Limit, Objectives
from autotune.sampler.proposal import Search
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import Study


_SPREAD_EVERY = 8
"""Of so many proposals after the start-up, one continues its sequence, if anything is uncertain."""


class ParetoSampler(BaseSampler):
    """Multi-objective Bayesian optimization over mixed, conditional spaces.

    It works on any study, single- or multi-objective: parameters that every finished trial has are modelled
    together and the others are drawn uniformly. With `space`, conditional parameters are modelled as well:
    `SearchSpace.suggest(trial)` then asks for exactly what the sampler proposes.

    Pruned trials, failed ones and values that are not finite never reach the models of the objectives. Trials
    that failed (state FAIL, or the user attribute `status` set to "failed") teach a model of failure; those
    with the status "lost" teach nothing. Constraints that a trial sets are kept with their probability.

    Args:
        space: a bound search space. None: inferred from the finished trials.
        known_objectives: objective index -> function of a configuration, in the study's units; such an
            objective is never modelled. It must be cheap: a suggestion calls it about a thousand times.
        log_objectives: objective index -> floor: measured as log(max(value, floor)).
        references: for each objective the worst value of interest, in the study's units; None, or None in
            its place, for the worst value seen plus a quarter of the range.
        limits: objective index -> hard (min, max), in the study's units, None for no bound. No proposal
            breaks one of a known objective; one of an uncertain objective counts by its probability.
        constraints: of configurations, the excess over each of some constraints, shape [c, k], at most 0 where
            it is kept. No proposal breaks one. For those that need no trial; see `limits` for objectives.
        n_startup: trials before the models take over, whatever became of them. Default: see
            `default_startup`.
        n_candidates: random configurations a suggestion looks at, beside as many found by local search.
        seed: makes the proposals a function of the trials in the study.
        observe: what a finished trial's objective values are taken to be, in the study's units, or None to
            leave it out; by default the values of complete trials. It lets predicted final values of pruned
            trials in, and of running ones, which are otherwise pending. An `Observation` says with which variance.

    Raises:
        ValueError: when suggesting, if an index names no objective, or if no configuration within the hard
            limits of the known objectives and the constraints can be found.
    """

    def __init__(
        self,
        *,
        space: SearchSpace | None = None,
        known_objectives: Mapping[int, KnownObjective] | None = None,
        log_objectives: Mapping[int, float] | None = None,
        references: Sequence[float | None] | None = None,
        limits: Mapping[int, Limit] | None = None,
        constraints: Excess | None = None,
        n_startup: int | None = None,
        n_candidates: int = 512,
        seed: int | None = None,
        observe: Observe | None = None,
    ) -> None:
        if n_startup is not None and n_startup < 1:
            raise ValueError(f"n_startup: {n_startup}; at least one trial must come before a model")
        if n_candidates < 1:
            raise ValueError(f"n_candidates: {n_candidates}; give at least 1")
        for index, floor in (log_objectives or {}).items():
            if not floor > 0:
                raise ValueError(
                    f"log_objectives: the floor of objective {index} is {floor}; it must be above 0"
                )
        self._space = space
        self._known = dict(known_objectives or {})
        self._floors = dict(log_objectives or {})
        self._references = references
        self._limits = {index: (_finite(low), _finite(high)) for index, (low, high) in (limits or {}).items()}
        self._constraints = constraints
        self._n_startup = n_startup if n_startup is not None else default_startup(space)
        self._n_candidates = n_candidates
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._observe = observe or values_of_complete
        self._warned_exhausted = False

    def observing(self, observe: Observe) -> ParetoSampler:
        """The same sampler, but learning from `observe`."""
        other = copy.copy(self)
        other._observe = observe
        return other

    def reseed_rng(self) -> None:
        """Nothing: two trials never share their draws, whoever makes them (see the top of this file)."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All of the space, or else what the complete trials share; without single values."""
        if self._space is not None:
            distributions = self._space.distributions()
        else:
            distributions = intersection_search_space(study.get_trials(deepcopy=False))
        return {name: found for name, found in distributions.items() if not found.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One configuration, its active parameters alone."""
        if not search_space:
            return {}
        space = self._space or SearchSpace.from_distributions(search_space)
        history = History.read(study, trial, space, self._observe)
        search = Search(
            space=space,
            columns=Columns(space, trial.system_attrs.get("fixed_params")),
            objectives=self._objectives(study),
            history=history,
            rng=np.random.default_rng([self._seed, trial.number]),
            constraints=self._constraints,
        )
        since = history.earlier - self._n_startup
        starting = since < 0 or len(history.configs) < 2
        uncertain = len(self._known) < len(study.directions)
        if starting or (uncertain and since % _SPREAD_EVERY == _SPREAD_EVERY - 1):
            config = search.spread(self._seed, defaults=self._space is not None)
        else:
            config = search.best(self._n_candidates)
        if search.exhausted and not self._warned_exhausted:
            self._warned_exhausted = True
            warnings.warn("every configuration has been proposed; they now repeat", stacklevel=2)
        return {name: value for name, value in config.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform draw, for parameters that not all trials have."""
        rng = np.random.default_rng([self._seed, trial.number, zlib.crc32(param_name.encode())])
        return SearchSpace.from_distributions({param_name: param_distribution}).sample(rng)[param_name]

    def _objectives(self, study: Study) -> Objectives:
        m = len(study.directions)
        for field in ("known", "floors", "limits"):
            for index in getattr(self, f"_{field}"):
                if not 0 <= index < m:
                    name = {"known": "known_objectives", "floors": "log_objectives"}.get(field, field)
                    raise ValueError(f"{name}: no objective {index}; the study has {m}, counted from 0")
        references = self._references if self._references is not None else [None] * m
        if len(references) != m:
            raise ValueError(f"references: {len(references)} values for {m} objectives; give one for each")
        signs = np.array([1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions])
        return Objectives(signs, self._known, self._floors, self._limits, references)


def _finite(limit: float | None) -> float | None:
    return None if limit is None or math.isinf(limit) else limit


def default_startup(space: SearchSpace | None) -> int:
    """Start-up trials where the user does not say: each family's default and two more, but no fewer than seven.

    The customary ten cost a short search much and bring a long one nothing: on the problems of
    `benchmarks.sampler_toy` seven make the front after ten trials 6 and 11 % larger, and those after 20 and 40 are
    alike. Without a space there is no default to begin with, and five brought less after 40 trials: there it is ten.
    """
    return 10 if space is None else max(7, len(space.defaults()) + 2)
