"""The measurement of the speed, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import autotune.estimate.speed as speed_module
from autotune.estimate.speed import SECONDS, measured_speed, ramp
from autotune.estimate.training_steps import Step
from trials.tasks.specs import ModelSpec, TaskSpec


class Machine:
    """A machine on which a step takes a constant and a time per example; its clock moves with its steps."""

    def __init__(self, per_step: float, per_example: float, build: float = 0.0, warm_up: float = 0.0) -> None:
        self._per_step, self._per_example, self._build = per_step, per_example, build
        self._warm_up, self.now, self.steps = warm_up, 0.0, list[int]()
        self.hang: dict[int, float] = {}

    def clock(self) -> float:
        return self.now

    def begin(self, size: int) -> Step:
        self.now += self._build

        def step() -> None:
            self.now += self._per_step + self._per_example * size + (0 if self.steps else self._warm_up)
            self.now += self.hang.get(len(self.steps), 0.0)
            self.steps.append(size)

        return step


def flops(size: int) -> float:
    return 1e9 * size


def measure(machine: Machine, batch_size: int = 32) -> tuple[float, float]:
    speed = ramp(machine.begin, batch_size, flops, machine.clock)
    return speed.seconds_per_flop * 1e9, speed.seconds_per_step


@pytest.mark.parametrize(("per_step", "per_example"), [(0.002, 0.001), (0.05, 1e-6), (0.0, 0.004)])
def test_overhead_and_rate_are_told_apart(per_step: float, per_example: float) -> None:
    machine = Machine(per_step, per_example, warm_up=0.3)
    assert measure(machine) == pytest.approx((per_example, per_step), rel=1e-6, abs=1e-9)
    assert machine.steps == [1, *[1] * 4, *[4] * 4, *[16] * 4, *[32] * 4]


@pytest.mark.parametrize("per_example", [0.02, 0.1, 0.4])
def test_a_measurement_ends_in_time(per_example: float) -> None:
    machine = Machine(0.01, per_example)
    found, _ = measure(machine)
    assert machine.now <= SECONDS
    assert found == pytest.approx(per_example, rel=0.05)


def test_a_step_that_takes_all_the_time_is_the_measurement() -> None:
    machine = Machine(0.0, 7.0)
    assert measure(machine) == pytest.approx((7.0, 0.0))
    assert machine.steps == [1]


def test_the_start_of_a_trial_is_not_part_of_its_steps() -> None:
    machine = Machine(0.002, 0.001, build=0.04)
    speed = ramp(machine.begin, 8, flops, machine.clock)
    assert speed.seconds_per_trial == pytest.approx(0.04)
    assert speed.seconds_per_step == pytest.approx(0.002)


def test_a_busy_machine_is_measured_as_it_is() -> None:
    machine = Machine(0.002, 0.001)
    begin: Callable[[int], Step] = machine.begin

    def interrupted(size: int) -> Step:
        step = begin(size)

        def one() -> None:
            before = machine.now
            step()
            if len(machine.steps) % 2:  # another process runs as long as two of these steps
                machine.now += 2 * (machine.now - before)

        return one

    speed = ramp(interrupted, 32, flops, machine.clock)
    assert speed.seconds_per_flop * 1e9 == pytest.approx(0.002)
    assert speed.seconds_per_step == pytest.approx(0.004)


def test_a_rate_that_rises_with_the_batch_gives_no_negative_overhead() -> None:
    machine = Machine(0.0, 0.0)

    def begin(size: int) -> Step:
        def step() -> None:
            machine.now += 0.0001 * size**1.5

        return step

    speed = ramp(begin, 32, flops, machine.clock)
    assert speed.seconds_per_step == 0
    assert speed.seconds_per_flop * 32e9 == pytest.approx(0.0001 * 32**1.5)


def test_a_measurement_computes_with_the_threads_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(speed_module, "_measure", lambda *_: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    model, task = ModelSpec(name="none"), TaskSpec(text="text", label="label")
    measured_speed(model, task, {}, None, is_isolated=False, threads=before + 1)  # type: ignore[arg-type]
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_one_step_that_hangs_is_not_the_speed() -> None:
    machine = Machine(per_step=0.001, per_example=0.001)
    machine.hang = {2: 1.0}
    hung, calm = (
        measure(machine, batch_size=1),
        measure(Machine(per_step=0.001, per_example=0.001), batch_size=1),
    )
    assert calm[0] < hung[0] < 2 * calm[0]
