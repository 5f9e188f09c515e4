"""Runs that end when the metric stops improving, and runs that are scored by their best evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.language.loader import load_space
from tests.support.packs import agree, alone
from tests.support.trials import COMMON, classification
from trials.execution.runner import Runner
from trials.packing.pack import Pack
from trials.records import CurvePoint, Fidelity, Segment, TrialResult, TrialSpec, TrialStatus
from trials.tasks.example_scores import decode_scores
from trials.tasks.metrics import metric_direction
from trials.tasks.specs import ModelSpec
from trials.training.early_stopping import EvaluationRecord
from trials.training.held_out import HeldOut
from trials.training.run import Run, train_batch
from trials.training.selection import selection_of

EVERY_EPOCH = Fidelity(train_samples=96, eval_samples=40, evaluations=6)
EPOCHS = 6


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    torch.set_num_threads(1)
    return Runner(ModelSpec(name=str(tiny_model("bert")), precision="fp32"), classification(reviews))


def spec(runner: Runner, rate: float, seed: int = 0, **fidelity: object) -> TrialSpec:
    families = {"families": ["lora"]}
    space = load_space(families, shape=runner.base.shape, task=runner.base.task.type).space
    config = {**space.default(family="lora"), **COMMON, "epochs": EPOCHS, "lora.learning_rate": rate}
    return TrialSpec(config, seed, replace(EVERY_EPOCH, **fidelity))


IDLE, LEARNING = 1e-12, 1e-2
"""Learning rates at which the accuracy stays what it is, and at which it improves."""


def record(values: list[float], fidelity: Fidelity, metric: str = "accuracy") -> EvaluationRecord[CurvePoint]:
    """The record after evaluations with these values, up to the one at which the patience ends."""
    found = EvaluationRecord[CurvePoint](
        selection_of(fidelity, metric, metric_direction(metric)), keeps_parameters=True
    )
    for step, value in enumerate(values, start=1):
        found.add(CurvePoint(step, 16 * step, {metric: value}), [torch.tensor([float(step)])])
        if found.is_out_of_patience:
            break
    return found


@pytest.mark.parametrize(
    ("metric", "values", "evaluated", "best"),
    [
        ("accuracy", [0.5, 0.6, 0.6, 0.5, 0.9], 4, 2),  # an equal value is no improvement
        ("accuracy", [0.5, 0.4, 0.6, 0.7, 0.1], 5, 4),
        ("eval_loss", [0.5, 0.6, 0.7, 0.1], 3, 1),
        ("eval_loss", [0.5, 0.4, 0.3, 0.2], 4, 4),
        ("pearson", [float("nan"), 0.1, float("nan"), 0.05], 4, 2),
        ("pearson", [float("nan"), float("nan"), float("nan"), 0.5], 3, 1),
    ],
)
def test_patience_counts_evaluations_without_a_strict_improvement(metric, values, evaluated, best):
    found = record(values, Fidelity(patience=2, score="best"), metric)
    assert len(found.curve) == evaluated
    assert found.best.step == found.score.step == best
    parameters = [torch.zeros(1)]
    found.restore(parameters)
    assert parameters[0].item() == best


def test_without_patience_every_evaluation_is_made_and_the_last_is_the_score():
    found = record([0.9, 0.5, 0.4, 0.3], Fidelity())
    assert (len(found.curve), found.score.step, found.best.step) == (4, 4, 1)
    parameters = [torch.zeros(1)]
    found.restore(parameters)
    assert parameters[0].item() == 0.0


def test_a_run_out_of_patience_is_complete_and_costs_what_was_trained(runner):
    whole = alone(runner, spec(runner, IDLE))
    stopped = alone(runner, spec(runner, IDLE, patience=2))
    assert len({point.metrics["accuracy"] for point in whole.curve}) == 1, "the run must not improve"
    assert (whole.steps_share, whole.flops_share) == (1.0, 1.0)
    assert stopped.status == TrialStatus.COMPLETE
    assert len(stopped.curve) == 3
    assert stopped.curve == whole.curve[:3]
    assert stopped.steps_share == stopped.flops_share == 0.5
    assert stopped.curve[-1].samples == 3 * 96


def test_patience_does_not_change_a_run_that_keeps_improving(runner):
    whole = alone(runner, spec(runner, LEARNING))
    patient = alone(runner, spec(runner, LEARNING, patience=EPOCHS))
    assert patient.curve == whole.curve
    assert patient.metrics == whole.metrics
    assert patient.steps_share == 1.0


def test_the_best_evaluation_scores_both_splits(runner):
    """The test split gets the score of the adapter at the best evaluation, not of the last one."""
    chosen = replace(spec(runner, LEARNING, seed=3, score="best"), score_test=True)
    result = alone(runner, chosen)
    best = max(result.curve, key=lambda point: point.metrics["accuracy"])
    assert result.metrics == best.metrics
    assert result.metrics != result.curve[-1].metrics, "the last evaluation must not be the best one"
    until = Run(runner.base, runner.data, replace(chosen, fidelity=EVERY_EPOCH))
    for _ in range(best.step):
        examples = until.next_batch()
        assert examples is not None
        until.update(*train_batch(until, examples))
    expected = until._score(HeldOut(until.base, until.data, "test")).metrics
    assert result.test_metrics == pytest.approx(expected, abs=1e-6)
    correct = decode_scores(result.example_scores["accuracy"])
    assert correct.mean() == pytest.approx(best.metrics["accuracy"])


def test_a_member_that_stops_early_leaves_its_pack_and_changes_no_other(runner):
    specs = [
        spec(runner, IDLE, seed=0, patience=1, score="best"),
        spec(runner, LEARNING, seed=1, score="best"),
        spec(runner, IDLE, seed=2, patience=3),
    ]
    pack, results, sizes = Pack(runner.base, runner.data), dict[int, TrialResult](), list[int]()
    for ticket, each in enumerate(specs):
        assert pack.enter(ticket, each) is None
    while len(pack):
        sizes.append(len(pack))
        results.update(pack.advance())
    assert set(sizes) == {3, 2, 1}
    assert [results[ticket].steps_share for ticket in range(3)] == pytest.approx([2 / 6, 1.0, 4 / 6])
    for ticket, each in enumerate(specs):
        expected = alone(runner, each)
        agree(results[ticket], expected)
        assert results[ticket].flops_share == expected.flops_share
        assert results[ticket].metrics == pytest.approx(expected.metrics, rel=1e-4)


def test_a_segment_is_scored_by_its_last_evaluation(runner):
    with pytest.raises(AssertionError, match="last evaluation"):
        replace(spec(runner, LEARNING, patience=2), segment=Segment(until=0.5))


def test_the_fidelity_survives_json(runner):
    given = spec(runner, LEARNING, patience=2, score="best")
    assert TrialSpec.from_json(given.to_json()) == given
    del (older := given.to_json())["fidelity"]["patience"], older["fidelity"]["score"]
    assert TrialSpec.from_json(older).fidelity == EVERY_EPOCH
