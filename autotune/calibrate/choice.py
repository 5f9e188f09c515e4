"""The choice of what a sweep leaves open about speed, from at most three seconds of measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from autotune.calibrate.bench import Bench
from autotune.calibrate.candidates import Candidate, by_rule, candidates, is_open
from autotune.calibrate.measurement import Choice, Measurement
from autotune.estimate.speed import computing_with, keep_speed, speed_of
from autotune.estimate.sweep_time import Sizes, is_isolated, is_short, processes_of, slots_of, threads_of
from autotune.estimate.trial_work import TrialWork, random_configurations, typical_configuration
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.errors import InvalidInputError, first_line
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace
from trials.data.task_data import TaskData
from trials.tasks.specs import ModelSpec

VARIABLE = "AUTOTUNE_CALIBRATION"
"""The environment variable that switches calibrations off with the value 0."""
SECONDS = 3.0
"""The seconds that a calibration may take, without the loading of the base model."""
_LARGE = 2**30
"""The bytes of a base model in fp32 that a CPU cannot train on in three seconds."""
_SMALL = 100_000_000
"""A base model of at most so many parameters is measured with one thread. The ratios of the candidates are then those
of their work, whatever else the machine does; several threads wait for each other where others are at work."""
_FP32 = 4


@dataclass(frozen=True)
class Calibration:
    """What was chosen.

    Args:
        model: the base model, with nothing left open.
        notes: what was chosen and why, in sentences for the user.
    """

    model: ModelSpec
    notes: tuple[str, ...] = ()


def calibrate(sweep: Sweep, data: TaskData, space: SearchSpace, costs: CostModel) -> Calibration:
    """Choose what the sweep leaves open about speed; what its author has set is kept.

    Args:
        sweep: the sweep.
        data: of its task.
        space: bound to the base model.
        costs: returns the known costs of a configuration.

    Raises:
        InvalidInputError: the base model cannot be loaded.
    """
    if not is_open(sweep.model):
        return Calibration(sweep.model)
    found = candidates(sweep)
    if len(found) == 1:
        why = "nothing else suits this device and the format of the weights"
        return Calibration(found[0].of(sweep.model), (f"precision: {found[0]}, since {why}",))
    configs = random_configurations(space, sweep.seed)
    why_not = _why_not(sweep, data, costs, configs)
    if why_not is not None:
        return _by_rule(sweep.model, why_not)
    return _measured(sweep, data, costs, typical_configuration(configs, costs), found)


def _why_not(sweep: Sweep, data: TaskData, costs: CostModel, configs: Sequence[Configuration]) -> str | None:
    """Return why a sweep is not measured, or None."""
    from trials.base.model import choose_device

    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    counts = {name: len(split) for name, split in data.splits.items()}
    train = min(sweep.fidelity.train_samples or counts["train"], counts["train"])
    evaluated = min(sweep.fidelity.eval_samples or counts["validation"], counts["validation"])
    works = [TrialWork.of(config, costs) for config in configs]
    if is_short(sweep, works, costs.shape, costs.workload.tokens, Sizes(train, evaluated, counts["test"])):
        return "a sweep of less than a minute is not measured"
    is_cpu = choose_device(sweep.model.device).type == "cpu"
    if is_cpu and _FP32 * costs.shape.base_parameters > _LARGE:
        return "this base model is too large for a measurement of three seconds"
    return None


def _by_rule(model: ModelSpec, why: str) -> Calibration:
    candidate = by_rule(model)
    note = f"precision: {candidate}, by the instruction sets of this device, since {why}"
    return Calibration(candidate.of(model), (note,))


def _measured(
    sweep: Sweep, data: TaskData, costs: CostModel, config: Configuration, found: Sequence[Candidate]
) -> Calibration:
    """Measure the candidates, and then the speed with the chosen one, on which the estimates depend."""
    threads = threads_of(sweep, costs.shape)
    is_small = costs.shape.base_parameters <= _SMALL
    bench = Bench(sweep.model, sweep.task, data, config, is_isolated(sweep), 1 if is_small else threads)
    trials = max(1, slots_of(sweep) // (processes_of(sweep) or 1))
    batch_size = int(config.get("batch_size", costs.workload.batch_size))
    began = bench.clock()
    try:
        with computing_with(bench.threads):
            choice = Measurement(bench, found, trials=trials, batch_size=batch_size, seconds=SECONDS).choose()
        seconds = bench.clock() - began
        with computing_with(threads):
            base = bench.base(choice.candidate)
            speed = speed_of(base, data, config, costs, is_isolated=bench.is_isolated)
    except InvalidInputError:
        raise
    except Exception as error:  # whatever stops this configuration: its trial will report it
        return _by_rule(sweep.model, f"the measurement failed ({first_line(error, 100)})")
    model = choice.candidate.of(sweep.model)
    keep_speed(speed, model, sweep.task, is_isolated=bench.is_isolated, threads=threads)
    return Calibration(model, (_note(choice, found, seconds, bench.is_serial),))


def _note(choice: Choice, found: Sequence[Candidate], seconds: float, is_serial: bool) -> str:
    """Return what was chosen and why, in a sentence for the user."""
    rates = ", ".join(
        f"{each} {choice.rates[each]:,.0f}" if each in choice.rates else f"{each} not measured"
        for each in found
    )
    because = "".join(f"; {reason}" for reason in choice.reasons)
    unit = f"training examples per second{' of one core' if is_serial else ''}"
    return f"calibration ({seconds:.1f} s): {choice.candidate}; {unit}: {rates}{because}"
