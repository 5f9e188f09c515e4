"""The settings of an exported run, and what the Trainer makes of them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import TrainingArguments

from autotune.export import run_folder
from autotune.export.training_arguments import exported_attention, training_arguments
from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Configuration
from tests.support.tiny_models import batch, build, shape_of
from trials.base import parameter_groups
from trials.tasks.specs import ModelSpec
from trials.training import early_stopping

CONFIG: Configuration = {
    "family": "lora",
    "lora.learning_rate": 1e-2,
    "batch_size": 4,
    "epochs": 1,
    "weight_decay": 0.0,
    "warmup": 0.0,
    "schedule": "constant",
}
CAUSAL = "causal-lm"


def settings(**model: Any) -> dict[str, Any]:
    return training_arguments(CONFIG, ModelSpec(name="x", device="cpu", precision="fp32", **model), 3, seed=0)


def rows(count: int = 8) -> list[dict[str, torch.Tensor]]:
    inputs = batch(CAUSAL)
    return [{name: tensor[i % 4] for name, tensor in inputs.items()} for i in range(count)]


@pytest.fixture
def search_trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Trainer of exported runs, imported as there, from the folder of the run."""
    monkeypatch.syspath_prepend(str(Path(run_folder.__file__).parent / "templates"))
    for module in (parameter_groups, early_stopping):
        monkeypatch.syspath_prepend(str(Path(module.__file__).parent))
    found = import_module("search_trainer")
    yield found
    for name in ("search_trainer", "parameter_groups", "early_stopping"):
        sys.modules.pop(name, None)


def adapted(**config: Any) -> Any:
    """A Llama with LoRA on the matrices of its upper layer alone."""
    base, shape = build("llama", CAUSAL), shape_of("llama", CAUSAL)
    torch.manual_seed(2)
    local = {"rank": 2, "layers": 1, "targets": "all", **config}
    return get_peft_model(base, REGISTRY["lora"].peft_config(local, shape, CAUSAL))


def learned(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def test_the_attention_is_repeated_unless_it_is_the_usual_one() -> None:
    assert exported_attention(ModelSpec(name="x", attn_implementation="eager")) == "eager"
    assert exported_attention(ModelSpec(name="x")) is None


def test_the_trainer_checkpoints_without_gradients_of_the_embeddings(
    search_trainer: Any, tmp_path: Any
) -> None:
    """The same adapter, and below it nothing needs a gradient and no layer is run again."""
    found = []
    for checkpointing in (False, True):
        arguments = settings(gradient_checkpointing=checkpointing)
        model, runs, needs = adapted(), [0, 0], []

        def count(module: Any, inputs: Any, runs: list[int] = runs, needs: list[bool] = needs) -> None:
            runs[module.is_top] += 1
            needs.append(inputs[0].requires_grad)

        for layer in (layers := list(model.get_base_model().model.layers))[:: len(layers) - 1]:
            layer.mlp.is_top = layer is layers[-1]
            layer.mlp.register_forward_pre_hook(count)
        trainer = search_trainer.SearchTrainer(
            model=model, args=TrainingArguments(str(tmp_path), **arguments), train_dataset=rows()
        )
        trainer.train()
        assert runs == [2, 4 if checkpointing else 2], "two steps"
        assert needs[0] is False
        found.append(learned(model))
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=1e-6, rtol=1e-5)
