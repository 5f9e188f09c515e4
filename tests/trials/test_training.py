"""The training loop on tiny models: what it learns, repeats, reports and refuses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import get_scheduler

from search_spaces.families import REGISTRY
from search_spaces.families.base import local_config
from search_spaces.loading import load_space
from trials.encoding import IGNORED
from trials.records import Fidelity, TrialResult, TrialSpec, TrialStatus
from trials.runner import Runner
from trials.specs import ModelSpec, TaskSpec
from trials.training import batches, evaluation_steps, lr_schedule, padded_lengths, subset, warmup_steps

COMMON = {"batch_size": 16, "epochs": 3, "weight_decay": 0.01, "warmup": 0.1, "schedule": "linear"}


def classification(folder: Path, **changes: object) -> TaskSpec:
    named = {name: str(folder / f"{name}.tsv") for name in ("train", "validation", "test")}
    return TaskSpec(text="sentence", label="label", **{**named, **changes})


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    torch.set_num_threads(1)
    return Runner(ModelSpec(name=str(tiny_model("bert"))), classification(reviews))


def default_config(runner: Runner, family: str, **changes: object) -> dict[str, object]:
    space = load_space("adapters", shape=runner.base.shape, task=runner.base.task.type).space
    return {**space.default(family=family), **COMMON, **changes}


def strong(runner: Runner) -> dict[str, object]:
    return default_config(runner, "lora", **{"lora.learning_rate": 1e-2, "lora.targets": "all", "epochs": 5})


def test_an_adapter_learns_what_the_majority_class_does_not(runner):
    result = runner.run(TrialSpec(strong(runner), seed=1, score_test=True))
    majority = max(Counter(e["labels"] for e in runner.data.splits["validation"]).values()) / 120
    assert result.status == TrialStatus.COMPLETE
    assert result.metrics["accuracy"] > majority + 0.2
    assert abs(result.test_metrics["accuracy"] - result.metrics["accuracy"]) < 0.2


def test_a_then_b_then_a_again_gives_the_same_numbers(runner):
    first = TrialSpec(strong(runner), seed=3)
    other = TrialSpec(default_config(runner, "norm"), seed=4)
    before, _, after = runner.run(first), runner.run(other), runner.run(first)
    assert before.curve == after.curve
    assert before.metrics == after.metrics


@pytest.mark.parametrize("family", sorted(REGISTRY))
def test_every_family_trains_and_leaves_the_base_untouched(family, runner):
    before = {name: tensor.clone() for name, tensor in runner.base.model.state_dict().items()}
    result = runner.run(TrialSpec(default_config(runner, family, epochs=1), seed=0))
    assert result.status == TrialStatus.COMPLETE, result.error
    after = runner.base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("family", sorted(REGISTRY))
def test_a_trial_counts_the_parameters_that_the_cost_foretells(family, runner):
    config = default_config(runner, family, epochs=1)
    result = runner.run(TrialSpec(config, seed=0, fidelity=Fidelity(train_samples=16)))
    cost = REGISTRY[family].cost(local_config(family, config), runner.base.shape)
    assert result.trainable_params == cost.parameters + runner.base.shape.head_parameters


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


def test_images_are_priced_and_not_trained():
    with pytest.raises(
        ValueError, match=r"task\.type: image-classification is priced .* Use sequence-classif"
    ):
        TaskSpec(type="image-classification", text="image", label="label")


def test_the_seed_decides_the_head_the_adapter_and_the_order(runner):
    losses = {runner.run(TrialSpec(strong(runner), seed=seed)).metrics["eval_loss"] for seed in (1, 2, 1)}
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

    monkeypatch.setattr("trials.training.training_step", no_room)
    result = runner.run(TrialSpec(strong(runner), seed=0))
    assert result.status == TrialStatus.FAILED
    assert str(result.error).startswith("out of memory")
    monkeypatch.undo()
    assert runner.run(TrialSpec(strong(runner), seed=0)).status == TrialStatus.COMPLETE


def test_an_interrupt_is_nobodys_failure(runner, monkeypatch):
    def interrupted(*args: object) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr("trials.training.training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(TrialSpec(strong(runner), seed=0))


def test_regression_learns(tiny_model, write_jsonl):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        good = int(rng.integers(0, 4))
        words = ["good"] * good + ["bad"] * (3 - good)
        rng.shuffle(words)
        rows.append({"a": "the film", "b": " ".join(words), "score": good - 1.5})
    task = TaskSpec(
        type="regression", train=str(write_jsonl("r.jsonl", rows)), text=["a", "b"], label="score"
    )
    runner = Runner(ModelSpec(name=str(tiny_model("bert"))), task)
    result = runner.run(TrialSpec({**strong(runner), "batch_size": 8}, seed=0))
    assert result.metrics["pearson"] > 0.5
    assert result.metrics["mse"] == pytest.approx(result.metrics["eval_loss"])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_causal_language_modelling_learns_the_completion(kind, tiny_model, write_jsonl):
    pairs = {"the film was": "good", "the story was": "bad", "one saw": "the end", "people in it": "sad"}
    rows = [{"p": p, "c": c} for p, c in pairs.items()] * 30
    task = TaskSpec(type="causal-lm", train=str(write_jsonl("c.jsonl", rows)), prompt="p", completion="c")
    runner = Runner(ModelSpec(name=str(tiny_model(kind))), task)
    untouched = runner.run(TrialSpec({}))
    result = runner.run(TrialSpec({**strong(runner), "batch_size": 8, "lora.learning_rate": 1e-2}, seed=0))
    assert result.status == TrialStatus.COMPLETE, result.error
    assert result.metrics["eval_loss"] < untouched.metrics["eval_loss"] - 1
    assert result.metrics["token_accuracy"] > untouched.metrics["token_accuracy"]
    assert result.metrics["perplexity"] == pytest.approx(math.exp(result.metrics["eval_loss"]))


@pytest.mark.parametrize("family", sorted(REGISTRY))
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_every_family_that_fits_a_decoder_trains_on_it(kind, family, tiny_model, reviews):
    runner = Runner(ModelSpec(name=str(tiny_model(kind))), classification(reviews))
    if REGISTRY[family].unsupported(runner.base.shape, "sequence-classification"):
        pytest.skip(f"{family} does not fit {kind}")
    config = default_config(runner, family, epochs=1)
    result = runner.run(TrialSpec(config, seed=0, fidelity=Fidelity(train_samples=32)))
    assert result.status == TrialStatus.COMPLETE, result.error


@pytest.mark.parametrize("shape", ["linear", "cosine", "constant"])
def test_schedules_are_those_of_transformers(shape):
    config = {"schedule": shape, "warmup": 0.1}
    steps = 37
    factor = lr_schedule(config, steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if shape == "constant" else shape
    reference = get_scheduler(name, optimizer, warmup_steps(config, steps), steps)
    for step in range(steps):
        assert factor(step) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


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
    result = TrialResult(TrialStatus.FAILED, error="no")
    assert TrialResult.from_json(result.to_json()) == result
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED
