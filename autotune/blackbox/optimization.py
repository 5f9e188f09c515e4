"""`autotune.optimize`: search with a function that trains for longer or shorter.

Example:
    def evaluate(config, fidelity, state):
        model = state or build(config)
        model.train_until(fidelity)
        return {"loss": model.validate()}, model

    result = autotune.optimize(evaluate, space, ["loss"], Ladder(1, 27), budget=200)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial

from autotune.blackbox.evaluations import (
    Answer,
    Evaluate,
    EvaluationJob,
    EvaluationStore,
    FidelityBudget,
)
from autotune.blackbox.limits import KnownLimits
from autotune.blackbox.objectives import TINY, Budget, Objective, read_objectives
from autotune.blackbox.result import OptimizeResult, read_result
from autotune.blackbox.spaces import BlackBoxSpace, SpaceLike, read_space
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
from search_spaces.parameters.types import Configuration, Parameter
from search_spaces.space import SearchSpace


def optimize(
    evaluate: Evaluate,
    space: SpaceLike,
    objectives: Sequence[str | Objective],
    ladder: Ladder | None = None,
    budget: Budget | float | None = None,
    *,
    model: object | None = None,
    task: str | None = None,
    lengths: Sequence[int] | None = None,
    sampler: optuna.samplers.BaseSampler | Mapping[str, Any] | str | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    workers: int = 1,
) -> OptimizeResult:
    """Search a space with any function that evaluates a configuration.

    Without a ladder, every configuration is evaluated once. On a ladder, a configuration is trained up to a low rung;
    the best of each rung are promoted and resume from their state, by the rules of `Ladder` and `PromotionScheduler`.
    A new configuration begins whenever none may be promoted.

    A search ends before its budget when each configuration of a small, finite space was evaluated, with a warning. To
    evaluate configurations again, give the sampler a share: `{"name": "pareto", "resample": 0.5}`.

    The sampler learns from all rungs: a configuration counts with its value at the top, or with the value there that
    its highest rung predicts, and the lower the rung, the less it weighs (`surrogates.multi_fidelity`). Training the
    surrogate on the highest rung with enough results only (BOHB, Falkner et al. 2018) was the alternative; it forgets
    the many configurations that were not promoted. A `ParetoSampler` is given all of this; other Optuna samplers see
    finished trials, and the curves as intermediate values.

    Args:
        evaluate: without a ladder, configuration -> metrics. On a ladder, (configuration, fidelity, state) ->
            (metrics, state): it trains up to `fidelity` in all, from `state`, which it returned on the rung below, or
            None at the start. A metric is a number, or the curve since the last rung as {fidelity: value}. After None
            as state, the next rung starts over and costs its whole fidelity. An exception, or an objective that is
            not finite, fails this trial.
        space: a bound search space, Optuna distributions by name, or a space of adapter families for `model`: the
            name of a preset, a space file, or a mapping with what such a file holds.
        objectives: one to four; a bare name is a metric to minimize, unless it names a metric of a task such as
            `accuracy`. With `model`, costs such as `trainable_params` are known in closed form.
        ladder: rungs and shares; by default every configuration is evaluated once, with fidelity 1.
        budget: a `Budget`; a number is the training in all, in the ladder's unit of fidelity, which without a ladder
            is the number of configurations.
        model: the model that a space of adapter families is bound to, as for `peft_config`: a hub id, a folder, a
            transformers configuration or a transformers model.
        task: of the model, as for `peft_config`.
        lengths: number of tokens of each training example, for the objectives `train_flops` and `inference_flops`.
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
        InvalidInputError: the space cannot be read or needs a model, or a cost needs lengths.
        SearchFailedError: the first trials all failed, or the sampler suggests no configuration of the space.

    Example:
        >>> from optuna.distributions import FloatDistribution
        >>> space = {"x": FloatDistribution(-1, 1)}
        >>> result = optimize(lambda config: {"y": config["x"] ** 2}, space, ["y"], budget=20)
        >>> len(result.trials)
        20
    """
    call = _evaluation(evaluate, has_ladder=ladder is not None and ladder.top > 0)
    return search(
        lambda job, report: call(dict(job.config), job.fidelity, job.state),
        space=read_space(space, model, task, lengths),
        objectives=read_objectives(objectives),
        ladder=ladder,
        budget=budget,
        sampler=sampler,
        seed=seed,
        storage=storage,
        workers=workers,
    )


Report = Callable[[float, Mapping[str, float]], None]
"""Shows the metrics of a running evaluation at a fidelity."""


def search(
    call: Callable[[EvaluationJob, Report], Answer],
    *,
    space: BlackBoxSpace,
    objectives: Sequence[Objective],
    ladder: Ladder | None,
    budget: Budget | float | None,
    sampler: optuna.samplers.BaseSampler | Mapping[str, Any] | str | None,
    seed: int,
    storage: str | Path | None,
    workers: int,
) -> OptimizeResult:
    """Run a search; the arguments are those of `optimize`, with a function that is called with each job."""
    if budget is None:
        raise ValueError("budget: missing; give a number, such as budget=30, or a Budget")
    limits = budget if isinstance(budget, Budget) else Budget(fidelity=budget)
    if workers < 1:
        raise ValueError(f"workers: {workers}; give at least 1")
    read = space.with_costs(objectives)
    if all(objective.known for objective in read):
        names = [objective.name for objective in read]
        raise ValueError(
            f"objectives: {names} are all known, so nothing needs an evaluation; add one that does"
        )
    ladder = ladder or Ladder.single()
    scheduler = PromotionScheduler(ladder, [objective.known is not None for objective in read], seed)
    settings = {
        "objectives": [[objective.name, objective.direction] for objective in read],
        "rungs": list(ladder.rungs),
        "parameters": list(space.space.names),
        "seed": seed,
        "space": {parameter.name: _range(parameter) for parameter in space.space.parameters},
        "limits": {o.name: list(o.limits) for o in read if o.limits is not None},
    }
    known_limits = KnownLimits(read, space.limits())
    informed = _sampler(sampler, space.space, read, known_limits, seed, scheduler)
    study = BlackBoxStudy(storage, [objective.direction for objective in read], settings, informed)
    try:
        store = EvaluationStore(study, space.space, read, scheduler, known_limits)
        used = _search(call, store, scheduler, limits, workers)
        return read_result(study.study, scheduler, read, used, space.costs)
    finally:
        study.close()


def _evaluation(evaluate: Evaluate, *, has_ladder: bool) -> Callable[[Configuration, float, Any], Answer]:
    """Return a function of three arguments for one of the user, which may take the configuration alone.

    Raises:
        ValueError: it takes the configuration alone, and there is a ladder.
    """
    if not _takes_configuration_only(evaluate):
        return cast(Callable[[Configuration, float, Any], Answer], evaluate)
    if has_ladder:
        raise ValueError(
            "evaluate: it takes the configuration alone, so it cannot train up to a rung; give it the parameters "
            "(config, fidelity, state), or no ladder"
        )
    alone = cast(Callable[[Configuration], Answer], evaluate)
    return lambda config, fidelity, state: alone(config)


def _takes_configuration_only(evaluate: Evaluate) -> bool:
    try:
        parameters = inspect.signature(evaluate).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return not takes_any and sum(p.default is p.empty for p in positional) == 1 and len(positional) < 3


def _range(parameter: Parameter) -> str:
    """Return what a parameter can be, and when it is active, as a text that is the same in every process."""
    when = {parent: sorted(map(str, values)) for parent, values in parameter.when.items()}
    return str(parameter.distribution()) + (f" when {when}" if when else "")


def _search(
    call: Callable[[EvaluationJob, Report], Answer],
    store: EvaluationStore,
    scheduler: PromotionScheduler,
    limits: Budget,
    workers: int,
) -> float:
    """Run the search, and return the training in all."""

    def evaluate(job: EvaluationJob) -> Answer:
        return call(job, lambda fidelity, metrics: store.report(job, fidelity, metrics))

    budget = FidelityBudget(limits, scheduler, store.used, lambda: store.exhausted)
    with FunctionEvaluator(evaluate, workers) as evaluator:
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
        warnings.warn(f"the space has {size}, and each was evaluated: the search ends", stacklevel=4)
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
    limits: KnownLimits,
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
        sampler = _named_sampler(
            read_sampler({} if sampler is None else sampler), space, objectives, limits, seed
        )
    return sampler.observing(observe) if isinstance(sampler, ParetoSampler) else sampler


def _named_sampler(
    spec: SamplerSpec, space: SearchSpace, objectives: Sequence[Objective], limits: KnownLimits, seed: int
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
        log_objectives={
            j: objective.floor or TINY for j, objective in enumerate(objectives) if objective.log
        },
        limits={
            j: objective.limits
            for j, objective in enumerate(objectives)
            if objective.known is None and objective.limits is not None
        },
        constraints=limits or None,
        models_constraints=False,  # those of the study are the limits once more
        references=[objective.reference for objective in objectives],
        seed=seed,
        **spec.arguments,
    )
