"""The search of a sweep: the search loop with the sweep's sampler, scheduler, executor, ledger and budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import optuna

from autotune.engine.events import Listener
from autotune.engine.progress import SearchProgress
from autotune.engine.samplers import make_sampler
from autotune.engine.sweep_store import LedgerBudget, SweepStore, tried_configurations
from autotune.estimate.sweep_time import SweepTime
from autotune.ladder.checkpoints import Checkpoints
from autotune.ladder.ladder_scheduler import make_scheduler
from autotune.ladder.promotion import Candidate
from autotune.ladder.sweep_scheduler import SweepScheduler
from autotune.ledger.clock import StudyClock
from autotune.ledger.ledger import STORAGE_ERRORS, Ledger
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.results.confirmation import search_seed
from autotune.search.evaluator import ExecutorEvaluator
from autotune.search.failures import FailureRule, SearchFailedError
from autotune.search.loop import SearchLoop
from autotune.search.store import Ended, TrainingJob
from autotune.sweep.sampler_spec import ParetoSpec
from autotune.transfer.start import SearchStart, keep_start
from autotune.trial_attributes import trial_result
from search_spaces.errors import first_line
from search_spaces.parameters.types import Configuration
from trials.execution.interface import Executor
from trials.records import TrialResult, TrialStatus

_CHECKPOINTS = "states"
"""The folder, in a sweep's own, with the checkpoints of paused trials."""
_MAX_SKIPS = 20
"""After this many proposals in a row outside the limits, a sampler other than ours is given one inside."""


@dataclass(frozen=True)
class SweepSearch:
    """A search that is ready to run.

    Args:
        loop: that searches.
        clock: of the search.
        progress: of the search, read from the ledger.
        listener: of the sweep's events.
    """

    loop: SearchLoop[TrainingJob, TrialResult]
    clock: StudyClock
    progress: SearchProgress
    listener: Listener

    def run(self) -> None:
        """Search until the budget is spent and, on a ladder, no candidate may be promoted any more."""
        self.clock.start()
        self.listener.progress(self.progress.progress("search"))
        self.loop.run()


def sweep_search(
    prepared: PreparedSweep,
    folder: Path,
    ledger: Ledger,
    *,
    executor: Executor,
    listener: Listener,
    expected: SweepTime | None = None,
    start: SearchStart | None = None,
) -> SweepSearch:
    """Assemble the search of a sweep, where its ledger stands.

    Args:
        prepared: the sweep.
        folder: of the sweep.
        ledger: of the search, recovered.
        executor: started.
        listener: of the sweep's events.
        expected: the predicted duration, if there is one.
        start: what the search starts from.
    """
    sweep, start = prepared.sweep, start or SearchStart()
    keep_start(start, prepared, folder, ledger)
    scheduler = make_scheduler(sweep.objectives, sweep.ladder, sweep.seed, ledger.trials)
    checkpoints = Checkpoints(folder.absolute() / _CHECKPOINTS)
    checkpoints.delete_unused(scheduler.candidates.values())
    ledger.study.sampler = scheduler.inform(
        make_sampler(prepared, [each.for_sampler for each in start.sources])
    )
    clock = StudyClock(ledger)
    space = prepared.small_space if prepared.ends_when_tried else None
    progress = SearchProgress(sweep, ledger, clock, scheduler, expected, space)
    earlier = [r for t in ledger.trials if (r := trial_result(t)) is not None]
    loop = SearchLoop(
        scheduler=scheduler,
        proposer=SweepProposer(prepared, ledger, scheduler),
        evaluator=ExecutorEvaluator(executor),
        store=SweepStore(prepared, ledger, scheduler, checkpoints=checkpoints, clock=clock),
        budget=LedgerBudget(sweep, ledger, clock, space),
        failures=FailureRule(map(Ended.of, earlier)),
        listener=_Events(progress, listener),
    )
    return SweepSearch(loop, clock, progress, listener)


class SweepProposer:
    """Proposes configurations within the limits of a sweep.

    Args:
        prepared: the sweep.
        ledger: of the search; its study has the sampler.
        scheduler: of the search.
    """

    def __init__(self, prepared: PreparedSweep, ledger: Ledger, scheduler: SweepScheduler) -> None:
        self._prepared, self._ledger, self._scheduler = prepared, ledger, scheduler

    def propose(self) -> Candidate:
        """Return a new candidate, whose trial has a seed and, on a ladder of base models, a first rung."""
        number, config = self._ask()
        if self._ledger.attributes(number).seed is None:
            self._ledger.set(number, seed=search_seed(self._prepared.sweep.seed, number))
        if first := self._prepared.bases.first(config):
            self._ledger.set(number, first_rung=first)
        candidate = self._scheduler.read(self._ledger.trial(number))
        assert candidate is not None, "it began just now"
        return candidate

    def _ask(self) -> tuple[int, Configuration]:
        """Return the next configuration within the limits, and the number of its trial.

        Our sampler proposes no other; another sampler may. Where it finds none inside by itself, it is given a random
        configuration from there to learn from.
        """
        prepared, study = self._prepared, self._ledger.study
        for attempt in range(_MAX_SKIPS + 1):
            trial, config = self._suggest()
            self._ledger.changed()
            problem = prepared.broken_limits(config) or "; ".join(prepared.space.problems(config))
            if not problem and (untried := self._untried(trial.number, config)):
                problem = "an earlier trial has this configuration, and others of the space are untried"
                study.enqueue_trial(dict(untried[trial.number % len(untried)]))
            elif not problem:
                return trial.number, config
            pruned = TrialResult(TrialStatus.PRUNED, error=problem)
            self._ledger.tell(trial.number, pruned, None, {"costs": {}})
            if attempt == _MAX_SKIPS - 1:
                study.enqueue_trial(dict(prepared.random_configuration(prepared.sweep.seed + trial.number)))
        raise SearchFailedError(
            f"sampler {prepared.sweep.sampler.name} proposed {_MAX_SKIPS} configurations in a row outside the limits "
            "and ignored one inside them; use sampler: pareto, which proposes only configurations within the limits"
        )

    def _untried(self, number: int, config: Configuration) -> list[Configuration]:
        """Return the untried configurations of a small space, if a proposal repeats a trial; else none.

        Our sampler repeats on purpose only.
        """
        space = self._prepared.small_space
        if space is None or isinstance(self._prepared.sweep.sampler, ParetoSpec):
            return []
        others = tried_configurations(trial for trial in self._ledger.trials if trial.number != number)
        untried = space.untried(others)
        return untried if len(space.untried([*others, config])) == len(untried) else []

    def _suggest(self) -> tuple[optuna.Trial, Configuration]:
        """Return a new trial and its configuration.

        Raises:
            SearchFailedError: the sampler of another package fails.
        """
        study, spec = self._ledger.study, self._prepared.sweep.sampler
        try:
            trial = study.ask()
            return trial, self._prepared.space.suggest(trial)
        except STORAGE_ERRORS:
            raise
        except Exception as error:
            if isinstance(spec, ParetoSpec):
                raise
            what = f"sampler {spec.name} failed with {type(error).__name__}: {first_line(error)}"
            raise SearchFailedError(f"{what}; correct it, or use sampler: pareto") from error


class _Events:
    """Passes the events of the loop on to the listener of the sweep."""

    def __init__(self, progress: SearchProgress, listener: Listener) -> None:
        self._progress, self._listener = progress, listener

    def started(self, job: TrainingJob) -> None:
        """Report a trial that is trained, and the progress."""
        origin = self._progress.ledger.attributes(job.number).origin
        self._listener.trial_started(
            job.number, job.config, seed=job.spec.seed, origin="" if origin is None else str(origin)
        )
        self._listener.progress(self._progress.progress("search"))

    def ended(self, job: TrainingJob, ended: Ended) -> None:
        """Report the result of a trial, and the progress."""
        assert ended.result is not None, "a training run has a result"
        is_on_front = job.number in self._progress.front()
        values = self._progress.values_of(job.number)
        self._listener.trial_finished(job.number, ended.result, values, is_on_front)
        self._listener.progress(self._progress.progress("search"))
