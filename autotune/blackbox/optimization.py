"""`autotune.optimize`: search with a function that trains for longer or shorter.

Example:
    def evaluate(config, fidelity, state):
        model = state or build(config)
        model.train_until(fidelity)
        return {"loss": model.validate()}, model

    result = autotune.optimize(evaluate, space, ["loss"], Ladder(1, 27), budget=200)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from autotune.blackbox.evaluations import (
    Answer,
    Evaluate,
    EvaluationJob,
    EvaluationStore,
    FidelityBudget,
)
from autotune.blackbox.objectives import Budget, Objective, read_objectives
from autotune.blackbox.result import OptimizeResult, read_result
from autotune.blackbox.study import BlackBoxStudy
from autotune.ladder.promotion import Candidate, PromotionScheduler
from autotune.ladder.rungs import Ladder
from autotune.sampler.history import Observation
from autotune.sampler.named_samplers import build_sampler
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.search.evaluator import FunctionEvaluator
from autotune.search.failures import FailureRule
from autotune.search.loop import SearchLoop, SilentLoopListener
from autotune.sweep.sampler_spec import ParetoSpec, SamplerSpec, check_objectives, read_sampler
from search_spaces.parameters.types import Parameter
from search_spaces.space import SearchSpace


def optimize(
    evaluate: Evaluate,
    space: SearchSpace | Mapping[str, BaseDistribution],
    objectives: Sequence[str | Objective],
    ladder: Ladder | None,
    budget: Budget | float,
    *,
    sampler: optuna.samplers.BaseSampler | Mapping[str, Any] | str | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    workers: int = 1,
) -> OptimizeResult:
    """Search a space with trials that are promoted on a ladder of training budgets.

    A configuration is trained up to a low rung; the best of each rung are promoted and resume from their state, by
    the rules of `Ladder` and `PromotionScheduler`. A new configuration begins whenever none may be promoted.

    A search ends before its budget when each configuration of a small, finite space was evaluated, with a warning. To
    evaluate configurations again, give the sampler a share: `{"name": "pareto", "resample": 0.5}`.

    The sampler learns from all rungs: a configuration counts with its value at the top, or with the value there that
    its highest rung predicts, and the lower the rung, the less it weighs (`surrogates.multi_fidelity`). Training the
    surrogate on the highest rung with enough results only (BOHB, Falkner et al. 2018) was the alternative; it forgets
    the many configurations that were not promoted. A `ParetoSampler` is given all of this; other Optuna samplers see
    finished trials, and the values on the rungs where there is one objective.

    Args:
        evaluate: (configuration, fidelity, state) -> (metrics, state). It trains up to `fidelity` in all, from
            `state`, which it returned on the rung below, or None at the start. A metric is a number, or the curve
            since the last rung as {fidelity: value}. After None as state, the next rung starts over and costs its
            whole fidelity. An exception, or an objective that is not finite, fails this trial.
        space: a bound search space, or Optuna distributions by name.
        objectives: one to four; a bare name is a metric to minimize.
        ladder: rungs and shares; None to evaluate every configuration once, with fidelity 1.
        budget: a `Budget`; a number is the training in all, in the ladder's unit of fidelity.
        sampler: a name or a mapping as in a sweep file, such as `{"name": "pareto", "n_startup": 5}`, or any Optuna
            sampler. By name, a `ParetoSampler` is given the space, the known objectives and the references; it is
            the default.
        seed: of a sampler by name and of the random share.
        storage: a SQLite file for the study and the states. A call with the same file and search resumes it, also
            with a larger budget. States must then be plain data, such as the path of a checkpoint.
        workers: evaluations at a time, in threads; `evaluate` must then be safe to call from several.

    Returns:
        The trials, the front, and how well the lower rungs ranked.

    Raises:
        ValueError: an argument is out of its range, metrics lack an objective, or the storage holds another
            search.
        SearchFailedError: the first trials all failed, or the sampler suggests no configuration of the space.

    Example:
        >>> from optuna.distributions import FloatDistribution
        >>> space = {"x": FloatDistribution(-1, 1)}
        >>> result = optimize(lambda config, fidelity, state: ({"y": config["x"] ** 2}, None), space, ["y"], None, 20)
        >>> len(result.trials)
        20
    """
    read = read_objectives(objectives)
    limits = budget if isinstance(budget, Budget) else Budget(fidelity=budget)
    if workers < 1:
        raise ValueError(f"workers: {workers}; give at least 1")
    if not isinstance(space, SearchSpace):
        space = SearchSpace.from_distributions(space)
    ladder = ladder or Ladder.single()
    scheduler = PromotionScheduler(ladder, [objective.known is not None for objective in read], seed)
    settings = {
        "objectives": [[objective.name, objective.direction] for objective in read],
        "rungs": list(ladder.rungs),
        "parameters": list(space.names),
        "seed": seed,
        "space": {parameter.name: _range(parameter) for parameter in space.parameters},
    }
    informed = _sampler(sampler, space, read, seed, scheduler)
    study = BlackBoxStudy(storage, [objective.direction for objective in read], settings, informed)
    try:
        used = _search(evaluate, EvaluationStore(study, space, read, scheduler), scheduler, limits, workers)
        return read_result(study.study, scheduler, read, used)
    finally:
        study.close()


def _range(parameter: Parameter) -> str:
    """Return what a parameter can be, and when it is active, as a text that is the same in every process."""
    when = {parent: sorted(map(str, values)) for parent, values in parameter.when.items()}
    return str(parameter.distribution()) + (f" when {when}" if when else "")


def _search(
    evaluate: Evaluate, store: EvaluationStore, scheduler: PromotionScheduler, limits: Budget, workers: int
) -> float:
    """Run the search, and return the training in all."""

    def call(job: EvaluationJob) -> Answer:
        return evaluate(dict(job.config), job.fidelity, job.state)

    budget = FidelityBudget(limits, scheduler, store.used, lambda: store.exhausted)
    with FunctionEvaluator(call, workers) as evaluator:
        loop: SearchLoop[EvaluationJob, Answer | Exception] = SearchLoop(
            scheduler=_OpenScheduler(scheduler, store),
            proposer=store,
            evaluator=evaluator,
            store=store,
            budget=budget,
            failures=FailureRule(store.endings),
            listener=SilentLoopListener(),
        )
        loop.run()
    if (count := budget.ended_by_space) is not None:
        size = "1 configuration" if count == 1 else f"{count:,} configurations"
        warnings.warn(f"the space has {size}, and each was evaluated: the search ends", stacklevel=3)
    return budget.used


class _OpenScheduler:
    """The scheduler of a search whose budget may be raised later, so that no promotion is the last one.

    Only where each configuration of the space has begun, no new candidate can follow.
    """

    def __init__(self, scheduler: PromotionScheduler, store: EvaluationStore) -> None:
        self._scheduler, self._store = scheduler, store

    def promotions(self, *, closing: bool = False) -> Iterator[Candidate]:
        """Yield the candidates that may be promoted while new ones still begin, if there are any left."""
        return self._scheduler.promotions(closing=closing and self._store.exhausted is not None)

    def prunable(self) -> list[Candidate]:
        """Return the candidates that will never be promoted."""
        return self._scheduler.prunable()


def _sampler(
    sampler: optuna.samplers.BaseSampler | Mapping[str, Any] | str | None,
    space: SearchSpace,
    objectives: Sequence[Objective],
    seed: int,
    promotion: PromotionScheduler,
) -> optuna.samplers.BaseSampler:
    """Return the sampler, informed of results below the top where it is a `ParetoSampler`."""

    def observe(trial: FrozenTrial) -> Observation | None:
        projected = promotion.project(trial.number)
        if projected is None:
            return None
        losses, variances = projected
        values = [objective.value(float(loss)) for objective, loss in zip(objectives, losses, strict=True)]
        return Observation(values, variances.tolist())

    if sampler is None or isinstance(sampler, str | Mapping):
        sampler = _named_sampler(read_sampler({} if sampler is None else sampler), space, objectives, seed)
    return sampler.observing(observe) if isinstance(sampler, ParetoSampler) else sampler


def _named_sampler(
    spec: SamplerSpec, space: SearchSpace, objectives: Sequence[Objective], seed: int
) -> optuna.samplers.BaseSampler:
    """Return the sampler of a description; a `ParetoSampler` knows the space and the objectives."""
    check_objectives(spec, len(objectives))
    if not isinstance(spec, ParetoSpec):
        return build_sampler(spec.name, spec.arguments, seed)
    return ParetoSampler(
        space=space,
        known_objectives={
            j: objective.known for j, objective in enumerate(objectives) if objective.known is not None
        },
        log_objectives={j: 1e-300 for j, objective in enumerate(objectives) if objective.log},
        references=[objective.reference for objective in objectives],
        seed=seed,
        **spec.arguments,
    )
