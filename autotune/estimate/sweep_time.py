"""The duration of a sweep, from the closed-form work of its trials and the speed of the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.estimate.trial_work import Slot, Speed, TrialWork
from autotune.ladder.ladder_scheduler import make_scheduler
from autotune.objectives import MEASURED_COSTS
from autotune.sweep.schema import Sweep
from search_spaces.model.shape import ModelShape
from trials.execution.compute import Compute
from trials.execution.executors import make_executor
from trials.records import Fidelity

_STATES_BYTES = 2**30
"""The memory for the states of frozen layers, as `trials.packing.prefix_cache` bounds it."""
_BYTES_PER_NUMBER = 4
_SAMPLER_SECONDS = 0.15
"""The seconds of a proposal in a search of 100 to 300 trials (docs/results/sampler.md)."""
_TRIAL_QUANTILES = (0.1, 0.9)
"""The quantiles of the trials' durations that make the range of one trial."""
_UNCERTAINTY = 1.7
"""The factor by which a search may be faster or slower than predicted: it tries cheaper or more expensive
configurations than random ones, and the load of the machine changes (docs/results/estimate.md)."""
SHORT = 60.0
"""A sweep that takes fewer seconds even on a slow core starts without a measurement."""
USUAL_TRIALS = 40
"""The trials that a search is planned for whose budget names no number."""
_FRONT_SHARE = 0.4
"""The share of the trials that is on the front, about, when a search of up to 30 trials ends."""


@dataclass(frozen=True)
class Range:
    """A typical value with the range in which it lies in most cases."""

    typical: float
    low: float
    high: float

    def at_most(self, limit: float) -> Range:
        """Return the range without the part above a limit."""
        return Range(min(self.typical, limit), min(self.low, limit), min(self.high, limit))


@dataclass(frozen=True)
class Sizes:
    """Numbers of examples.

    Args:
        train: that a trial trains on per epoch.
        evaluated: that one evaluation scores.
        test: of the test split.
        whole: of the whole training and validation splits, for a confirmation on all data; None if it is unknown.
    """

    train: int
    evaluated: int
    test: int
    whole: tuple[int, int] | None = None

    def of(self, fidelity: Fidelity) -> Sizes:
        """Return the sizes of a run with all data where its fidelity says so."""
        if self.whole is None or fidelity.train_samples is not None:
            return self
        return Sizes(*self.whole, self.test, self.whole)


@dataclass(frozen=True)
class SweepTime:
    """The predicted duration of a sweep, in seconds.

    Args:
        trial: of one full trial in its slot.
        trials: the number of trials until the search ends.
        ended_by: the part of the budget that ends the search: `trials`, `hours` or `flops`; or `space`, if each
            configuration has then been trained.
        search: of the search, with all slots at work.
        confirmation: of the confirmation runs after it; runs that stop early take less.
        speed: that it is based on.
    """

    trial: Range
    trials: int
    ended_by: str
    search: Range
    confirmation: Range
    speed: Speed

    @property
    def total(self) -> Range:
        """Search and confirmation together."""
        one, two = self.search, self.confirmation
        return Range(one.typical + two.typical, one.low + two.low, one.high + two.high)


def expected_share(sweep: Sweep) -> float:
    """Return the training that a trial gets on average, as a share of a full training: 1 without a ladder."""
    if sweep.ladder is not None and sweep.ladder.bases and sweep.ladder.costs is None:
        return 1.0  # its rungs are known once the bases are read
    return make_scheduler(sweep.objectives, sweep.ladder, sweep.seed, ()).expected_share


def slots_of(sweep: Sweep) -> int:
    """Return the number of trials that run at the same time."""
    spec = sweep.executor
    if spec.workers is not None:
        return spec.workers
    return make_executor(**spec.model_dump(), device=sweep.model.device).slots


def is_isolated(sweep: Sweep) -> bool:
    """Return whether every trial runs by itself, since an objective is measured on it."""
    return any(objective.name in MEASURED_COSTS for objective in sweep.objectives)


def threads_of(sweep: Sweep, shape: ModelShape) -> int:
    """Return the threads that a trial computes with on the CPU, as its executor sets them.

    A measurement with more threads would not be that of its trials.

    Args:
        sweep: with its executor.
        shape: of the base model.
    """
    spec = sweep.executor
    compute = Compute(spec.threads, spec.chunk_tokens, processes_of(sweep) or 1)
    return compute.threads_for(shape.width, sweep.model.device)


def processes_of(sweep: Sweep) -> int | None:
    """Return the number of worker processes; None if trials run in this process."""
    slots, name = slots_of(sweep), sweep.executor.name
    if name == "local" or (name == "packed" and not sweep.executor.processes):
        return None
    return min(sweep.executor.processes or slots, slots)


def slot_of(sweep: Sweep, speed: Speed, shape: ModelShape, tokens: float, sizes: Sizes) -> Slot:
    """Return the conditions of a trial beside the others of the sweep.

    Trials at the same time divide the arithmetic of the machine, or of its GPUs; their overheads overlap. The
    states of frozen layers are reused as far as their memory reaches.

    Args:
        sweep: with its executor.
        speed: of the machine.
        shape: of the base model.
        tokens: the mean number of tokens of an example.
        sizes: of the splits in a trial.
    """
    states = shape.depth * shape.width * tokens * _BYTES_PER_NUMBER * (sizes.train + sizes.evaluated)
    reuse = min(1.0, _STATES_BYTES / max(states, 1.0)) if speed.reuses_frozen_layers else 0.0
    return Slot(_sharing(sweep), 0.0 if is_isolated(sweep) else reuse)


def _sharing(sweep: Sweep) -> float:
    """Return how many times slower the arithmetic of a trial is than as measured, since it is shared."""
    import torch

    from trials.base.model import choose_device

    slots, processes = slots_of(sweep), processes_of(sweep)
    if processes is None:
        return float(slots)
    device = choose_device(sweep.model.device)
    if device.type == "cpu":  # measured with the threads of one worker process
        return slots / processes
    devices = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
    return max(1.0, slots / max(1, devices))


def trial_seconds(
    sweep: Sweep, work: TrialWork, speed: Speed, slot: Slot, sizes: Sizes, fidelity: Fidelity | None = None
) -> float:
    """Return the seconds of one full trial in its slot, at the sweep's fidelity unless another is given."""
    fidelity, section = fidelity or sweep.fidelity, sweep.task.generation
    scored = fidelity.evaluations * work.eval_seconds(speed, slot, sizes.evaluated)
    times = fidelity.evaluations if fidelity.selects_evaluations else 1
    scored += times * work.generation_seconds(speed, slot, sizes.evaluated, section)
    return speed.seconds_per_trial + work.train_seconds(speed, slot, sizes.train) + scored


def sweep_time(
    sweep: Sweep,
    works: Sequence[TrialWork],
    speed: Speed,
    slot: Slot,
    sizes: Sizes,
    configurations: int | None = None,
) -> SweepTime:
    """Predict the duration of a sweep from random configurations.

    Args:
        sweep: with its fidelity, budget, ladder and confirmation.
        works: of random configurations.
        speed: of the machine.
        slot: the conditions of a trial.
        sizes: of the splits in a trial.
        configurations: after which the search ends, because the space has no others; None for no such end.
    """
    seconds = np.array([trial_seconds(sweep, work, speed, slot, sizes) for work in works])
    low, high = np.quantile(seconds, _TRIAL_QUANTILES)
    mean = float(seconds.mean())
    slots, share = slots_of(sweep), expected_share(sweep)
    per_trial = mean * share / slots + _SAMPLER_SECONDS
    flops = share * float(np.mean([work.train_flops for work in works])) * sizes.train
    counts = dict(trials_by_limit(sweep, per_trial, flops))
    if configurations is not None:
        counts["space"] = configurations
    ended_by = min(counts, key=counts.__getitem__)
    # The last trial begins while time is left, and exceeds the limit.
    count = math.floor(counts[ended_by]) + 1 if ended_by == "hours" else max(1, round(counts[ended_by]))
    limit = math.inf if sweep.budget.seconds is None else sweep.budget.seconds + mean
    runs = confirmation_runs(sweep, count)
    confirmed = sweep.confirm.fidelity(sweep.fidelity)
    run = sizes.of(confirmed)
    per_run = [
        trial_seconds(sweep, work, speed, slot, run, confirmed)
        + work.eval_seconds(speed, slot, sizes.test)
        + work.generation_seconds(speed, slot, sizes.test, sweep.task.generation)
        for work in works
    ]
    return SweepTime(
        trial=Range(mean, min(float(low), mean), max(float(high), mean)),
        trials=count,
        ended_by=ended_by,
        search=_uncertain(count * per_trial).at_most(limit),  # the trials that run at its end finish
        confirmation=_uncertain(runs * float(np.mean(per_run)) / slots),
        speed=speed,
    )


def trials_by_limit(sweep: Sweep, seconds: float, flops: float) -> Mapping[str, float]:
    """Return the number of trials that each limit of the budget allows.

    Args:
        sweep: with its budget.
        seconds: of the search per trial.
        flops: training FLOPs per trial.
    """
    budget = sweep.budget
    found = {
        "trials": budget.trials,
        "hours": None if budget.seconds is None else budget.seconds / max(seconds, 1e-9),
        "flops": None if budget.flops is None else budget.flops / max(flops, 1.0),
    }
    return {name: float(count) for name, count in found.items() if count is not None}


def confirmation_runs(sweep: Sweep, trials: int) -> int:
    """Return the number of training runs of the confirmation, about: the size of the front is not known before."""
    points = min(sweep.confirm.points, math.ceil(_FRONT_SHARE * trials))
    return sweep.confirm.seeds * points


def _uncertain(seconds: float) -> Range:
    return Range(seconds, seconds / _UNCERTAINTY, seconds * _UNCERTAINTY)
