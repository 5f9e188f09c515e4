"""A sweep that leaves its fidelity open: it is chosen once, kept by the folder, and compared with what is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autotune.estimate.fidelity import FidelityChoice
from autotune.ledger.ledger import read_sweep
from autotune.prepare import prepared_sweep
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, parse_sweep
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import Watcher, fake_run, small_sweep
from trials.records import Fidelity

CHOSEN = Fidelity(train_samples=64, eval_samples=32)


class Chooser:
    """Replaces the choice of the fidelity, and counts how often it is made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object, **__: object) -> FidelityChoice:
        self.count += 1
        return FidelityChoice(CHOSEN, "fidelity: 64 of 240 training examples", "fidelity: too slow")


@pytest.fixture
def chooser(monkeypatch: pytest.MonkeyPatch) -> Chooser:
    found = Chooser()
    monkeypatch.setattr(prepared_sweep, "choose_fidelity", found)
    return found


@pytest.fixture
def open_sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Sweep:
    mapping = as_mapping(small_sweep(tiny_model("bert"), reviews, confirm={"seeds": 0}))
    del mapping["fidelity"]
    return parse_sweep(mapping)


def given(sweep: Sweep, **fidelity: int) -> Sweep:
    return parse_sweep({**as_mapping(sweep), "fidelity": fidelity})


def test_the_choice_is_used_written_and_said(open_sweep: Sweep, chooser: Chooser, tmp_path: Path) -> None:
    executor, watcher = FakeExecutor(), Watcher()
    fake_run(open_sweep, tmp_path, watcher, executor)
    assert {spec.fidelity for spec in executor.specs} == {CHOSEN}
    assert read_sweep(tmp_path).fidelity == CHOSEN
    assert "fidelity: 64 of 240 training examples" in watcher.notes
    assert "warning: fidelity: too slow" in watcher.notes


def test_the_folder_keeps_the_choice(open_sweep: Sweep, chooser: Chooser, tmp_path: Path) -> None:
    fake_run(open_sweep, tmp_path)
    more = {"trials": 9}
    executor = FakeExecutor()
    fake_run(parse_sweep({**as_mapping(open_sweep), "budget": more}), tmp_path, executor=executor)
    assert {spec.fidelity for spec in executor.specs} == {CHOSEN}
    resumed = fake_run(read_sweep(tmp_path), tmp_path)
    assert resumed.sweep.fidelity == CHOSEN
    assert chooser.count == 1


def test_a_fidelity_that_is_given_later_is_a_difference(
    open_sweep: Sweep, chooser: Chooser, tmp_path: Path
) -> None:
    fake_run(open_sweep, tmp_path)
    with pytest.raises(InvalidInputError, match=r"fidelity\.train_samples differ"):
        fake_run(given(open_sweep, train_samples=100, eval_samples=32), tmp_path)
    fake_run(given(open_sweep, train_samples=64, eval_samples=32), tmp_path)


def test_few_examples_are_used_in_full(open_sweep: Sweep, tmp_path: Path) -> None:
    executor, watcher = FakeExecutor(), Watcher()
    fake_run(open_sweep, tmp_path, watcher, executor)
    assert {spec.fidelity for spec in executor.specs} == {Fidelity()}
    assert "fidelity: all 240 training and 120 validation examples per trial" in watcher.notes
    assert not read_sweep(tmp_path).is_fidelity_open
