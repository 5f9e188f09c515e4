"""The race of candidates, on a machine whose clock the test moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autotune.calibrate.race import Race, ranking
from autotune.estimate.training_steps import Step


class Machine:
    """A machine on which a step of a candidate takes a known time; its clock moves with its steps."""

    def __init__(self, **seconds: float) -> None:
        self.seconds, self.now, self.order = seconds, 0.0, list[str]()
        self.hang: dict[int, float] = {}
        self.failing: set[str] = set()

    def clock(self) -> float:
        return self.now

    def start(self, name: str) -> Callable[[], Step]:
        def step() -> None:
            if name in self.failing and name in self.order:
                raise RuntimeError("out of memory")
            self.now += self.seconds[name] + self.hang.get(len(self.order), 0.0)
            self.order.append(name)

        return lambda: step

    def race(self, deadline: float = 100.0, rounds: int = 3) -> dict[str, float]:
        return Race(deadline, self.clock, self.clock, rounds).run(
            {name: self.start(name) for name in self.seconds}
        )


def test_the_steps_take_turns_after_each_has_warmed_up() -> None:
    machine = Machine(a=1.0, b=1.1)
    assert machine.race() == pytest.approx({"a": 1.0, "b": 1.1})
    assert machine.order == ["a", "b"] * 4


def test_a_slow_candidate_is_dropped_after_a_step() -> None:
    machine = Machine(slow=4.0, a=1.0, b=1.2)
    assert machine.race() == pytest.approx({"slow": 4.0, "a": 1.0, "b": 1.2})
    assert machine.order.count("slow") == 2
    assert machine.order.count("a") == machine.order.count("b") == 4


def test_a_step_that_hangs_does_not_count() -> None:
    machine = Machine(a=1.0, b=1.2)
    machine.hang = {4: 5.0}
    assert machine.race() == pytest.approx({"a": 1.0, "b": 1.2})


def test_a_race_ends_in_time() -> None:
    machine = Machine(a=1.0, b=1.1, c=1.2)
    assert machine.race(deadline=7.0) == pytest.approx({"a": 1.0, "b": 1.1, "c": 1.2})
    assert machine.now <= 7.0


def test_a_candidate_for_which_no_time_is_left_has_no_seconds() -> None:
    assert Machine(a=1.0, b=1.0).race(deadline=3.5) == pytest.approx({"a": 1.0})
    assert Machine(a=7.0, b=7.0).race(deadline=3.0) == {}


def test_a_candidate_that_fails_is_left_out() -> None:
    machine = Machine(a=1.0, b=0.5)
    machine.failing = {"b"}
    assert machine.race() == pytest.approx({"a": 1.0})


@pytest.mark.parametrize(
    ("seconds", "order"),
    [
        ({"fp32": 1.0, "bf16": 0.97, "int8": 0.96}, ["fp32"]),
        ({"fp32": 1.0, "bf16": 0.97, "int8": 0.9}, ["int8", "fp32"]),
        ({"fp32": 1.0, "bf16": 0.5, "int8": 0.49}, ["bf16", "int8", "fp32"]),
        ({"fp32": 1.0, "bf16": 0.5, "int8": 0.3}, ["int8", "bf16", "fp32"]),
        ({"bf16": 1.0, "int8": 2.0}, ["bf16"]),
        ({}, []),
    ],
)
def test_a_simpler_candidate_is_preferred_unless_another_is_faster(
    seconds: dict[str, float], order: list[str]
) -> None:
    assert ranking(seconds, ["fp32", "bf16", "int8"]) == order
