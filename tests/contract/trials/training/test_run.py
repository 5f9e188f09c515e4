"""The training loop on tiny models: what it learns, repeats, reports and refuses."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import local_config
from search_spaces.language.loader import load_space
from search_spaces.parameters.training import OPTIMIZERS, TRAINING
from tests.support.texts import FILLER, same_splits
from tests.support.trials import COMMON, classification
from trials.execution.runner import Runner
from trials.reading.encoding import IGNORED
from trials.records import CurvePoint, FailureKind, Fidelity, TrialResult, TrialSpec, TrialStatus
from trials.tasks.example_scores import decode_scores
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.early_stopping import evaluation_steps
from trials.training.evaluation import evaluate
from trials.training.length_batching import padded_lengths
from trials.training.optimizers import build_optimizer
from trials.training.run import (
    Run,
    batches,
    learning_rate,
)
from trials.training.schedules import lr_schedule, transformers_schedule
from trials.training.subsets import subset


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    torch.set_num_threads(1)
    return Runner(ModelSpec(name=str(tiny_model("bert"))), classification(reviews))


def default_config(runner: Runner, family: str, **changes: object) -> dict[str, object]:
    space = load_space({"families": [family]}, shape=runner.base.shape, task=runner.base.task.type).space
    return {**space.default(family=family), **COMMON, **changes}


QUICK = Fidelity(train_samples=48, eval_samples=40, evaluations=2)


def strong(runner: Runner) -> dict[str, object]:
    return default_config(runner, "lora", **{"lora.learning_rate": 1e-2, "lora.targets": "all", "epochs": 5})


@pytest.fixture(scope="module")
def learned(runner: Runner) -> TrialResult:
    return runner.run(TrialSpec(strong(runner), seed=1, score_test=True))


def test_an_adapter_learns_what_the_majority_class_does_not(runner, learned):
    result = learned
    majority = max(Counter(e["labels"] for e in runner.data.splits["validation"]).values()) / 120
    assert result.status == TrialStatus.COMPLETE
    assert result.metrics["accuracy"] > majority + 0.2
    assert abs(result.test_metrics["accuracy"] - result.metrics["accuracy"]) < 0.2
    each = {name: decode_scores(text) for name, text in result.example_scores.items()}
    assert {name: scores.mean() for name, scores in each.items() if name in result.metrics} == {
        name: pytest.approx(result.metrics[name], rel=1e-3) for name in ("accuracy", "brier", "eval_loss")
    }
    right = each["class.true"] == each["class.predicted"]
    assert right.mean() == pytest.approx(result.metrics["accuracy"])
    assert {len(scores) for scores in each.values()} == {len(runner.data.splits["validation"])}


def test_a_then_b_then_a_again_gives_the_same_numbers(runner):
    first = TrialSpec(strong(runner), seed=3, fidelity=QUICK)
    other = TrialSpec(default_config(runner, "norm"), seed=4, fidelity=QUICK)
    before, _, after = runner.run(first), runner.run(other), runner.run(first)
    assert before.curve == after.curve
    assert before.metrics == after.metrics


@pytest.mark.parametrize(
    ("kind", "family"), [("deberta", "lora"), ("deberta", "prompt"), ("t5", "lora"), ("t5", "norm")]
)
def test_other_architectures_train(kind, family, tiny_model, reviews):
    runner = Runner(ModelSpec(name=str(tiny_model(kind))), classification(reviews))
    spec = TrialSpec(default_config(runner, family, epochs=1), seed=0, fidelity=Fidelity(train_samples=64))
    result = runner.run(spec)
    assert result.status == TrialStatus.COMPLETE, result.error
    assert 0 <= result.metrics["accuracy"] <= 1
    cost = REGISTRY[family].cost(local_config(family, dict(spec.config)), runner.base.shape)
    assert result.trainable_params == cost.parameters + runner.base.shape.head_parameters


def test_the_seed_decides_the_head_the_adapter_and_the_order(runner):
    specs = [TrialSpec(strong(runner), seed, QUICK) for seed in (1, 2, 1)]
    losses = {runner.run(spec).metrics["eval_loss"] for spec in specs}
    assert len(losses) == 2


def test_the_curve_has_the_points_asked_for_and_ends_at_the_result(runner):
    spec = TrialSpec(strong(runner), seed=0, fidelity=Fidelity(train_samples=64, evaluations=3))
    result = runner.run(spec)
    assert [point.step for point in result.curve] == [7, 14, 20]
    assert result.curve[-1].samples == 5 * 64
    assert result.curve[-1].metrics == result.metrics
    assert result.train_seconds < result.seconds


def test_divergence_is_the_configurations_failure(runner):
    config = default_config(runner, "lora", **{"lora.learning_rate": 1e30, "lora.scale": 8.0})
    result = runner.run(TrialSpec(config, seed=0))
    assert result.status == TrialStatus.FAILED
    assert result.failure == FailureKind.DIVERGED
    assert "loss became" in str(result.error)
    assert result.metrics == {}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_the_configurations_failure(error, runner, monkeypatch):
    def no_room(*args: object) -> float:
        raise error

    before = runner.pack().chunk_tokens
    monkeypatch.setattr("trials.training.run.training_step", no_room)
    monkeypatch.setattr("trials.packing.pack.Pack._pass", no_room)
    for alone in (True, False):
        result = runner.run(TrialSpec(strong(runner), fidelity=QUICK, is_isolated=alone))
        assert result.status == TrialStatus.FAILED
        assert str(result.error).startswith("out of memory")
        assert result.failure == FailureKind.OUT_OF_MEMORY
    assert runner.pack().chunk_tokens < before
    monkeypatch.undo()
    assert runner.run(TrialSpec(strong(runner), fidelity=QUICK)).status == TrialStatus.COMPLETE
    assert runner.pack().chunk_tokens == before


def _index_error(*args: object) -> float:
    return [0.0][1]


def _assertion_error(*args: object) -> float:
    raise AssertionError("an invariant does not hold")


@pytest.mark.parametrize("is_isolated", [True, False])
@pytest.mark.parametrize("broken", [_index_error, _assertion_error])
def test_an_error_of_our_own_code_fails_the_trial_with_its_traceback(
    broken, is_isolated, runner, monkeypatch
):
    ours = FunctionType(broken.__code__, {**globals(), "__name__": "trials.training.run"})
    monkeypatch.setattr("trials.training.run.Run.update", ours)
    result = runner.run(TrialSpec(strong(runner), fidelity=QUICK, is_isolated=is_isolated))
    assert (result.status, result.failure) == (TrialStatus.FAILED, FailureKind.INTERNAL)
    assert str(result.error).startswith("internal error (")
    assert f"in {broken.__name__}" in str(result.traceback)
    monkeypatch.undo()
    assert runner.run(TrialSpec(strong(runner), fidelity=QUICK)).status == TrialStatus.COMPLETE


def test_an_error_of_a_library_is_a_rejection_of_the_configuration(runner, monkeypatch):
    def mismatch(*args: object) -> float:
        torch.nn.functional.one_hot(torch.tensor([-1]), num_classes=-2)
        return 0.0

    monkeypatch.setattr("trials.training.run.Run.update", mismatch)
    result = runner.run(TrialSpec(strong(runner), fidelity=QUICK))
    assert (result.status, result.failure) == (TrialStatus.FAILED, FailureKind.REJECTED)
    assert str(result.error).startswith("RuntimeError: ")
    assert "in mismatch" in str(result.traceback)


def test_a_full_disk_is_raised_and_not_recorded_as_a_failure(runner, monkeypatch):
    def full(*args: object) -> float:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trials.training.run.Run.update", full)
    for is_isolated in (True, False):
        with pytest.raises(OSError, match="No space left"):
            runner.run(TrialSpec(strong(runner), fidelity=QUICK, is_isolated=is_isolated))


def test_an_interrupt_fails_no_trial(runner, monkeypatch):
    def interrupted(*args: object) -> float:
        raise KeyboardInterrupt

    expected = runner.run(TrialSpec(strong(runner), fidelity=QUICK))
    monkeypatch.setattr("trials.training.run.Run.update", interrupted)
    for alone in (True, False):
        with pytest.raises(KeyboardInterrupt):
            runner.run(TrialSpec({**strong(runner), "lora.layers": 1}, fidelity=QUICK, is_isolated=alone))
    monkeypatch.undo()
    again = runner.run(TrialSpec(strong(runner), fidelity=QUICK))
    assert again.metrics == expected.metrics


def test_regression_learns_targets_of_any_scale(tiny_model, write_jsonl):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        good = int(rng.integers(0, 4))
        words = ["good"] * good + ["bad"] * (3 - good)
        rng.shuffle(words)
        price = 200_000 + 50_000 * good
        rows.append({"a": " ".join(rng.choice(FILLER, size=4)), "b": " ".join(words), "score": price})
    task = TaskSpec(
        type="regression", train=str(write_jsonl("r.jsonl", rows)), text=["a", "b"], label="score"
    )
    runner = Runner(ModelSpec(name=str(tiny_model("bert"))), task)
    result = runner.run(TrialSpec({**strong(runner), "batch_size": 8}, seed=0))
    assert result.metrics["pearson"] > 0.5
    assert result.metrics["eval_loss"] < 0.8
    variance = np.var(runner.data.raw["train"]["score"])
    assert result.metrics["mse"] == pytest.approx(result.metrics["eval_loss"] * variance, rel=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_causal_language_modeling_learns_the_completion(kind, tiny_model, write_jsonl):
    pairs = {"the film was": "good", "the story was": "bad", "one saw": "the end", "people in it": "sad"}
    rows = [{"p": p, "c": c} for p, c in pairs.items()] * 30
    columns = {"prompt": "p", "completion": "c", "chat_template": "none"}
    task = TaskSpec(type="causal-lm", **same_splits(write_jsonl("c.jsonl", rows)), **columns)
    runner = Runner(ModelSpec(name=str(tiny_model(kind))), task)
    untouched = runner.run(TrialSpec({}))
    result = runner.run(TrialSpec({**strong(runner), "batch_size": 8, "lora.learning_rate": 1e-2}, seed=0))
    assert result.status == TrialStatus.COMPLETE, result.error
    assert result.metrics["eval_loss"] < untouched.metrics["eval_loss"] - 1
    assert result.metrics["token_accuracy"] > untouched.metrics["token_accuracy"]
    assert result.metrics["perplexity"] == pytest.approx(math.exp(result.metrics["eval_loss"]))


SCHEDULES = [
    {"schedule": "linear", "warmup": 0.1},
    {"schedule": "cosine", "warmup": 0.1},
    {"schedule": "constant", "warmup": 0.1},
    {"schedule": "constant-cooldown", "warmup": 0.1, "cooldown": 0.3},
    {"schedule": "constant-cooldown", "warmup": 0.0, "cooldown": 0.5},
    {"schedule": "constant-cooldown", "warmup": 0.8, "cooldown": 0.5},
    {"schedule": "constant-cooldown", "warmup": 0.06},
]


@pytest.mark.parametrize("config", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 7, 37])
def test_schedules_are_those_of_transformers(config, steps):
    factor = lr_schedule(config, steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    given = transformers_schedule(config, steps)
    reference = get_scheduler(
        given["lr_scheduler_type"], optimizer, given["warmup_steps"], steps, given.get("lr_scheduler_kwargs")
    )
    for step in range(steps):
        assert factor(step) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_the_cooldown_is_the_share_of_the_steps_asked_for():
    factor = lr_schedule({"schedule": "constant-cooldown", "warmup": 0.1, "cooldown": 0.4}, 20)
    factors = [factor(step) for step in range(21)]
    assert factors[:3] == [0.0, 0.5, 1.0]
    assert factors[2:13] == [1.0] * 11
    assert factors[12:] == pytest.approx(np.linspace(1.0, 0.0, 9))


def test_every_schedule_and_optimizer_of_the_space_trains_and_no_other(runner):
    schedules = [*next(knob for knob in TRAINING if knob.name == "schedule").choices, "constant-cooldown"]
    small = Fidelity(train_samples=32, evaluations=1)
    for change in [{"schedule": name} for name in schedules] + [{"optimizer": name} for name in OPTIMIZERS]:
        result = runner.run(TrialSpec(default_config(runner, "lora", epochs=1, **change), fidelity=small))
        assert result.status == TrialStatus.COMPLETE, result.error
    for change, message in (({"schedule": "steps"}, "schedule: 'steps'"), ({"optimizer": "sgd"}, "'sgd'")):
        result = runner.run(TrialSpec(default_config(runner, "lora", epochs=1, **change), fidelity=small))
        assert result.status == TrialStatus.FAILED
        assert message in result.error


# --- optimizers


@pytest.mark.parametrize("optimizer", ["lion", "adafactor"])
def test_every_optimizer_learns_at_the_default_factor(optimizer, runner, learned):
    result = runner.run(TrialSpec({**strong(runner), "optimizer": optimizer}, seed=1))
    majority = max(Counter(e["labels"] for e in runner.data.splits["validation"]).values()) / 120
    assert result.status == TrialStatus.COMPLETE, result.error
    assert result.metrics["accuracy"] > majority + 0.2
    assert result.metrics != learned.metrics


def test_the_optimizers_factor_multiplies_the_familys_learning_rate():
    config = {"family": "lora", "lora.learning_rate": 1e-3}
    assert learning_rate(config) == 1e-3
    assert learning_rate({**config, "optimizer": "adamw"}) == 1e-3
    assert learning_rate({**config, "optimizer": "lion"}) == pytest.approx(1e-4)
    lion = {**config, "optimizer": "lion", "lion.learning_rate_factor": 0.05}
    assert learning_rate(lion) == pytest.approx(5e-5)
    adafactor = {**config, "optimizer": "adafactor", "adafactor.learning_rate_factor": 3.0}
    assert learning_rate(adafactor) == pytest.approx(3e-3)


def test_an_optimizers_knobs_are_no_familys(runner):
    assert not set(OPTIMIZERS) & set(REGISTRY)
    config = {**strong(runner), "optimizer": "lion", "lion.learning_rate_factor": 0.05}
    assert local_config("lora", config) == local_config("lora", strong(runner))


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "adafactor"])
def test_weight_decay_takes_off_the_rate_times_the_decay(optimizer):
    weight = torch.nn.Parameter(torch.full((4, 4), 2.0))
    built = build_optimizer(optimizer, [{"params": [weight], "weight_decay": 0.5}], 0.1)
    weight.grad = torch.zeros_like(weight)
    built.step()
    assert weight.detach() == pytest.approx(torch.full((4, 4), 2.0 * (1 - 0.1 * 0.5)))


def test_a_configuration_from_before_these_knobs_trains_as_with_their_defaults(runner):
    old = strong(runner)
    assert not {"optimizer", "cooldown", "sequence_length"} & set(old)
    new = {**old, "optimizer": "adamw", "sequence_length": runner.base.task.max_length}
    assert runner.run(TrialSpec(old, 2, QUICK)).curve == runner.run(TrialSpec(new, 2, QUICK)).curve


# --- sequence length


def test_a_sequence_length_cuts_what_is_trained_on_and_what_is_scored(runner, monkeypatch):
    seen: list[int] = []

    def watch(run):
        batch = next_batch(run)
        seen.extend(len(example["input_ids"]) for example in batch or ())
        return batch

    scored: list[int] = []

    def watch_scores(model, data, examples, **options):
        scored.append(max(len(example["input_ids"]) for example in examples))
        return evaluate(model, data, examples, **options)

    next_batch = Run.next_batch
    monkeypatch.setattr(Run, "next_batch", watch)
    monkeypatch.setattr("trials.training.held_out.evaluate", watch_scores)
    cut = {**strong(runner), "sequence_length": 8}
    once = Fidelity(train_samples=48, evaluations=1)
    result = runner.run(TrialSpec(cut, seed=1, fidelity=once, score_test=True))
    assert result.status == TrialStatus.COMPLETE, result.error
    assert max(seen) == 8
    assert scored == [8, 8]
    monkeypatch.undo()
    whole = runner.run(TrialSpec(strong(runner), seed=1, fidelity=once))
    assert whole.metrics != result.metrics


def test_batches_visit_every_example_once_an_epoch_with_little_padding():
    rng = np.random.default_rng(0)
    examples = [{"input_ids": [0] * int(n)} for n in rng.integers(3, 60, 1000)]
    seen = list(batches(examples, 16, 2, seed=5))
    counts = Counter(index for batch in seen for index in batch)
    assert set(counts.values()) == {2}
    assert len(counts) == 1000
    mean, mean_square = padded_lengths(examples, 16)
    real = np.mean([len(e["input_ids"]) for e in examples])
    assert real <= mean < 1.1 * real
    assert mean_square >= mean**2
    assert seen[: len(seen) // 2] != seen[len(seen) // 2 :]


def test_evaluations_are_spread_and_the_last_step_is_always_scored():
    assert evaluation_steps(10, 4) == {3, 5, 8, 10}
    assert evaluation_steps(2, 4) == {1, 2}
    assert evaluation_steps(7, 0) == {7}


def test_a_smaller_subset_begins_a_larger_one():
    examples = [{"input_ids": [i]} for i in range(50)]
    assert list(subset(examples, 30, 0))[:10] == list(subset(examples, 10, 0))
    assert subset(examples, None, 0) is examples


def test_records_survive_json():
    spec = TrialSpec({"family": "lora", "lora.rank": 4}, 7, Fidelity(10, 20, 2), True)
    assert TrialSpec.from_json(spec.to_json()) == spec
    result = TrialResult(
        TrialStatus.FAILED,
        curve=(CurvePoint(1, 2, {"eval_loss": 0.5}),),
        error="no",
        failure=FailureKind.DIVERGED,
        traceback="Traceback",
        steps_share=0.5,
        flops_share=1.5,
    )
    assert TrialResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED


@pytest.mark.parametrize(("share", "steps_share"), [(0.25, 0.25), (1.5, 1.0)])
def test_results_of_earlier_versions_are_read(share, steps_share):
    stored = TrialResult(TrialStatus.PAUSED, error=None).to_json() | {"share": share, "unknown": 1}
    for name in ("failure", "traceback", "steps_share", "flops_share"):
        del stored[name]
    assert TrialResult.from_json(stored) == TrialResult(
        TrialStatus.PAUSED, steps_share=steps_share, flops_share=share
    )
