"""What a family may ask of the training loop: learning rates of its own, a schedule, a call after each step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.families import REGISTRY
from search_spaces.language.loader import load_space
from trials.base.parameter_groups import decay_groups, scale_learning_rates
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

COMMON = {"batch_size": 16, "epochs": 2, "weight_decay": 0.01, "warmup": 0.1, "schedule": "linear"}
SMALL = Fidelity(train_samples=48, eval_samples=40)


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    torch.set_num_threads(1)
    named: dict[str, Any] = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    return Runner(ModelSpec(name=str(tiny_model("bert"))), TaskSpec(text="sentence", label="label", **named))


def config(runner: Runner, family: str, **changes: Any) -> dict[str, Any]:
    space = load_space({"families": [family]}, shape=runner.base.shape, task=runner.base.task.type).space
    return {**space.default(family=family), **COMMON, **changes}


def test_pissa_changes_its_own_weights_and_leaves_the_base_alone(runner: Runner) -> None:
    before = {name: tensor.clone() for name, tensor in runner.base.model.state_dict().items()}
    pissa, plain = config(runner, "lora", **{"lora.init": "pissa"}), config(runner, "lora")
    model = runner.base.adapted(pissa, seed=0)
    query = model.base_model.model.bert.encoder.layer[0].attention.self.query.base_layer.weight
    assert not torch.equal(query, before["bert.encoder.layer.0.attention.self.query.weight"])
    first, _, again = (runner.run(TrialSpec(c, seed=1, fidelity=SMALL)) for c in (plain, pissa, plain))
    assert first.status == TrialStatus.COMPLETE
    assert first.metrics == again.metrics
    after = runner.base.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_copy_of_the_base_takes_no_memory_of_its_own(runner: Runner) -> None:
    own = {tensor.data_ptr() for tensor in runner.base.model.parameters()}
    heads = tuple(runner.base.shape.head_modules)
    for name, tensor in runner.base.skeleton().named_parameters():
        assert (tensor.data_ptr() in own) == (not name.startswith(heads)), name


def test_a_frozen_a_stays_as_it_was_drawn(runner: Runner) -> None:
    frozen = config(runner, "lora", **{"lora.freeze_a": True})
    model = runner.base.adapted(frozen, seed=0)
    parts = {part for name, p in model.named_parameters() if p.requires_grad for part in name.split(".")}
    assert "lora_B" in parts
    assert "lora_A" not in parts
    result = runner.run(TrialSpec(frozen, seed=0, fidelity=SMALL))
    assert result.status == TrialStatus.COMPLETE, result.error


def test_the_ratio_of_lora_plus_reaches_the_optimiser_and_nothing_is_lost(runner: Runner) -> None:
    model = runner.base.adapted(config(runner, "lora"), seed=0)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(decay_groups(list(named.values()), 0.1), lr=1e-3)
    scale_learning_rates(optimizer, model, {"lora_B": 8.0})
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(named) == sum(len(group["params"]) for group in optimizer.param_groups)
    for name, parameter in named.items():
        assert rates[id(parameter)] == pytest.approx(8e-3 if ".lora_B." in name else 1e-3), name
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(decays[id(p)] == (0.1 if p.ndim > 1 else 0.0) for p in named.values())


def test_a_larger_ratio_moves_b_further(runner: Runner) -> None:
    losses = {}
    for ratio in (1.0, 16.0):
        changed = config(runner, "lora", **{"lora.lr_ratio": ratio, "lora.learning_rate": 3e-3})
        losses[ratio] = runner.run(TrialSpec(changed, seed=0, fidelity=SMALL)).metrics["eval_loss"]
    assert losses[1.0] != losses[16.0]


def test_every_step_is_reported_to_the_family_with_its_gradients(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, bool]] = []

    def after_step(model: Any, step: int) -> None:
        gradients = any(p.grad is not None for p in model.parameters() if p.requires_grad)
        seen.append((step, model.active_peft_config.total_step, gradients))

    monkeypatch.setattr(REGISTRY["adalora"], "after_step", after_step)
    runner.run(TrialSpec(config(runner, "adalora"), seed=0, fidelity=SMALL))
    assert seen == [(step, 6, True) for step in range(1, 7)]
