"""`autotune.optimize`: search with any black box that can be trained for longer or shorter.

def evaluate(config, fidelity, state):
    model = state or build(config)
    model.train_until(fidelity)
    return {"loss": model.validate()}, model

result = autotune.optimize(evaluate, space, ["loss"], Ladder(1, 27), budget=200)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from autotune.blackbox.objectives import Budget, Metric, Objective, Points, read_metrics, read_objectives
from autotune.blackbox.result import OptimizeResult, read_result
from autotune.blackbox.study import Store
from autotune.ladder.promotion import Candidate, PromotionScheduler
from autotune.ladder.rungs import Ladder
from autotune.sampler.history import Observation
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.trial_attributes import RUNGS
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

Metrics = Mapping[str, Metric]
Evaluate = Callable[[Configuration, float, Any], tuple[Metrics, Any]]

_FAILURES_BEFORE_GIVING_UP = 10
"""If so many trials fail before one does not, the black box is at fault and not the configurations."""
_EMPTY = 100
"""Proposals in a row that are no configuration of the space before the search gives up."""


def optimize(
    evaluate: Evaluate,
    space: SearchSpace | Mapping[str, BaseDistribution],
    objectives: Sequence[str | Objective],
    ladder: Ladder,
    budget: Budget | float,
    *,
    sampler: optuna.samplers.BaseSampler | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    workers: int = 1,
) -> OptimizeResult:
    """Search a space with trials that climb a ladder of training budgets.

    A configuration is trained up to a low rung; the best of each rung go on from their state, by the rules of
    `Ladder` and `PromotionScheduler`. New configurations begin where nobody may climb.

    The sampler learns from all rungs: a configuration counts with its value at the top, or with what its value on
    the highest rung it reached is worth there, the less the lower the rung (`surrogates.multi_fidelity`). Training
    on the highest rung with enough results alone (BOHB, Falkner et al. 2018) was the alternative; it forgets the
    many configurations that did not climb, and with them where not to look. A `ParetoSampler` is given all
    this; other optuna samplers see finished trials, and the values on the rungs where there is one objective.

    Args:
        evaluate: (configuration, fidelity, state) -> (metrics, state). It trains up to `fidelity` in all, from
            `state`, which is what it handed back on the rung below, or None at the start. A metric is a number,
            or the curve since the last rung as {fidelity: value}. Handing back None as state means that
            every rung starts anew, and is charged so. An exception, or an objective that is not finite, is this
            trial's failure.
        space: a bound search space, or optuna distributions by name.
        objectives: one to four, a bare name being a metric to minimize.
        ladder: rungs and shares.
        budget: a `Budget`; a number is the training in all, in the ladder's unit of fidelity.
        sampler: any optuna sampler; by default a `ParetoSampler` that knows what is known.
        seed: of the default sampler and of the random share.
        storage: a SQLite file to keep the study and the states in. A call with the same file and search goes on,
            also with a larger budget. Checkpoints must then be plain data, such as the path of a checkpoint.
        workers: evaluations at once, in threads; `evaluate` must then be safe to call from several.

    Raises:
        ValueError: an argument is out of its range, metrics lack an objective, or the storage holds another
            search.
        RuntimeError: the first ten trials all failed.
    """
    objectives = read_objectives(objectives)
    bounds = budget if isinstance(budget, Budget) else Budget(fidelity=budget)
    if workers < 1:
        raise ValueError(f"workers: {workers}; give at least 1")
    if not isinstance(space, SearchSpace):
        space = SearchSpace.from_distributions(space)
    promotion = PromotionScheduler(ladder, [objective.known is not None for objective in objectives], seed)
    asked = {
        "objectives": [[objective.name, objective.direction] for objective in objectives],
        "rungs": list(ladder.rungs),
        "parameters": list(space.names),
        "seed": seed,
    }
    observing = _sampler(sampler, space, objectives, seed, promotion)
    store = Store(storage, [objective.direction for objective in objectives], asked, observing)
    try:
        search = _Search(evaluate, space, objectives, ladder, bounds, promotion, store)
        search.replay()
        search.run(workers)
        return read_result(store.study, promotion, search.objectives, search.used)
    finally:
        store.close()


def _sampler(
    sampler: optuna.samplers.BaseSampler | None,
    space: SearchSpace,
    objectives: Sequence[Objective],
    seed: int,
    promotion: PromotionScheduler,
) -> optuna.samplers.BaseSampler:
    def observe(trial: FrozenTrial) -> Observation | None:
        projected = promotion.projected(trial.number)
        if projected is None:
            return None
        losses, variances = projected
        values = [objective.value(float(loss)) for objective, loss in zip(objectives, losses, strict=True)]
        return Observation(values, variances.tolist())

    if sampler is None:
        sampler = ParetoSampler(
            space=space,
            known_objectives={
                j: objective.known for j, objective in enumerate(objectives) if objective.known is not None
            },
            log_objectives={j: 1e-300 for j, objective in enumerate(objectives) if objective.log},
            references=[objective.reference for objective in objectives],
            seed=seed,
        )
    return sampler.observing(observe) if isinstance(sampler, ParetoSampler) else sampler


@dataclass(frozen=True)
class _Job:
    candidate: Candidate
    config: Configuration
    rung: int
    fidelity: float
    cost: float
    state: Any


class _Search:
    """The loop: who climbs, else who is new; evaluate; tell."""

    def __init__(
        self,
        evaluate: Evaluate,
        space: SearchSpace,
        objectives: tuple[Objective, ...],
        ladder: Ladder,
        budget: Budget,
        promotion: PromotionScheduler,
        store: Store,
    ) -> None:
        self.evaluate, self.space, self.objectives, self.ladder = evaluate, space, objectives, ladder
        self.budget, self.promotion, self.store = budget, promotion, store
        self.configs: dict[int, Configuration] = {}
        self.used = self._committed = 0.0
        self._deadline = math.inf if budget.seconds is None else time.monotonic() + budget.seconds
        self._successes = 0

    def replay(self) -> None:
        """Put everybody back where the study left them."""
        for trial in self.store.trials:
            records = trial.user_attrs.get(RUNGS, [])
            config: Configuration = {
                name: trial.params[name] for name in self.space.names if name in trial.params
            }
            self.used += sum(r["cost"] for r in records) + trial.user_attrs.get("failed_cost", 0.0)
            if trial.user_attrs.get("status") == "lost":
                continue
            if self.space.problems(config):
                if not trial.state.is_finished():  # its process died while it was being proposed
                    self.store.fail(trial.number, "never begun", 0.0, status="lost")
                continue
            self.configs[trial.number] = config
            candidate = self.promotion.add(trial.number, self.ladder.first(config))
            for record in records:
                self._climbed(candidate, record["rung"], record["values"], record["curves"])
            if trial.state == TrialState.FAIL:
                self.promotion.fail(trial.number)
            elif trial.state == TrialState.PRUNED:
                candidate.status = "stopped"
            elif candidate.status == "complete" and not trial.state.is_finished():
                self.store.finish(trial.number, records[-1]["values"])
            if candidate.status == "waiting" and records:
                self.store.remember(trial.number, records[-1].get("state"))

    def run(self, workers: int) -> None:
        """Until nothing is left to do that fits the budget."""
        with _calls(workers) as call:
            running: dict[Future[tuple[Metrics, Any]], _Job] = {}
            while True:
                while len(running) < workers and (job := self._next_job()) is not None:
                    job.candidate.status = "running"
                    self._committed += job.cost
                    running[call(partial(self.evaluate, dict(job.config), job.fidelity, job.state))] = job
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda f: running[f].candidate.number):
                    self._tell(running.pop(future), future)

    def _next_job(self) -> _Job | None:
        if time.monotonic() >= self._deadline:
            return None
        for candidate in self.promotion.promotions():
            job = self._job(candidate)
            if self._fits(job.cost):
                return job
        if self.budget.trials is not None and len(self.promotion.candidates) >= self.budget.trials:
            return None
        if not self._fits(self.ladder.rungs[0]):
            return None
        job = self._job(self._new_candidate())
        return job if self._fits(job.cost) else None

    def _fits(self, cost: float) -> bool:
        limit = math.inf if self.budget.fidelity is None else self.budget.fidelity
        return self.used + self._committed + cost <= limit * (1 + 1e-9)

    def _new_candidate(self) -> Candidate:
        for _ in range(_EMPTY):
            trial = self.store.study.ask()
            config = self.space.suggest(trial)
            problems = self.space.problems(config)
            if not problems:
                self.configs[trial.number] = config
                return self.promotion.add(trial.number, self.ladder.first(config))
            self.store.fail(trial.number, "; ".join(problems), 0.0, status="lost")
        raise ValueError(
            f"sampler: {_EMPTY} proposals in a row are no configuration of the space: {problems}"
        )

    def _job(self, candidate: Candidate) -> _Job:
        rung = candidate.next_rung
        state = self.store.state(candidate.number)
        done = 0.0 if state is None else self.ladder.rungs[candidate.rung]
        fidelity = self.ladder.rungs[rung]
        return _Job(candidate, self.configs[candidate.number], rung, fidelity, fidelity - done, state)

    def _tell(self, job: _Job, future: Future[tuple[Metrics, Any]]) -> None:
        number = job.candidate.number
        self._committed -= job.cost
        self.used += job.cost
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        if error is not None:
            self._fail(job, f"{type(error).__name__}: {error}", error)
            return
        metrics, state = future.result()
        values, curves = read_metrics(self.objectives, metrics, job.fidelity, job.config)
        if not all(math.isfinite(g.loss(v)) for g, v in zip(self.objectives, values, strict=True)):
            self._fail(
                job, f"not finite: {dict(zip((g.name for g in self.objectives), values, strict=True))}", None
            )
            return
        self._successes += 1
        record = {
            "rung": job.rung,
            "fidelity": job.fidelity,
            "values": values,
            "curves": curves,
            "metrics": {name: float(m) for name, m in metrics.items() if not isinstance(m, Mapping)},
            "cost": job.cost,
        }
        self.store.record(number, record, state)
        self._climbed(job.candidate, job.rung, values, curves)
        if job.candidate.status == "complete":
            self.store.finish(number, values)
            for candidate in self.promotion.prunable():
                candidate.status = "stopped"
                self.store.stop(candidate.number)

    def _climbed(
        self, candidate: Candidate, rung: int, values: Sequence[float], curves: Sequence[Points]
    ) -> None:
        losses = np.array(
            [objective.loss(value) for objective, value in zip(self.objectives, values, strict=True)]
        )
        points = [
            [(f, loss) for f, y in curve if math.isfinite(loss := objective.loss(y))]
            for objective, curve in zip(self.objectives, curves, strict=True)
        ]
        self.promotion.tell(candidate.number, rung, losses, points)

    def _fail(self, job: _Job, message: str, cause: Exception | None) -> None:
        self.store.fail(job.candidate.number, message, job.cost)
        self.promotion.fail(job.candidate.number)
        if not self._successes and len(self.promotion.candidates) >= _FAILURES_BEFORE_GIVING_UP:
            statuses = {candidate.status for candidate in self.promotion.candidates.values()}
            if statuses == {"failed"}:
                failures = len(self.promotion.candidates)
                raise RuntimeError(
                    f"evaluate: the first {failures} trials all failed, the last with {message}"
                ) from cause


@contextmanager
def _calls(workers: int) -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    """How evaluations are called: here and now for one worker, else in threads."""
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            yield pool.submit
        return

    def call(function: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function())
        except Exception as error:  # whatever a black box raises is that trial's failure
            future.set_exception(error)
        return future

    yield call
