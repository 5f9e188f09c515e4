"""The choice of what a sweep leaves open about speed, from at most three seconds of measurement."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from autotune.calibrate.bench import Bench
from autotune.calibrate.candidates import Candidate, by_rule, candidates, is_open
from autotune.calibrate.layout import Layout, Layouts, choose_layout, layouts
from autotune.calibrate.measurement import Choice, Measurement
from autotune.estimate.speed import computing_with, keep_speed, speed_of, step_flops
from autotune.estimate.sweep_time import SHORT, Sizes, is_isolated, slot_of, sweep_time, threads_of
from autotune.estimate.trial_work import (
    PESSIMISTIC,
    Speed,
    TrialWork,
    random_configurations,
    typical_configuration,
)
from autotune.sweep.executor_spec import ExecutorSpec
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
_PRECISION, _PROBE = 2.0, 0.2
"""The seconds of them for the choice of the precision, and for a first look at the speed where it is not open."""
_WORKERS_PAY = 30.0
"""The seconds of a sweep above which several processes, which take seconds to start, save time."""
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
        executor: the executor, likewise.
        notes: what was chosen and why, in sentences for the user.
    """

    model: ModelSpec
    executor: ExecutorSpec
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
    found, divided = candidates(sweep), layouts(sweep, costs.shape)
    if len(found) == 1 and not divided.are_several:
        why = "nothing else suits this device and the format of the weights"
        notes = (f"precision: {found[0]}, since {why}",) if is_open(sweep.model) else ()
        return Calibration(found[0].of(sweep.model), sweep.executor, notes)
    configs = random_configurations(space, sweep.seed)
    expected = _Expected(sweep, data, costs, configs)
    why_not = _why_not(sweep, costs, expected)
    if why_not is not None:
        return _by_rule(sweep, why_not)
    return _measured(sweep, data, costs, typical_configuration(configs, costs), found, divided, expected)


class _Expected:
    """The duration of a sweep at a speed that is only assumed."""

    def __init__(
        self, sweep: Sweep, data: TaskData, costs: CostModel, configs: Sequence[Configuration]
    ) -> None:
        counts = {name: len(split) for name, split in data.splits.items()}
        train = min(sweep.fidelity.train_samples or counts["train"], counts["train"])
        evaluated = min(sweep.fidelity.eval_samples or counts["validation"], counts["validation"])
        self._sizes = Sizes(train, evaluated, counts["test"])
        self._sweep, self._costs = sweep, costs
        self._works = [TrialWork.of(config, costs) for config in configs]

    def seconds(self, speed: Speed) -> float:
        """Return the seconds of search and confirmation."""
        shape, tokens = self._costs.shape, self._costs.workload.tokens
        slot = slot_of(self._sweep, speed, shape, tokens, self._sizes)
        return sweep_time(self._sweep, self._works, speed, slot, self._sizes).total.typical


def _why_not(sweep: Sweep, costs: CostModel, expected: _Expected) -> str | None:
    """Return why a sweep is not measured, or None."""
    from trials.base.model import choose_device

    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    if expected.seconds(PESSIMISTIC) <= SHORT:
        return "a sweep of less than a minute is not measured"
    is_cpu = choose_device(sweep.model.device).type == "cpu"
    if is_cpu and _FP32 * costs.shape.base_parameters > _LARGE:
        return "this base model is too large for a measurement of three seconds"
    return None


def _by_rule(sweep: Sweep, why: str) -> Calibration:
    candidate = by_rule(sweep.model)
    note = f"precision: {candidate}, by the instruction sets of this device, since {why}"
    notes = (note,) if is_open(sweep.model) else ()
    return Calibration(candidate.of(sweep.model), sweep.executor, notes)


def _measured(
    sweep: Sweep,
    data: TaskData,
    costs: CostModel,
    config: Configuration,
    found: Sequence[Candidate],
    divided: Layouts,
    expected: _Expected,
) -> Calibration:
    """Measure candidates and layouts, and then the speed with the chosen ones, on which the estimates depend."""
    is_small = costs.shape.base_parameters <= _SMALL
    threads = 1 if is_small else divided.divided[0].threads or threads_of(sweep, costs.shape)
    bench = Bench(sweep.model, sweep.task, data, config, is_isolated(sweep), threads)
    batch_size = int(config.get("batch_size", costs.workload.batch_size))
    deadline = bench.clock() + SECONDS
    try:
        choice = _choice(bench, found, divided, batch_size)
        rate = _rate(bench, choice)
        rough = Speed(1 / rate / step_flops(config, costs)(1), 0.0, 0.0)
        if expected.seconds(rough) <= _WORKERS_PAY:
            divided = divided.of_one_process
        layout = divided.divided[0]
        if divided.are_several:
            layout = choose_layout(
                bench, choice.candidate, divided, batch_size=batch_size, rate=rate, deadline=deadline
            )
        seconds = bench.clock() + SECONDS - deadline
        executor = layout.of(sweep.executor, is_open=sweep.is_executor_open and not bench.is_isolated)
        model = choice.candidate.of(sweep.model)
        chosen = sweep.model_copy(update={"model": model, "executor": executor})
        with computing_with(threads_of(chosen, costs.shape)):
            base = bench.base(choice.candidate)
            speed = speed_of(base, data, config, costs, is_isolated=bench.is_isolated)
    except InvalidInputError:
        raise
    except Exception as error:  # whatever stops this configuration: its trial will report it
        return _by_rule(sweep, f"the measurement failed ({first_line(error, 100)})")
    keep_speed(
        speed, model, sweep.task, is_isolated=bench.is_isolated, threads=threads_of(chosen, costs.shape)
    )
    return Calibration(
        model, executor, (_note(choice, found, layout, seconds, bench.is_serial, divided.note),)
    )


def _choice(bench: Bench, found: Sequence[Candidate], divided: Layouts, batch_size: int) -> Choice:
    if len(found) == 1:
        return Choice(found[0], {})
    with computing_with(bench.threads):
        trials = divided.divided[0].trials
        return Measurement(bench, found, trials=trials, batch_size=batch_size, seconds=_PRECISION).choose()


def _rate(bench: Bench, choice: Choice) -> float:
    """Return the training examples per second of the chosen candidate, roughly."""
    if choice.candidate in choice.rates:
        return choice.rates[choice.candidate]
    with computing_with(bench.threads):
        return 1 / bench.seconds_per_example(choice.candidate, bench.clock() + _PROBE)


def _note(
    choice: Choice,
    found: Sequence[Candidate],
    layout: Layout,
    seconds: float,
    is_serial: bool,
    why_one: str,
) -> str:
    """Return what was chosen and why, in a sentence for the user."""
    parts = [f"calibration ({seconds:.1f} s): {choice.candidate}, {layout}", why_one]
    if len(found) > 1:
        rates = ", ".join(
            f"{each} {choice.rates[each]:,.0f}" if each in choice.rates else f"{each} not measured"
            for each in found
        )
        unit = f"training examples per second{' of one core' if is_serial else ''}"
        parts += [f"{unit}: {rates}", *choice.reasons]
    return "; ".join(filter(None, parts))
