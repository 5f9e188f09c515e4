"""The speed of this machine on a sweep's own model and data, measured by a few training steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from autotune.estimate.training_steps import Step, begin_training, examples_near, trial_of
from autotune.estimate.trial_work import Speed
from search_spaces.costs.cost_model import CostModel
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration
from trials.data.task_data import TaskData, load_task
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from trials.base.model import Base

SECONDS = 2.0
"""The seconds that a measurement may take; a single step of one example may exceed them."""
_GROWTH = 4
"""The factor from one batch size to the next: one example shows the overhead of a step, a full batch the rate."""
_STEPS = 4
"""Steps of each batch size, whose mean counts: other processes that interrupt them will interrupt trials as well."""
_SLOWEST = 3
"""A step counts as at most so many times the fastest of its size. Beside other work a single step may take many
times as long, which says little about the mean of a trial's hundreds."""
_measured: dict[object, Speed | None] = {}


def measured_speed(
    model: ModelSpec,
    task: TaskSpec,
    config: Configuration,
    costs: CostModel,
    *,
    is_isolated: bool,
    threads: int | None = None,
) -> Speed | None:
    """Return the speed of training a configuration on this machine, measured once per process.

    Args:
        model: the base model.
        task: of the sweep.
        config: a typical configuration.
        costs: returns the known costs of a configuration.
        is_isolated: whether trials train by themselves, without states that earlier trials have left.
        threads: that trials compute with on the CPU; by default those of this process.

    Returns:
        The speed, or None if the configuration cannot be trained here, for want of memory, say.

    Raises:
        InvalidInputError: the base model cannot be loaded.
    """
    key = (model, task, is_isolated, threads)
    if key not in _measured:
        with computing_with(threads):
            _measured[key] = _measure(model, task, config, costs, is_isolated)
    return _measured[key]


def keep_speed(
    speed: Speed | None, model: ModelSpec, task: TaskSpec, *, is_isolated: bool, threads: int | None
) -> None:
    """Let `measured_speed` return a speed that was measured already; the arguments are as there."""
    _measured[model, task, is_isolated, threads] = speed


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Compute with a number of threads, and afterwards with as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(
    model: ModelSpec, task: TaskSpec, config: Configuration, costs: CostModel, is_isolated: bool
) -> Speed | None:
    from trials.base.model import load_base

    data = load_task(task, model)
    return speed_of(load_base(model, task, data), data, config, costs, is_isolated=is_isolated)


def speed_of(
    base: Base, data: TaskData, config: Configuration, costs: CostModel, *, is_isolated: bool
) -> Speed | None:
    """Return the speed of training a configuration on a loaded base model; see `measured_speed`."""
    from trials.packing.layer_gates import layer_interface

    mean = costs.at(config).workload.tokens

    def begin(size: int) -> Step:
        few = examples_near(data, mean, size)
        # One step to warm up, and one at the end, which would evaluate and is never reached.
        return begin_training(base, few, [trial_of(config, few, _STEPS + 2)], is_isolated=is_isolated)

    batch_size = int(config.get("batch_size", costs.workload.batch_size))
    try:
        speed = ramp(begin, batch_size, step_flops(config, costs))
        with base.computing():
            reuses = not is_isolated and layer_interface(base.model, base.shape).can_be_skipped
    except InvalidInputError:
        raise
    except Exception:  # whatever stops this configuration: its trial will report it, and others may train
        return None
    return replace(speed, reuses_frozen_layers=reuses)


def step_flops(config: Configuration, costs: CostModel) -> Callable[[int], float]:
    """Return a function from a batch size to the FLOPs of one optimizer step of examples of mean length."""

    def flops(size: int) -> float:
        # A second epoch has nothing but steps; the reference of preference pairs is computed once.
        one, two = (costs({**config, "epochs": epochs, "batch_size": size}) for epochs in (1, 2))
        return size * (two.train_flops - one.train_flops) / costs.workload.train_samples

    return flops


def ramp(
    begin: Callable[[int], Step],
    batch_size: int,
    flops: Callable[[int], float],
    clock: Callable[[], float] = time.perf_counter,
    seconds: float = SECONDS,
) -> Speed:
    """Measure steps of growing batch size, until the time is over or the full batch size is done.

    A batch size is skipped if a step of it would presumably exceed the time. The first step of all warms up; it
    counts only if it takes all the time.

    Args:
        begin: starts a training run with a batch size and returns what does one step of it.
        batch_size: the largest batch size.
        flops: returns the FLOPs of a step with a batch size.
        clock: returns a time in seconds.
        seconds: that the measurement may take.
    """
    sizes = [_GROWTH**k for k in range(16) if _GROWTH**k < batch_size] + [batch_size]
    deadline = clock() + seconds
    found: list[tuple[float, float]] = []
    builds: list[float] = []
    expected = warm_up = 0.0
    for size in sizes:
        if found and clock() + expected > deadline:
            break
        tick = clock()
        step = begin(size)
        builds.append(clock() - tick)
        if not found:
            expected = warm_up = _timed(step, clock)
        times: list[float] = []
        while len(times) < _STEPS and clock() + expected <= deadline:
            times.append(_timed(step, clock))
            expected = fmean(min(each, _SLOWEST * min(times)) for each in times)
        if not times:
            break
        found.append((flops(size), expected))
        expected *= _GROWTH
    per_flop, per_step = _fit(found or [(flops(sizes[0]), warm_up)])
    return Speed(per_flop, per_step, median(builds))


def _timed(step: Step, clock: Callable[[], float]) -> float:
    tick = clock()
    step()
    return clock() - tick


def _fit(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Fit seconds = per_flop * FLOPs + per_step with least relative errors and no negative term."""
    flops, seconds = (np.array(column) for column in zip(*found, strict=True))
    weights = 1 / np.maximum(seconds, 1e-9)
    if len(found) > 1:
        columns = np.stack([flops, np.ones_like(flops)], axis=1) * weights[:, None]
        slope, constant = np.linalg.lstsq(columns / [flops.max(), 1.0], seconds * weights, rcond=None)[0]
        if slope > 0 and constant >= 0:
            return float(slope / flops.max()), float(constant)
    # One batch size, or rates that rise with it: the largest batch is the most like a trial's.
    return float(seconds[-1] / flops[-1]), 0.0
