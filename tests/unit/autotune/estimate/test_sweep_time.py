"""The duration of a sweep as a formula of its work and a speed of the test's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autotune.estimate.speed import step_flops
from autotune.estimate.sweep_time import Sizes, SweepTime, confirmation_runs, sweep_time, threads_of
from autotune.estimate.trial_work import Slot, Speed, TrialWork, typical_configuration
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.model.shape import ModelShape
from tests.support.shapes import BERT
from trials.tasks.generation_spec import GenerationSpec

SPEED = Speed(seconds_per_flop=1e-9, seconds_per_step=0.01, seconds_per_trial=0.5)
WORK = TrialWork(train_flops=4e6, frozen_flops=1e6, steps=0.125, eval_flops=1e6, frozen_eval_flops=5e5)
SIZES = Sizes(train=1_000, evaluated=500, test=300)
ALONE = Slot()
TRAINING = 1_000 * (4e-3 + 0.125 * 0.01)
EVALUATION = 500 * (1e-3 + 0.01 / 96)
TRIAL = 0.5 + TRAINING + 4 * EVALUATION


def sweep(**changes: Any) -> Sweep:
    given = {
        "name": "reviews",
        "model": "bert",
        "task": {"dataset": "reviews", "text": "sentence", "label": "label"},
        "budget": {"trials": 30},
        **changes,
    }
    return parse_sweep(given, check_files=False)


def predicted(slot: Slot = ALONE, **changes: Any) -> SweepTime:
    return sweep_time(sweep(**changes), [WORK], SPEED, slot, SIZES)


def test_a_trial_takes_its_start_its_training_and_its_evaluations() -> None:
    assert predicted().trial.typical == pytest.approx(TRIAL)
    assert predicted(fidelity={"evaluations": 1}).trial.typical == pytest.approx(TRIAL - 3 * EVALUATION)


def test_frozen_layers_are_not_run_again() -> None:
    reused = predicted(Slot(reuse=1.0)).trial.typical
    assert TRIAL - reused == pytest.approx(1_000 * 1e-3 + 4 * 500 * 5e-4)


def test_sharing_slows_the_arithmetic_and_not_the_overhead() -> None:
    shared = predicted(Slot(sharing=2.0)).trial.typical
    assert shared - TRIAL == pytest.approx(1_000 * 4e-3 + 4 * 500 * 1e-3)


def test_a_search_takes_all_its_trials_and_proposals() -> None:
    found = predicted()
    assert found.trials == 30
    assert found.ended_by == "trials"
    assert found.search.typical == pytest.approx(30 * (TRIAL + 0.15))
    assert found.total.typical == found.search.typical + found.confirmation.typical


def test_workers_divide_the_search() -> None:
    found = predicted(executor={"name": "processes", "workers": 3})
    assert found.search.typical == pytest.approx(30 * (TRIAL / 3 + 0.15))


def test_a_small_space_ends_the_search_before_its_budget() -> None:
    found = sweep_time(sweep(budget={"trials": 9}), [WORK], SPEED, Slot(), SIZES, configurations=4)
    assert (found.ended_by, found.trials) == ("space", 4)
    larger = sweep_time(sweep(budget={"trials": 9}), [WORK], SPEED, Slot(), SIZES, configurations=40)
    assert (larger.ended_by, larger.trials) == ("trials", 9)


@pytest.mark.parametrize(
    ("budget", "ended_by", "trials"),
    [
        ({"trials": 30, "hours": 10}, "trials", 30),
        ({"trials": 30, "hours": 0.01}, "hours", int(36 / (TRIAL + 0.15)) + 1),
        ({"hours": 1}, "hours", int(3600 / (TRIAL + 0.15)) + 1),
        ({"trials": 30, "flops": 5 * 4e9}, "flops", 5),
    ],
)
def test_the_first_limit_ends_the_search(budget: dict[str, float], ended_by: str, trials: int) -> None:
    found = predicted(budget=budget)
    assert (found.ended_by, found.trials) == (ended_by, trials)


def test_the_search_ends_with_the_trials_that_run_when_the_hours_are_over() -> None:
    found = predicted(budget={"hours": 0.1})
    assert found.search.high <= 360 + found.trial.typical


def test_a_ladder_shortens_the_search_and_not_a_full_trial() -> None:
    found = predicted(ladder=True)
    assert found.trial.typical == pytest.approx(TRIAL)
    assert found.search.typical < 0.8 * predicted().search.typical


def test_the_confirmation_trains_points_again_and_scores_the_test_split() -> None:
    found = predicted(confirm={"seeds": 2, "points": 5})
    assert confirmation_runs(sweep(confirm={"seeds": 2, "points": 5}), 30) == 10
    assert found.confirmation.typical == pytest.approx(10 * (TRIAL + 300 * (1e-3 + 0.01 / 96)))
    assert predicted(confirm={"seeds": 0}).confirmation.typical == 0


def test_a_front_has_fewer_points_than_a_short_search_has_trials() -> None:
    runs = [confirmation_runs(sweep(confirm={"seeds": 3, "points": 8}), n) for n in (1, 4, 6, 26)]
    assert runs == [3, 6, 9, 24]


def test_the_range_of_a_trial_spans_the_configurations() -> None:
    works = [TrialWork(4e6 * k, 0.0, 0.125, 1e6, 0.0) for k in range(1, 12)]
    found = sweep_time(sweep(), works, SPEED, Slot(), SIZES)
    mean = 0.5 + 6 * 1_000 * 4e-3 + 1_000 * 0.125 * 0.01 + 4 * EVALUATION
    assert found.trial.typical == pytest.approx(mean)
    assert found.trial.low == pytest.approx(mean - 4 * 4)  # the tenth of 11 configurations
    assert found.trial.high == pytest.approx(mean + 4 * 4)
    assert found.search.typical == pytest.approx(30 * (mean + 0.15))
    assert found.search.low < found.search.typical < found.search.high


def test_the_work_of_a_configuration_follows_its_costs() -> None:
    costs = CostModel(BERT, "sequence-classification", Workload(20.0, 420.0, train_samples=1_000))
    config = {
        "family": "lora",
        "lora.targets": "q+v",
        "lora.layers": 2,
        "lora.rank": 4,
        "epochs": 3,
        "batch_size": 16,
    }
    work, head = TrialWork.of(config, costs), TrialWork.of({**config, "family": "head"}, costs)
    assert work.train_flops * 1_000 == costs(config).train_flops
    assert work.steps == 3 / 16
    per_layer = costs.forward_flops_below(1)
    assert per_layer == 2.0 * 20 * (4 * 32 * 32 + 2 * 32 * 64) + 4 * 32 * 420
    assert work.frozen_flops == 3 * 2 * per_layer  # the top two of four layers are adapted
    assert head.frozen_flops == 3 * 4 * per_layer


def test_the_time_of_a_trial_follows_its_own_examples_and_its_speed_does_not() -> None:
    costs = CostModel(BERT, "sequence-classification", Workload(20.0, 420.0, train_samples=1_000))
    config = {"family": "lora", "lora.targets": "q+v", "lora.rank": 4, "epochs": 2.0, "batch_size": 10}
    few = {**config, "train_samples": 100}
    whole, tenth = (TrialWork.of(each, costs).train_seconds(SPEED, ALONE, 1_000) for each in (config, few))
    assert tenth == pytest.approx(whole / 10)
    measured = typical_configuration([few], costs)
    assert measured == config
    assert step_flops(measured, costs)(10) == pytest.approx(costs(config).train_flops / 200)


def test_the_speed_is_that_of_the_threads_of_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trials.base.cores.usable_cores", lambda: 8)
    monkeypatch.setattr("torch.get_num_threads", lambda: 6)
    large = replace(BERT, width=1024)

    def threads(shape: ModelShape, **executor: object) -> int:
        return threads_of(sweep(executor=executor, model={"name": "x", "device": "cpu"}), shape)

    assert threads(large, name="processes", workers=3) == 2
    assert threads(large, name="processes", workers=16) == 1
    assert threads(large, name="local") == 6
    assert threads(large, name="packed", workers=4, processes=2) == 4
    assert threads(large, name="local", threads=3) == 3
    assert threads(large, name="packed", chunk_tokens=256) == 1
    assert threads(BERT, name="local") == 1
    assert threads(BERT, name="local", threads=3) == 3


def test_a_confirmation_on_all_data_takes_longer():
    sizes = replace(SIZES, whole=(10 * SIZES.train, 2 * SIZES.evaluated))
    limited = {"train_samples": SIZES.train, "eval_samples": SIZES.evaluated, "evaluations": 4}

    def confirmation(**confirm: Any) -> float:
        given = sweep(fidelity=limited, confirm={"seeds": 1, "points": 1, **confirm})
        return sweep_time(given, [WORK], SPEED, ALONE, sizes).confirmation.typical

    test = 300 * (1e-3 + 0.01 / 96)
    assert confirmation() == pytest.approx(TRIAL + test)
    assert confirmation(data="full") == pytest.approx(0.5 + 10 * TRAINING + 4 * 2 * EVALUATION + test)
    stops = {"data": "full", "stop": "best", "evaluations": 7}
    assert confirmation(**stops) == pytest.approx(0.5 + 10 * TRAINING + 7 * 2 * EVALUATION + test)


def test_generated_text_takes_a_pass_per_new_token() -> None:
    work = TrialWork(4e6, 0.0, 0.125, eval_flops=1e6, frozen_eval_flops=0.0, tokens=20.0)
    speed = Speed(seconds_per_flop=1e-9, seconds_per_step=0.03, seconds_per_trial=0.0)
    spec = GenerationSpec(max_new_tokens=10, samples=40, batch_size=16)
    # 40 prompts of 1 MFLOP, 10 tokens of a twentieth of it, 3 batches; a pass has a third of a step's overhead.
    expected = 40 * (1e6 + 10 * 5e4) * 1e-9 + 3 * 10 * 0.01
    assert work.generation_seconds(speed, Slot(), 100, spec) == pytest.approx(expected)
    half = spec.model_copy(update={"samples": 0.5})
    assert work.generation_seconds(speed, Slot(), 80, half) == pytest.approx(expected)
    assert work.generation_seconds(speed, Slot(), 100, None) == 0
