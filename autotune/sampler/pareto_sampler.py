"""An Optuna sampler for mixed, conditional spaces with objectives of which some are known.

The first trials are those of the startup sequence (`startup.py`). The position in it follows from the trials in the
study, so a new process resumes where another one stopped. After that, a strategy (`strategies.py`) proposes one
configuration per trial.

The sampler keeps no state between trials: random numbers for a trial follow from the seed and the trial's number, and
what a strategy remembers, such as the last hyperparameters of its surrogates, is stored with the trial it proposed.
So `reseed_rng` has nothing to do, threads and processes can share a study, and a sampler that is rebuilt from the
study proposes what the old one would have proposed.
"""

from __future__ import annotations

import copy
import math
import numbers
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.feasible_sampling import Excess
from autotune.sampler.history import History, Observe, completed_values
from autotune.sampler.objectives import KnownObjective, Limit, StudyObjectives
from autotune.sampler.prior import Prior
from autotune.sampler.proposal import Proposer
from autotune.sampler.sources import NOTES, SourceTrials, check_sources
from autotune.sampler.strategies import StrategySettings, strategy_entry
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import Study


Array = NDArray[np.float64]

_NO_TRIAL = create_trial(state=TrialState.WAITING)
"""Stands for the trial to propose where none is proposed; its number, -1, is that of no trial."""
_CANDIDATES = 512
"""Default number of random candidates per suggestion."""


class ParetoSampler(BaseSampler):
    """Multi-objective Bayesian optimization over mixed, conditional spaces.

    The sampler works on any Optuna study, single- or multi-objective. Without `space`, surrogates cover the
    parameters that all finished trials share, and the others are drawn uniformly. With `space`, they cover
    conditional parameters too, and `SearchSpace.suggest(trial)` suggests exactly the active parameters.

    Without `space`, the parameters are unknown until a trial has completed. Trials that start earlier are drawn
    uniformly, so they may violate limits and constraints.

    Surrogates of the objectives are fitted to completed trials with finite values. Failed trials (state FAIL, or
    user attribute `status` set to "failed") inform the probability of feasibility; trials with the status "lost"
    inform nothing. Constraint values that trials report are modeled like objectives with the limit 0, unless
    `models_constraints` is False.

    Args:
        space: a search space that is bound to a model; None to infer it from the finished trials.
        known_objectives: functions of a configuration by objective index, in the study's units, for objectives
            that need no surrogate. They must be cheap: one suggestion calls them about a thousand times.
        log_objectives: floors by objective index: the objective is modeled as log(max(value, floor)).
        references: for each objective the worst value of interest in the study's units. None, for one or for
            all, stands for the worst observed value plus a quarter of the range.
        limits: hard (min, max) by objective index in the study's units, None for no bound. No proposal violates
            the limit of a known objective, but for the first trials without `space`; that of an uncertain objective
            enters by its probability.
        constraints: the violation of each of k constraints that need no trial, a function from c configurations
            to shape [c, k], at most 0 where satisfied. No proposal violates one, with the same exception.
        trial_cost: cost of a trial of a configuration, such as its training FLOPs: startup trials begin with the
            cheapest. By default the first known, minimized objective; None without one, which keeps their order.
        models_constraints: whether constraint values that trials report are modeled; not where they repeat `limits`.
        strategy: how configurations are chosen after startup: `pareto`; `carbs`, a local search around the front; or
            `autopeft`, batches of four on sparse models.
        strategy_options: options of the strategy by name, each True or False: `laws` of `pareto`, which is on by
            default (`pareto/law_candidates.py`), `copula` of `autopeft`, and `repeats` of `carbs`.
        surrogate: the surrogate of uncertain objectives: `matern`, `saas`, `saas-bayesian`, or `auto`, which
            chooses by leave-one-out predictive likelihood. Strategies have different ones.
        resample: share of the proposals after startup that run a point near the front again, to reduce the noise of
            its values; 0 for none. None chooses a fifth where the noise is worth it (`pareto/resampling.py`), and
            none where it is negligible or unknown. `carbs` repeats trials by its own rule and `autopeft` does not, so
            they do not take it.
        is_noisy: whether a configuration is known to score differently in another trial, as training with another
            seed does. Otherwise only repeated trials in the study show noise.
        sources: trials of earlier studies on other tasks or models, in this study's space. Surrogates of them inform
            those of this study, weighted by how well each ranks the trials so far; one that misleads is dropped. The
            strategy `pareto` uses them.
        prior: the user's prior on good configurations, which guides early proposals and fades with the number of
            trials (`prior.py`); None without one. The strategies `carbs` and `autopeft` do not take it.
        n_startup: number of startup trials, which count whatever their status; see `strategies.default_startup`.
            Half as many are enough if the trials agree with a source.
        n_candidates: number of random candidates per suggestion, by default 512; as many come from local search. The
            strategies `carbs` and `autopeft` have their own search and do not take it.
        seed: seed of all random numbers; with it, proposals are a function of the trials in the study.
        observe: returns the objective values of a trial in the study's units, or None to leave it out; by
            default the values of completed trials. It can admit predicted final values, with their variance
            (`Observation`), of pruned trials and of running ones, which otherwise are pending.

    Raises:
        ValueError: When built, if an argument is invalid or if the strategy does not use it. When suggesting, if an
            index names no objective, or if no configuration satisfies the hard limits of the known objectives and
            the constraints.

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
        trial_cost: KnownObjective | None = None,
        models_constraints: bool = True,
        strategy: str = "pareto",
        strategy_options: Mapping[str, Any] | None = None,
        surrogate: str = "auto",
        resample: float | None = None,
        is_noisy: bool = False,
        sources: Sequence[SourceTrials] = (),
        prior: Prior | None = None,
        n_startup: int | None = None,
        n_candidates: int | None = None,
        seed: int | None = None,
        observe: Observe | None = None,
    ) -> None:
        n_startup = _whole("n_startup", n_startup, least=1)
        n_candidates = _whole("n_candidates", n_candidates, least=1)
        seed = _whole("seed", seed, least=0)
        if resample is not None and not (_is_number(resample) and 0 <= resample <= 1):
            raise ValueError(f"resample: {resample!r} is not a share; give a number from 0 to 1, or None")
        for index, floor in (log_objectives or {}).items():
            if not floor > 0:
                raise ValueError(
                    f"log_objectives: the floor of objective {index} is {floor}; it must be above 0"
                )
        self._space = space
        self._known = dict(known_objectives or {})
        self._floors = dict(log_objectives or {})
        self._references = references
        self._limits = {index: _limit(index, *limit) for index, limit in (limits or {}).items()}
        self._constraints = constraints
        self._trial_cost = trial_cost
        self._prior = prior
        if prior is not None and space is not None:
            prior.check(space)
        self._models_constraints = models_constraints
        self._strategy = strategy_entry(strategy)
        self._strategy.check_settings(
            {
                "n_candidates": n_candidates,
                "resample": resample,
                "sources": sources or None,
                "prior": prior,
            }
        )
        check_sources(sources, space)
        self._strategy.check_surrogate(surrogate)
        self._strategy.check_options(strategy_options or {})
        self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._settings = StrategySettings(
            n_startup=self._strategy.default_startup(space) if n_startup is None else n_startup,
            n_candidates=_CANDIDATES if n_candidates is None else n_candidates,
            seed=self._seed,
            surrogate=surrogate,
            options=dict(strategy_options or {}),
            resample=resample,
            is_noisy=is_noisy,
            sources=tuple(sources),
        )
        self._observe = observe or completed_values
        self._warned_exhausted = False

    @property
    def repeats_on_request(self) -> bool:
        """Whether `resample` asks for configurations that run again."""
        return bool(self._settings.resample)

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
        proposer = self._proposer(study, trial, space)
        history = proposer.history
        is_startup = history.started < self._settings.fewest_startup or len(history.configs) < 2
        if is_startup:
            config = proposer.startup_point(self._settings.n_startup, self._seed)
        else:
            config = self._strategy.build(self._settings).propose(proposer)
        if proposer.notes:
            study._storage.set_trial_system_attr(trial._trial_id, NOTES, proposer.notes)
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

    def study_view(self, study: Study) -> Proposer:
        """Return the study as strategies see it, without a trial to propose."""
        distributions = self.infer_relative_search_space(study, _NO_TRIAL)
        return self._proposer(study, _NO_TRIAL, self._space or SearchSpace.from_distributions(distributions))

    def _proposer(self, study: Study, trial: FrozenTrial, space: SearchSpace) -> Proposer:
        columns = EncodedSpace(space, trial.system_attrs.get("fixed_params"))
        return Proposer(
            space=space,
            columns=columns,
            objectives=self._objectives(study),
            history=History.read(
                study, trial, space, self._observe, models_constraints=self._models_constraints
            ),
            rng=np.random.default_rng([self._seed, abs(trial.number)]),
            number=trial.number,
            constraints=self._constraints,
            trial_cost=self._order(study),
            memory=_memory(study, trial),
            has_defaults=self._space is not None,
            prior=None if self._prior is None else self._prior.on(columns),
        )

    def _order(self, study: Study) -> Callable[[Sequence[Configuration]], Array] | None:
        """Return the cost of a trial, which orders the startup trials: the given one, else the first known."""
        minimized = [j for j in sorted(self._known) if study.directions[j] == StudyDirection.MINIMIZE]
        cost = self._trial_cost or next((self._known[j] for j in minimized), None)
        if cost is None:
            return None
        return lambda configs: np.array([float(cost(config)) for config in configs])

    def _objectives(self, study: Study) -> StudyObjectives:
        m = len(study.directions)
        for field in ("known", "floors", "limits"):
            for index in getattr(self, f"_{field}"):
                if not 0 <= index < m:
                    name = {"known": "known_objectives", "floors": "log_objectives"}.get(field, field)
                    raise ValueError(f"{name}: no objective {index}; the study has {m}, counted from 0")
        for source in self._settings.sources:
            if source.values.shape[1] != m:
                raise ValueError(
                    f"sources: {source.name} has values for {source.values.shape[1]} objectives, and the study has "
                    f"{m}; give NaN for one that the source does not have"
                )
        references = self._references if self._references is not None else [None] * m
        if len(references) != m:
            raise ValueError(f"references: {len(references)} values for {m} objectives; give one for each")
        signs = np.array([1.0 if d == StudyDirection.MINIMIZE else -1.0 for d in study.directions])
        return StudyObjectives(signs, self._known, self._floors, self._limits, references)


def _whole(name: str, value: int | None, least: int) -> int | None:
    """Check an argument that is a whole number or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}: {value!r} is not a whole number; give {least} or more")
    if value < least:
        raise ValueError(f"{name}: {value} is out of range; give {least} or more")
    return int(value)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _limit(objective: int, low: float | None, high: float | None) -> Limit:
    """Return a limit with None for an infinite bound.

    Raises:
        ValueError: no value is within the limit.
    """
    if any(bound is not None and math.isnan(bound) for bound in (low, high)):
        raise ValueError(
            f"limits: a bound of objective {objective} is nan; give a number, or None for no bound"
        )
    if low is not None and high is not None and low > high:
        raise ValueError(
            f"limits: the minimum {low} of objective {objective} is above its maximum {high}; exchange them"
        )
    return _finite(low), _finite(high)


def _finite(limit: float | None) -> float | None:
    return None if limit is None or math.isinf(limit) else limit


def _memory(study: Study, trial: FrozenTrial) -> Mapping[str, Any]:
    """Return what the latest earlier proposal of the study left for later ones."""
    earlier = [other for other in study.get_trials(deepcopy=False) if other.number < trial.number]
    for other in reversed(earlier):
        if NOTES in other.system_attrs:
            found: Mapping[str, Any] = other.system_attrs[NOTES]
            return found
    return {}
