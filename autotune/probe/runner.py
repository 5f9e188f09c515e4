"""Probe runs: points of a front trained on shares of the data, to which a sweep's own scaling laws are fitted.

A probe run repeats a point's configuration on a share of the training examples that the search used, with a report
seed, optionally with a multiple of its learning rate or batch size, and optionally on another base model. Shares are
nested: the examples of a smaller share are among those of a larger one. Each run is recorded as a trial of the study
`NAME/probe` in the sweep's folder, so no run is repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState

from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import Ledger, claim_folder, open_ledger, storage_errors
from autotune.prepare.bound_base import model_shape, read_base
from autotune.prepare.fingerprint import check_code, load_unchanged
from autotune.results.confirmation import confirmed_front, report_seed
from autotune.results.probe_runs import ProbeRun, run_of
from autotune.results.selection import marked_trials, pick_trial
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from autotune.trial_attributes import stored
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.amounts import TRAIN_SAMPLES, examples_of
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration
from search_spaces.transfer import transfer_configuration
from surrogates.laws import FEWEST_POINTS
from trials.data.task_data import TaskData
from trials.execution.executors import make_executor
from trials.execution.interface import Executor
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.tasks.model_spec import CHOSEN
from trials.training.run import count_tokens, sequence_length
from trials.training.subsets import subset

SHARES = tuple(2.0 ** (-k / 2) for k in range(6, -1, -1))
"""Seven shares from 1/8 to 1, each √2 times the last; predictions are tested on the same points."""
RATES = (0.5, 1.0, 2.0, 4.0)
BATCH_SIZE = "batch_size"


def plan_probe(
    results: SweepTables,
    points: Sequence[str] = (),
    shares: Sequence[float] = SHARES,
    rates: Sequence[float] = RATES,
    batches: Sequence[float] = (1.0,),
    models: Sequence[str] = (),
    seeds: int = 1,
) -> list[ProbeRun]:
    """Return the runs of a probe, the cheapest first.

    Learning rates and batch sizes are varied at every second share, counted from the largest.

    Args:
        results: a sweep with a Pareto front.
        points: `best`, `knee`, `smallest`, or numbers of trials. By default all confirmed points of the front;
            learning rate and batch size are then varied only for the best, the knee and the smallest.
        shares: shares of the examples that the search trained on; at least five different ones.
        rates: multiples of the learning rate; 1 is always included.
        batches: multiples of the batch size; 1 is always included.
        models: names of additional base models.
        seeds: runs of each kind, with different seeds.

    Raises:
        InvalidInputError: a point does not exist, a share or multiple is not positive, or there are too few shares
            for a forecast.
    """
    problems = [
        Problem(where, f"{value!r} is not above 0", "Write a number above 0, such as 0.5.")
        for where, values in (("--shares", shares), ("--rates", rates), ("--batches", batches))
        for value in values
        if not (np.isfinite(value) and value > 0)
    ]
    if len(set(shares)) < FEWEST_POINTS:
        what = f"{len(set(shares))} different shares are too few for a forecast"
        problems.append(
            Problem("--shares", what, f"Give at least {FEWEST_POINTS}, such as 1/16,1/8,1/4,1/2,1.")
        )
    if problems:
        raise InvalidInputError(problems)
    marked = {pick_trial(results, point) for point in points} or marked_trials(results)
    trials = sorted(marked if points else marked | set(confirmed_front(results)))
    bases = list(dict.fromkeys([results.sweep.model.name, *models]))
    ordered = sorted(set(shares), reverse=True)
    runs = []
    for seed, model, (place, share), trial in itertools.product(
        range(seeds), bases, enumerate(ordered), trials
    ):
        varied = place % 2 == 0 and trial in marked
        factors = {(1.0, 1.0)} | (set(itertools.product(rates, batches)) if varied else set())
        number = report_seed(results.sweep.seed, seed)
        runs += [ProbeRun(trial, model, share, *pair, number) for pair in sorted(factors)]
    return sorted(runs, key=lambda run: (run.model != results.sweep.model.name, run.share, run.trial))


def missing_probes(folder: Path, sweep: Sweep, runs: Sequence[ProbeRun]) -> list[ProbeRun]:
    """Return the runs that the sweep's folder has no record of."""
    done = {run_of(trial) for trial in FolderReader(folder, sweep).trials("probe")}
    return [run for run in runs if run not in done]


def run_probe(
    results: SweepTables,
    runs: Sequence[ProbeRun],
    on_run: Callable[[ProbeRun, TrialResult], None] = lambda run, result: None,
) -> None:
    """Train the runs that have no record yet. After an interruption, the same call continues.

    Args:
        results: the sweep.
        runs: the runs of the probe.
        on_run: called after each run with its result. A run that was lost (its worker was killed) has no record, so
            the next call trains it.

    Raises:
        InvalidInputError: another process uses the folder, the data or the sweep's base model changed since the
            sweep began, or a base model cannot be used or does not support a configuration; then no run on that base
            model was trained.
        ExecutorError: trials cannot run on this machine.
    """
    sweep, folder = results.sweep, results.folder
    with claim_folder(folder, sweep), storage_errors(folder):
        load_unchanged(folder, sweep)
        check_code(folder, sweep)
        todo = missing_probes(folder, sweep, runs)
        ledger = open_ledger(folder, sweep, "probe")
        for model in dict.fromkeys(run.model for run in todo):
            prober = _Prober(results, model)
            executor = make_executor(**sweep.executor.model_dump(), device=sweep.model.device)
            try:
                executor.start(prober.sweep.model, sweep.task)
                for run, spec, result in prober.run([run for run in todo if run.model == model], executor):
                    if result.status != TrialStatus.LOST:
                        _record(ledger, run, spec, result, prober)
                    on_run(run, result)
            finally:
                executor.stop()


class _Prober:
    """The probe runs on one base model; on the sweep's own one, each point on the model that it chose."""

    def __init__(self, results: SweepTables, model: str) -> None:
        self.results, self._is_own = results, model == results.sweep.model.name
        self.sweep, self.data, self.shape = read_base(results.sweep, model)
        self._home = self.shape if self._is_own else model_shape(results.sweep, self.data)
        self._bases: dict[str | None, tuple[TaskData, ModelShape]] = {None: (self.data, self.shape)}
        whole = len(self.data.splits["train"])
        self._full = min(self.sweep.fidelity.train_samples or whole, whole)

    def run(
        self, runs: Sequence[ProbeRun], executor: Executor
    ) -> Iterator[tuple[ProbeRun, TrialSpec, TrialResult]]:
        """Train the runs, and yield each with its trial and its result, lost runs included."""
        specs = {run: self.spec(run) for run in runs}
        waiting, under_way = list(enumerate(runs)), 0
        while waiting or under_way:
            while waiting and under_way < executor.slots:
                ticket, run = waiting.pop(0)
                executor.submit(ticket, specs[run])
                under_way += 1
            ticket, result = executor.next_result()
            under_way -= 1
            yield runs[ticket], specs[runs[ticket]], result

    def spec(self, run: ProbeRun) -> TrialSpec:
        """Return the trial of a run."""
        fidelity = self.sweep.fidelity
        # Without patience, so that the tokens of a run are those of all its steps.
        cut = replace(
            fidelity,
            train_samples=self.examples(run),
            evaluations=fidelity.evaluations if fidelity.score == "best" else 1,
            patience=None,
        )
        config = self.config(run)
        if TRAIN_SAMPLES.name in config:
            config[TRAIN_SAMPLES.name] = self.examples(run)
        return TrialSpec(config, run.seed, cut, base=self._choice(run))

    def examples(self, run: ProbeRun) -> int:
        """Return the training examples of an epoch."""
        full = examples_of(self.results.config(run.trial), self._full)
        wanted, there = max(1, round(run.share * full)), len(self.data.splits["train"])
        if wanted > there:
            fix = f"The training split has {there} examples: give shares up to {there / full:.3g}."
            raise InvalidInputError(Problem("--shares", f"{run.share:g} needs {wanted} examples", fix))
        return wanted

    def config(self, run: ProbeRun) -> Configuration:
        """Return the configuration of a run, adapted to the base model."""
        config = self.results.config(run.trial)
        config.pop(CHOSEN, None)
        shape = self.base(self._choice(run))[1]
        if shape != self._home:
            config = transfer_configuration(config, self.sweep.space, self._home, shape)
        rate = learning_rate_name(config)
        config[rate] = float(config[rate]) * run.rate
        config[BATCH_SIZE] = max(1, round(int(config[BATCH_SIZE]) * run.batch))
        return config

    def base(self, choice: str | None) -> tuple[TaskData, ModelShape]:
        """Return the data and the shape of the base model that a point chose; None for that of the prober."""
        if choice not in self._bases:
            self._bases[choice] = read_base(self.results.sweep, choice)[1:]
        return self._bases[choice]

    def _choice(self, run: ProbeRun) -> str | None:
        """Return the base model that a point chose; None for a run on another one."""
        return self.results.sweep.model.choice_of(self.results.config(run.trial)) if self._is_own else None

    def tokens(self, spec: TrialSpec) -> int:
        """Return the tokens that a trial trains on, without padding, counting every epoch."""
        data = self.base(spec.base)[0]
        train = data.at_length(self.sweep.task, sequence_length(spec.config)).splits["train"]
        seen = subset(train, spec.fidelity.train_samples, seed=0)
        return round(float(spec.config["epochs"]) * count_tokens(seen))


def _record(ledger: Ledger, run: ProbeRun, spec: TrialSpec, result: TrialResult, prober: _Prober) -> None:
    config = spec.config
    complete = result.status == TrialStatus.COMPLETE
    found = stored(
        probe=asdict(run),
        examples=spec.fidelity.train_samples,
        tokens=prober.tokens(spec),
        params=prober.base(spec.base)[1].base_parameters,
        learning_rate=float(config[learning_rate_name(config)]),
        batch_size=int(config[BATCH_SIZE]),
        result=result,
    )
    state = TrialState.COMPLETE if complete else TrialState.FAIL
    loss = result.metrics["eval_loss"] if complete else None
    ledger.study.add_trial(optuna.trial.create_trial(state=state, value=loss, user_attrs=found))
    ledger.changed()
