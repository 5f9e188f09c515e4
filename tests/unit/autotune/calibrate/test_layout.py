"""The processes, threads and trials at a time that a sweep leaves open, and the choice among them."""

from __future__ import annotations

from typing import Any

import pytest

import autotune.calibrate.layout as layout_module
from autotune.calibrate.layout import Layout, Layouts, best_division, best_pack, layouts
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from tests.support.shapes import BERT

ONE, TWO, FOUR = Layout(1, 4, 1), Layout(2, 2, 1), Layout(4, 1, 1)


def sweep(**changes: Any) -> Sweep:
    given = {
        "name": "reviews",
        "model": {"name": "bert", "device": "cpu"},
        "task": {"dataset": "reviews", "text": "sentence", "label": "label"},
        "budget": {"trials": 32},
        **changes,
    }
    return parse_sweep(given, check_files=False)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores with much memory, and a script that can start workers."""
    monkeypatch.setattr(layout_module, "usable_cores", lambda: 8)
    monkeypatch.setattr("trials.execution.compute.share_of_cores", lambda count: 8 // count)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.setattr(layout_module, "_room", lambda shape: 100.0)
    monkeypatch.setattr(layout_module, "can_start_workers", lambda: True)


def divisions(**changes: Any) -> tuple[tuple[int, int | None], ...]:
    return layouts(sweep(**changes), BERT).divisions


def test_processes_divide_the_cores_up_to_the_slots_of_the_budget() -> None:
    assert divisions() == ((1, 8), (2, 4), (4, 2))
    assert divisions(budget={"trials": 400}) == ((1, 8), (2, 4), (4, 2), (8, 1))
    assert divisions(budget={"trials": 3}) == ((1, 8), (2, 4))


def test_memory_bounds_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "_room", lambda shape: 2.5)
    assert divisions() == ((1, 8), (2, 4))


def test_a_script_without_a_guard_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_module, "can_start_workers", lambda: False)
    found = layouts(sweep(), BERT)
    assert found.divisions == ((1, 8), (1, 1))
    assert found.note.startswith("one process, since no `if __name__")


def test_what_the_sweep_sets_is_kept() -> None:
    assert divisions(executor={"name": "packed", "processes": 2}) == ((2, 4), (2, 1))
    assert divisions(executor={"name": "packed", "processes": 2, "threads": 3}) == ((2, 3),)
    assert divisions(executor={"name": "packed", "threads": 3}) == ((1, 3), (2, 3), (4, 3))
    assert divisions(executor="local") == ((1, 8), (1, 1))
    assert divisions(executor={"name": "processes", "workers": 3}) == ((3, None),)
    assert not layouts(sweep(executor={"name": "local", "threads": 2}), BERT).are_several


def test_slots_that_the_sweep_sets_are_divided() -> None:
    found = layouts(sweep(executor={"name": "packed", "workers": 3}), BERT)
    assert found.divided == (Layout(1, 8, 3), Layout(2, 4, 2), Layout(3, 2, 1))
    assert found.packs(found.divided[1]) == ()


def test_measured_objectives_have_no_packs() -> None:
    found = layouts(sweep(objectives=["accuracy", "train_seconds"]), BERT)
    assert found.divided == (Layout(1, 8, 1), Layout(1, 1, 1))


def test_a_gpu_has_one_process_and_larger_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.base.model.choose_device", lambda name: __import__("torch").device("cuda"))
    found = layouts(sweep(executor="packed"), BERT)
    assert found.divisions == ((1, None),)
    assert found.trials == (1, 2, 4, 8)


def test_packs_stay_within_the_slots() -> None:
    assert Layouts(((1, 8),), (1, 2, 4), 5).packs(TWO) == (TWO, Layout(2, 2, 2))


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({ONE: 100.0, TWO: 60.0, FOUR: 20.0}, ONE),  # 108 and 72 of all processes
        ({ONE: 100.0, TWO: 70.0, FOUR: 35.0}, TWO),  # 126 and 126
        ({ONE: 100.0, TWO: 70.0, FOUR: 40.0}, FOUR),  # 126 and 144
        ({TWO: 70.0}, TWO),
        ({}, ONE),
    ],
)
def test_several_processes_must_be_faster_than_one(rates: dict[Layout, float], best: Layout) -> None:
    assert best_division(rates, [ONE, TWO, FOUR]) == best


@pytest.mark.parametrize(
    ("rates", "best"),
    [((100, 110, 130), 1), ((100, 120, 130), 2), ((100, 110, 140), 4), ((100, 120, 150), 4)],
)
def test_each_doubling_of_a_pack_must_pay(rates: tuple[float, ...], best: int) -> None:
    packs = [Layout(1, 1, trials) for trials in (1, 2, 4)]
    assert best_pack(dict(zip(packs, rates, strict=True)), packs[0]).trials == best
    assert best_pack({}, packs[0]).trials == 1


def test_a_layout_becomes_an_executor() -> None:
    local = ExecutorSpec()
    assert Layout(2, 1, 2).of(local, is_open=True) == ExecutorSpec(
        name="packed", workers=4, processes=2, threads=1
    )
    assert Layout(1, 2, 1).of(local, is_open=True) == ExecutorSpec(threads=2)
    assert Layout(1, 1, 1).of(local) == ExecutorSpec(threads=1)
    packed = ExecutorSpec(name="packed", workers=3)
    assert Layout(2, 1, 2).of(packed) == ExecutorSpec(name="packed", workers=3, processes=2, threads=1)
    assert str(Layout(2, 1, 2)) == "2 processes × 1 thread, 2 trials at a time in each"
    assert str(Layout(1, None, 8)) == "1 process, 8 trials at a time"
