"""What a sweep will do, before anything is trained: its data, its space, its costs and its duration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotune.engine.start import SweepStart, prepare_start
from autotune.estimate.speed import measured_speed
from autotune.estimate.sweep_time import (
    SHORT,
    Range,
    Sizes,
    SweepTime,
    is_isolated,
    slot_of,
    slots_of,
    sweep_time,
    threads_of,
)
from autotune.estimate.trial_work import (
    PESSIMISTIC,
    Speed,
    TrialWork,
    random_configurations,
    typical_configuration,
)
from autotune.formatting.units import duration
from autotune.ledger.folder_reader import FolderReader
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping
from autotune.trial_attributes import SPENT, trial_result
from search_spaces.costs.model_costs import home_costs
from search_spaces.parameters.amounts import TRAIN_SAMPLES, smallest_and_largest
from search_spaces.parameters.types import Configuration
from search_spaces.truncation import is_share_of_layers

_TRIAL_QUANTILES = (0.1, 0.9)


@dataclass(frozen=True)
class Adapter:
    """A configuration and the size of its adapter.

    Args:
        config: the active parameters.
        trainable_params: of the adapter, without the head.
        share: of the base model's parameters.
    """

    config: Configuration
    trainable_params: int
    share: float


@dataclass(frozen=True)
class Memory:
    """The predicted peak memory of a trial, in bytes.

    Args:
        base: of the base models, which all trials of a process share; a truncated one shares the whole one's memory.
        trial: of the largest of the random configurations, without the base model.
        free: what can be allocated on this machine; None if that is unknown.
    """

    base: float
    trial: float
    free: int | None


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep will do.

    Args:
        start: the sweep, as `autotune run` prepares it.
        finished: the number of trials that the folder holds already.
        examples: the examples by split.
        sizes: the examples of a trial.
        families: of the space.
        parameters: the number of parameters of the space, those of all families together.
        smallest: the adapter with the fewest parameters of the random configurations and the families' defaults.
        largest: the one with the most.
        train_flops: the training FLOPs of a trial.
        flops_span: the largest training FLOPs of the random configurations, divided by the smallest.
        time: the predicted duration.
        memory: the predicted peak memory.
    """

    start: SweepStart
    finished: int
    examples: dict[str, int]
    sizes: Sizes
    families: tuple[str, ...]
    parameters: int
    smallest: Adapter
    largest: Adapter
    train_flops: Range
    flops_span: float
    time: SweepTime
    memory: Memory

    @property
    def sweep(self) -> Sweep:
        """The resolved sweep."""
        return self.start.prepared.sweep

    @property
    def train_samples(self) -> tuple[int, int]:
        """The smallest and the largest number of training examples of a trial, per epoch."""
        space = self.start.prepared.space
        if TRAIN_SAMPLES.name not in space:
            return self.sizes.train, self.sizes.train
        return smallest_and_largest(space[TRAIN_SAMPLES.name])

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings and notes about the data, the space and the ladder, in sentences for the user."""
        return self.start.notes

    def as_mapping(self) -> dict[str, Any]:
        """Return the plan as values that JSON can represent: seconds, bytes and FLOPs as numbers."""
        least, most = self.train_samples
        trial = {"train_samples": most, "eval_samples": self.sizes.evaluated}
        return {
            "sweep": as_mapping(self.sweep),
            "notes": list(self.notes),
            "finished": self.finished,
            "tried_first": [
                {"origin": str(first.origin), "config": first.config} for first in self.start.search.first
            ],
            "examples": self.examples,
            "trial": trial if least == most else {**trial, "least_train_samples": least},
            "families": list(self.families),
            "parameters": self.parameters,
            "smallest": asdict(self.smallest),
            "largest": asdict(self.largest),
            "train_flops": {**asdict(self.train_flops), "span": self.flops_span},
            "time": {**asdict(self.time), "total": asdict(self.time.total)},
            "memory": asdict(self.memory),
        }


def plan_sweep(sweep: Sweep, folder: Path) -> SweepPlan:
    """Prepare a sweep exactly as a run does, measure the speed of the machine, and predict what will happen.

    Nothing is written.

    Args:
        sweep: the sweep.
        folder: that it would run in.

    Raises:
        InvalidInputError: the sweep cannot be run.
    """
    start = prepare_start(sweep, folder)
    prepared = start.prepared
    configs = _configurations(prepared)
    costs = [prepared.costs(config) for config in configs]
    order = np.argsort([cost.trainable_params for cost in costs], kind="stable")
    flops = np.array([cost.train_flops for cost in costs])
    low, high = np.quantile(flops, _TRIAL_QUANTILES)
    speed = _measured(prepared, configs) or PESSIMISTIC
    return SweepPlan(
        start=start,
        finished=_finished(folder, prepared.sweep),
        examples={name: len(split) for name, split in prepared.data.splits.items()},
        sizes=_sizes(prepared),
        families=tuple(dict.fromkeys(str(config["family"]) for config in prepared.space.defaults())),
        parameters=len(prepared.space.parameters),
        smallest=_adapter(prepared, configs[order[0]]),
        largest=_adapter(prepared, configs[order[-1]]),
        train_flops=Range(float(np.median(flops)), float(low), float(high)),
        flops_span=float(flops.max() / flops.min()),
        time=_time(prepared, configs, speed),
        memory=_memory(prepared, configs),
    )


def predict_time(
    prepared: PreparedSweep,
    measure: Callable[[PreparedSweep, list[Configuration]], Speed | None] | None = None,
) -> SweepTime:
    """Predict the duration of a sweep; the speed is measured unless the sweep is short in any case.

    Args:
        prepared: the sweep.
        measure: measures the speed.
    """
    configs = _configurations(prepared)
    longest = _time(prepared, configs, PESSIMISTIC)
    if longest.total.typical <= SHORT:
        return longest
    speed = (measure or _measured)(prepared, configs)
    return longest if speed is None else _time(prepared, configs, speed)


def time_note(time: SweepTime) -> str:
    """Return the predicted duration in a sentence for the user."""
    if not time.speed.is_measured:
        is_short = time.total.typical <= SHORT
        return "estimate: less than a minute" if is_short else "estimate: none, the speed is unknown"
    trials = f"{time.trials} trial{'' if time.trials == 1 else 's'}"
    confirmation = (
        f", then {duration(time.confirmation.typical)} for the confirmation"
        if time.confirmation.typical
        else ""
    )
    return (
        f"estimate: {duration(time.trial.typical)} per trial ({_between(time.trial)}), "
        f"{duration(time.search.typical)} for {trials}{confirmation}"
    )


def _between(seconds: Range) -> str:
    return f"{duration(seconds.low)} to {duration(seconds.high)}"


def _configurations(prepared: PreparedSweep) -> list[Configuration]:
    """Return random configurations that keep the limits, and the defaults of the families that do."""
    drawn = [*prepared.space.defaults(), *random_configurations(prepared.space, prepared.sweep.seed)]
    kept = [config for config in drawn if prepared.broken_limits(config) is None]
    return kept or [prepared.random_configuration(prepared.sweep.seed)]


def _finished(folder: Path, sweep: Sweep) -> int:
    results = (trial_result(trial) for trial in FolderReader(folder, sweep).trials())
    return sum(result is not None and result.status in SPENT for result in results)


def _sizes(prepared: PreparedSweep) -> Sizes:
    fidelity = prepared.sweep.fidelity
    counts = {name: len(split) for name, split in prepared.data.splits.items()}
    return Sizes(
        min(fidelity.train_samples or counts["train"], counts["train"]),
        min(fidelity.eval_samples or counts["validation"], counts["validation"]),
        counts["test"],
        whole=(counts["train"], counts["validation"]),
    )


def _time(prepared: PreparedSweep, configs: list[Configuration], speed: Speed) -> SweepTime:
    works, sizes = [TrialWork.of(config, prepared.costs) for config in configs], _sizes(prepared)
    slot = slot_of(prepared.sweep, speed, prepared.shape, prepared.costs.workload.tokens, sizes)
    small = prepared.small_space if prepared.ends_when_tried else None
    count = None if small is None else len(small)
    return sweep_time(prepared.sweep, works, speed, slot, sizes, count)


def _measured(prepared: PreparedSweep, configs: list[Configuration]) -> Speed | None:
    sweep, config = prepared.sweep, typical_configuration(configs, prepared.costs)
    return measured_speed(
        sweep.model,
        sweep.task,
        config,
        home_costs(prepared.costs),
        is_isolated=is_isolated(sweep),
        threads=threads_of(sweep, prepared.shape),
    )


def _adapter(prepared: PreparedSweep, config: Configuration) -> Adapter:
    count = prepared.costs(config).trainable_params
    return Adapter(config, count, count / prepared.shape.base_parameters)


def _memory(prepared: PreparedSweep, configs: list[Configuration]) -> Memory:
    """Predict the memory of trials; the chunk is the largest that suits the device, or one longest example."""
    from trials.base.model import choose_device
    from trials.packing.memory import free_memory
    from trials.packing.memory_model import Computation, MemoryModel
    from trials.training.length_batching import suited_tokens

    computation = Computation(checkpointing=prepared.sweep.model.gradient_checkpointing)
    device = choose_device(prepared.sweep.model.device)
    model = MemoryModel(prepared.shape, computation)
    length, longest = (int(of("train").max()) for of in (prepared.data.lengths, prepared.data.tokens))
    most, largest = prepared.sweep.executor.chunk_tokens or suited_tokens(device), 0.0
    for config in configs:
        tokens = min(max(most, longest), int(config.get("batch_size", 1)) * longest)
        largest = max(largest, model.step([config], tokens, length))
    slots = slots_of(prepared.sweep)
    spec = prepared.sweep.model
    others = {**prepared.bases.bases, **prepared.choices.smaller.bases}
    shapes = [prepared.shape, *(base.shape for name, base in others.items() if not is_share_of_layers(name))]
    base = sum(
        MemoryModel(shape, computation).base_bytes(spec.weights, spec.precision, device.type)
        for shape in shapes
    )
    return Memory(base, largest * slots, free_memory(device))
