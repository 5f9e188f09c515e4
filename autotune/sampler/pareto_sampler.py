"""An Optuna sampler for mixed, conditional spaces with objectives of which some are known.

A suggestion is made in one of three ways:

1. Startup. With a space, the default configuration of each family, then a scrambled Sobol sequence. The position
   in the sequence follows from the trials in the study, so a new process resumes where another one stopped.
2. After startup, the candidate that maximizes the acquisition function: expected hypervolume improvement times
   the probability that the trial succeeds and satisfies uncertain limits. Each uncertain objective has a Gaussian
   process (`posterior.py`); known objectives are computed by their functions.
3. Every eighth proposal after startup is the next point of the Sobol sequence, as SMAC interleaves random
   configurations (Hutter, Hoos and Leyton-Brown 2011, section 3). If the startup trials covered only cheap
   configurations, a surrogate that predicts no gain elsewhere would otherwise never be corrected.

The sampler keeps no state between trials: random numbers for a trial follow from the seed and the trial's number.
So `reseed_rng` has nothing to do, and threads and processes can share a study.
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

from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.feasible_sampling import Excess
from autotune.sampler.history import History, Observe, completed_values
from autotune.sampler.posterior import KnownObjective, Limit, StudyObjectives
from autotune.sampler.proposal import Proposer
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import Study


_SEQUENCE_INTERVAL = 8
"""One of this many proposals after startup is the next point of the startup sequence, unless all is known."""


class ParetoSampler(BaseSampler):
    """Multi-objective Bayesian optimization over mixed, conditional spaces.

    The sampler works on any Optuna study, single- or multi-objective. Without `space`, surrogates cover the
    parameters that all finished trials share, and the others are drawn uniformly. With `space`, they cover
    conditional parameters too, and `SearchSpace.suggest(trial)` suggests exactly the active parameters.

    Surrogates of the objectives are fitted to completed trials with finite values. Failed trials (state FAIL, or
    user attribute `status` set to "failed") inform the probability of feasibility; trials with the status "lost"
    inform nothing. Constraint values that trials report are modeled like objectives with the limit 0.

    Args:
        space: a search space that is bound to a model; None to infer it from the finished trials.
        known_objectives: functions of a configuration by objective index, in the study's units, for objectives
            that need no surrogate. They must be cheap: one suggestion calls them about a thousand times.
        log_objectives: floors by objective index: the objective is modeled as log(max(value, floor)).
        references: for each objective the worst value of interest in the study's units. None, for one or for
            all, stands for the worst observed value plus a quarter of the range.
        limits: hard (min, max) by objective index in the study's units, None for no bound. No proposal violates
            the limit of a known objective; that of an uncertain one enters by its probability.
        constraints: the violation of each of k constraints that need no trial, a function from c configurations
            to shape [c, k], at most 0 where satisfied. No proposal violates one.
        n_startup: number of startup trials, which count whatever their status; see `default_startup`.
        n_candidates: number of random candidates per suggestion; as many come from local search.
        seed: seed of all random numbers; with it, proposals are a function of the trials in the study.
        observe: returns the objective values of a trial in the study's units, or None to leave it out; by
            default the values of completed trials. It can admit predicted final values, with their variance
            (`Observation`), of pruned trials and of running ones, which otherwise are pending.

    Raises:
        ValueError: When suggesting, if an index names no objective, or if no configuration satisfies the hard
            limits of the known objectives and the constraints.

    Example:
        >>> import optuna
        >>> sampler = ParetoSampler(seed=0, known_objectives={1: lambda config: float(config["rank"])})
        >>> study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
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
            raise ValueError(f"n_startup: {n_startup}; a surrogate needs at least one trial; give 1 or more")
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
        self._observe = observe or completed_values
        self._warned_exhausted = False

    def observing(self, observe: Observe) -> ParetoSampler:
        """Return a copy of the sampler that reads the objective values of trials through `observe`."""
        other = copy.copy(self)
        other._observe = observe
        return other

    def reseed_rng(self) -> None:
        """Do nothing: random numbers follow from the seed and the trial's number, not from the process."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions of the space, or those that all completed trials share.

        Distributions with a single value are left out.
        """
        if self._space is not None:
            distributions = self._space.distributions()
        else:
            distributions = intersection_search_space(study.get_trials(deepcopy=False))
        return {name: each for name, each in distributions.items() if not each.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the values of the active parameters of one configuration."""
        if not search_space:
            return {}
        space = self._space or SearchSpace.from_distributions(search_space)
        history = History.read(study, trial, space, self._observe)
        proposer = Proposer(
            space=space,
            columns=EncodedSpace(space, trial.system_attrs.get("fixed_params")),
            objectives=self._objectives(study),
            history=history,
            rng=np.random.default_rng([self._seed, trial.number]),
            constraints=self._constraints,
        )
        since_startup = history.started - self._n_startup
        is_startup = since_startup < 0 or len(history.configs) < 2
        is_uncertain = len(self._known) < len(study.directions)
        is_interleaved = is_uncertain and since_startup % _SEQUENCE_INTERVAL == _SEQUENCE_INTERVAL - 1
        if is_startup or is_interleaved:
            config = proposer.startup_point(self._seed, defaults=self._space is not None)
        else:
            config = proposer.maximize_acquisition(self._n_candidates)
        if proposer.is_exhausted and not self._warned_exhausted:
            self._warned_exhausted = True
            warnings.warn("every configuration has been proposed; proposals repeat from now on", stacklevel=2)
        return {name: value for name, value in config.items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a value uniformly, for a parameter that not all trials have."""
        rng = np.random.default_rng([self._seed, trial.number, zlib.crc32(param_name.encode())])
        return SearchSpace.from_distributions({param_name: param_distribution}).sample(rng)[param_name]

    def _objectives(self, study: Study) -> StudyObjectives:
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
        return StudyObjectives(signs, self._known, self._floors, self._limits, references)


def _finite(limit: float | None) -> float | None:
    return None if limit is None or math.isinf(limit) else limit


def default_startup(space: SearchSpace | None) -> int:
    """Return the default number of startup trials.

    With a space it is one per family plus two, but at least seven. The common number of ten makes short searches
    worse: on the two problems of `benchmarks.sampler_toy`, seven startup trials make the hypervolume after ten
    trials 6 % and 11 % larger, with no difference after 20 and 40 trials. Without a space there are no default
    configurations, five startup trials were worse after 40 trials, and the number is ten.
    """
    return 10 if space is None else max(7, len(space.defaults()) + 2)
