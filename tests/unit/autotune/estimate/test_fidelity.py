"""The default fidelity: what a trial can afford, at speeds of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from autotune.estimate.fidelity import FidelityChoice, choose_fidelity, round_down
from autotune.estimate.trial_work import Speed
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.language.loader import load_space
from tests.support.shapes import BERT
from trials.data.task_data import TaskData

SPACE: dict[str, Any] = {
    "families": ["lora"],
    "parameters": {"epochs": 2, "batch_size": 16, "lora.layers": 4, "lora.targets": "all", "lora.rank": 4},
}


def no_measurement(*_: object, **__: object) -> Speed:
    raise AssertionError("the speed is not to be measured")


def choose(
    train: int, held_out: int, *, seconds: float | None = None, classes: int = 2, **changes: Any
) -> FidelityChoice:
    """Return the choice for a number of examples, where an example takes `seconds` of training in all epochs.

    Args:
        seconds: None if nothing is to be measured.
    """
    sweep = parse_sweep(
        {
            "name": "reviews",
            "model": "bert",
            "task": {"dataset": "reviews", "text": "sentence", "label": "label"},
            "space": SPACE,
            "budget": {"trials": 30},
            **changes,
        },
        check_files=False,
    )
    counts = {"train": train, "validation": held_out, "test": held_out}
    data = SimpleNamespace(splits={k: range(n) for k, n in counts.items()}, classes=tuple(range(classes)))
    costs = CostModel(BERT, "sequence-classification", Workload(2_000.0, 4e6, train_samples=train))
    space = load_space(sweep.space, shape=BERT, task=sweep.task.type, examples=train).space
    per_flop = 0.0 if seconds is None else seconds * train / costs(space.defaults()[0]).train_flops
    speed = Speed(per_flop, 0.0, 0.0)

    def measure(*_: object, **__: object) -> Speed:
        return speed

    return choose_fidelity(
        sweep, cast(TaskData, data), space, costs, no_measurement if seconds is None else measure
    )


def sizes(choice: FidelityChoice) -> tuple[int | None, int | None]:
    return choice.fidelity.train_samples, choice.fidelity.eval_samples


def test_few_examples_are_used_in_full_without_a_measurement() -> None:
    choice = choose(1_000, 200)
    assert sizes(choice) == (None, None)
    assert choice.note == "fidelity: all 1,000 training and 200 validation examples per trial"
    assert choice.warning is None


def test_cheap_examples_are_used_in_full() -> None:
    assert sizes(choose(48_000, 6_000, seconds=0.0005)) == (None, None)


def test_examples_that_a_trial_cannot_afford_are_reduced() -> None:
    choice = choose(48_000, 6_000, seconds=0.02)  # 120 s a trial, of which evaluation takes some
    train, held_out = sizes(choice)
    assert (train, held_out) == (4_000, 1_000) or (train, held_out) == (4_000, 2_000)
    assert "4,000 of 48,000 training examples" in choice.note
    assert "validation examples per trial, since all of them would take" in choice.note
    assert choice.note.endswith("set fidelity to change it")
    assert choice.warning is None


@pytest.mark.parametrize("hours", [0.5, 2.0, 8.0])
def test_all_trials_fit_into_the_hours(hours: float) -> None:
    choice = choose(200_000, 6_000, seconds=0.02, budget={"trials": 30, "hours": hours})
    train, _ = sizes(choice)
    assert train is not None
    assert 0.4 * hours * 3600 < 30 * 0.02 * train <= hours * 3600


def test_hours_alone_leave_time_for_a_search() -> None:
    train, _ = sizes(choose(200_000, 6_000, seconds=0.02, budget={"hours": 1}))
    assert train is not None
    assert 30 < 3600 / (0.02 * train) < 100


def test_a_ladder_leaves_more_examples_on_its_top_rung() -> None:
    plain, _ = sizes(choose(200_000, 6_000, seconds=0.02))
    with_ladder, _ = sizes(choose(200_000, 6_000, seconds=0.02, ladder=True))
    assert plain is not None
    assert with_ladder is not None
    assert with_ladder > plain


def test_slots_that_work_in_parallel_share_the_time() -> None:
    alone, _ = sizes(choose(200_000, 6_000, seconds=0.02))
    workers, _ = sizes(choose(200_000, 6_000, seconds=0.02, executor={"name": "processes", "workers": 2}))
    assert alone is not None
    assert workers is not None
    assert workers >= alone


def test_never_fewer_examples_than_rank_configurations() -> None:
    choice = choose(48_000, 6_000, seconds=3.0, budget={"trials": 30, "hours": 1})
    assert sizes(choice) == (1_000, 1_000)
    assert choice.warning is not None
    assert "1,000 training examples are the least that rank configurations" in choice.warning
    assert "fewer will finish" in choice.warning


def test_the_least_examples_grow_with_the_classes_and_end_at_the_data() -> None:
    assert sizes(choose(48_000, 6_000, seconds=3.0, classes=150))[0] == 3_000
    assert sizes(choose(2_000, 500, seconds=3.0, classes=150)) == (None, None)


def test_a_budget_of_flops_bounds_the_examples() -> None:
    free = choose(200_000, 6_000, seconds=1e-6)
    assert sizes(free) == (None, None)
    whole = 200_000 * flops_of_an_example()
    bounded = choose(200_000, 6_000, seconds=1e-6, budget={"trials": 30, "flops": 30 * 0.1 * whole})
    assert sizes(bounded)[0] in (15_000, 20_000)  # random configurations cost more than the default


def flops_of_an_example() -> float:
    costs = CostModel(BERT, "sequence-classification", Workload(2_000.0, 4e6, train_samples=1))
    space = load_space(SPACE, shape=BERT, task="sequence-classification").space
    return costs(space.defaults()[0]).train_flops


def test_many_validation_examples_beside_few_training_examples_are_reduced() -> None:
    choice = choose(800, 100_000, seconds=0.02)
    assert choice.fidelity.train_samples is None
    assert choice.fidelity.eval_samples in (1_000, 2_000)
    assert "all 800 training examples" in choice.note


def test_configurations_that_set_their_own_number_of_examples_are_not_cut() -> None:
    searched = {**SPACE, "parameters": {**SPACE["parameters"], "train_samples": {"low": 100, "high": "all"}}}
    choice = choose(50_000, 5_000, space=searched)
    assert sizes(choice) == (None, 2_000)
    assert "each configuration trains on its own train_samples" in choice.note
    assert sizes(choose(50_000, 500, space=searched)) == (None, None)


def test_nearly_all_examples_become_all() -> None:
    assert choose(5_000, 500, seconds=0.024).fidelity.train_samples is None


def test_numbers_are_round() -> None:
    found = [round_down(n) for n in (0, 7, 999, 1_000, 1_499, 1_999, 2_400, 9_999, 123_456)]
    assert found == [0, 6, 800, 1_000, 1_000, 1_500, 2_000, 8_000, 100_000]
