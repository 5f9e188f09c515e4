"""The settings of an exported run, and what the Trainer makes of them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from peft import get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast, TrainingArguments

from autotune.export import run_folder
from autotune.export.training_arguments import (
    accumulation_note,
    exported_attention,
    micro_batch,
    training_arguments,
)
from search_spaces.families import REGISTRY
from search_spaces.model.shape import TaskType
from search_spaces.parameters.types import Configuration
from tests.support.tiny_models import build, shape_of
from trials.base import parameter_groups
from trials.kinds.registry import find_kind
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


def settings(micro: int | None = None, **model: Any) -> dict[str, Any]:
    found = training_arguments(exported(**model)) | {"disable_tqdm": True}
    if micro is not None:
        found |= {"per_device_train_batch_size": micro, "gradient_accumulation_steps": 4 // micro}
    return found


def exported(chunk_tokens: float = float("nan"), task: dict[str, Any] | None = None, **model: Any) -> Any:
    """What the settings read of an exported trial; the longest example has 10 tokens."""
    task = task or {"type": CAUSAL}
    return SimpleNamespace(
        config=CONFIG,
        sweep=SimpleNamespace(
            model=ModelSpec(name="x", device="cpu", precision="fp32", **model),
            task=SimpleNamespace(type=task["type"]),
        ),
        data=SimpleNamespace(
            fields=task, at_length=lambda *_: SimpleNamespace(splits={"train": rows(CAUSAL)})
        ),
        results=SimpleNamespace(trials=pd.DataFrame([{"trial": 7, "seed": 0, "chunk_tokens": chunk_tokens}])),
        trial=7,
        steps=3,
        tokens=None,
    )


TOKENIZER = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel({"[PAD]": 0}, unk_token="[PAD]")), pad_token="[PAD]"
)
"""A tokenizer that pads; the examples are encoded already."""


def rows(task: TaskType, count: int = 8) -> list[dict[str, Any]]:
    """Examples of different lengths, and so with different numbers of targets."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for i in range(count):
        ids = torch.randint(3, 90, (4 + 3 * (i % 3),), generator=generator).tolist()
        labels = {
            "causal-lm": [-100] * (i % 4) + ids[i % 4 :],
            "regression": float(i) / count,
            "sequence-classification": i % 3,
        }
        found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels[task]})
    return found


@pytest.fixture
def search_trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Trainer of exported runs, imported as there, from the folder of the run."""
    monkeypatch.syspath_prepend(str(Path(run_folder.__file__).parent / "templates"))
    for module in (parameter_groups, early_stopping):
        monkeypatch.syspath_prepend(str(Path(module.__file__).parent))
    found = import_module("search_trainer")
    yield found
    for name in ("search_trainer", "parameter_groups", "early_stopping", "added_loss"):
        sys.modules.pop(name, None)


def adapted(task: TaskType, family: str = "lora", **config: Any) -> Any:
    """A Llama with an adapter on the matrices of its upper layer alone."""
    base, shape = build("llama", task), shape_of("llama", task)
    base.config.pad_token_id = 0
    torch.manual_seed(2)
    local = {"rank": 2, "layers": 1, "targets": "all", **config}
    return get_peft_model(base, REGISTRY[family].peft_config(local, shape, task))


def trainer_of(
    module: Any, folder: Path, arguments: dict[str, Any], model: Any, task: TaskType, rows_of: int = 10
) -> Any:
    return module.SearchTrainer(
        model=model,
        args=TrainingArguments(str(folder), **arguments),
        train_dataset=rows(task, rows_of),
        data_collator=module.Collator(find_kind(task), TOKENIZER),
    )


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
        model, runs, needs = adapted(CAUSAL), [0, 0], []

        def count(module: Any, inputs: Any, runs: list[int] = runs, needs: list[bool] = needs) -> None:
            runs[module.is_top] += 1
            needs.append(inputs[0].requires_grad)

        for layer in (layers := list(model.get_base_model().model.layers))[:: len(layers) - 1]:
            layer.mlp.is_top = layer is layers[-1]
            layer.mlp.register_forward_pre_hook(count)
        trainer_of(search_trainer, tmp_path, arguments, model, CAUSAL).train()
        assert runs == [3, 6 if checkpointing else 3], "three steps"
        assert needs[0] is False
        found.append(learned(model))
    assert found[0].keys() == found[1].keys()
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("batch_size", "longest", "tokens", "expected"),
    [
        (32, 64, 2048, 32),
        (32, 64, 2047, 16),
        (32, 128, 500, 2),
        (32, 128, 64, 1),
        (6, 10, 45, 3),
        (7, 10, 45, 1),
    ],
)
def test_a_micro_batch_fits_into_the_chunks_of_the_trial(
    batch_size: int, longest: int, tokens: int, expected: int
) -> None:
    assert micro_batch(batch_size, longest, tokens) == expected


@pytest.mark.parametrize(("tokens", "micro"), [(float("nan"), 4), (40, 4), (39, 2), (20, 2), (19, 1), (5, 1)])
def test_an_export_divides_its_batches_as_its_trial_did(tokens: float, micro: int) -> None:
    arguments = training_arguments(exported(tokens))
    assert arguments["per_device_train_batch_size"] == micro
    assert arguments["per_device_train_batch_size"] * arguments["gradient_accumulation_steps"] == 4
    assert (f"micro-batches of {micro}," in accumulation_note(arguments)) == (micro < 4)


def test_a_loss_of_the_whole_batch_is_not_divided() -> None:
    sizes = {}
    for loss in ("dpo", "kto"):
        arguments = training_arguments(exported(20, {"type": "preference", "loss": loss}))
        sizes[loss] = arguments["per_device_train_batch_size"]
    assert sizes == {"dpo": 2, "kto": 4}


def whole_losses(model: Any, task: TaskType, order: list[list[int]]) -> list[float]:
    """The losses of the search for the batches that the Trainer draws, before any step."""
    kind, examples = find_kind(task), rows(task, 10)
    found = []
    for indices in order:
        chosen = [examples[i] for i in indices]
        made = kind.collate(chosen, TOKENIZER)
        losses = kind.losses(model.eval()(**made.inputs), made.targets)
        found.append(losses.sum().item() / sum(map(kind.target_count, chosen)))
    return found


@pytest.mark.parametrize("task", ["causal-lm", "regression", "sequence-classification"])
def test_accumulated_micro_batches_are_one_batch(search_trainer: Any, tmp_path: Path, task: TaskType) -> None:
    """The same adapter after three steps, the last of two examples, and the same logged losses."""
    found, logged = [], []
    for micro in (None, 2, 1):
        model = adapted(task)
        trainer = trainer_of(search_trainer, tmp_path, settings(micro) | {"logging_steps": 1}, model, task)
        trainer.train()
        found.append(learned(model))
        logged.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(logged[0]) == 3
    for micro, losses in zip(found[1:], logged[1:], strict=True):
        assert losses == pytest.approx(logged[0], abs=1e-5)
        for name, tensor in found[0].items():
            torch.testing.assert_close(tensor, micro[name], atol=1e-5, rtol=1e-5)
    start = whole_losses(adapted(task), task, [list(range(4))])
    assert start[0] == pytest.approx(float(loss_of(search_trainer, tmp_path, task)), abs=1e-5)


def loss_of(module: Any, folder: Path, task: TaskType) -> torch.Tensor:
    """The loss that the Trainer computes for the first four examples in two micro-batches."""
    trainer = trainer_of(module, folder, settings(2), adapted(task).eval(), task)
    batches = [trainer.data_collator(rows(task, 10)[i : i + 2]) for i in (0, 2)]
    count = sum(int(each[module.TARGETS].sum()) for each in batches)
    return sum(
        trainer.compute_loss(trainer.model, each, num_items_in_batch=count).detach() for each in batches
    )


def test_a_balance_of_experts_counts_by_the_share_of_the_targets(search_trainer: Any, tmp_path: Path) -> None:
    model = adapted(CAUSAL, "molora", balance=0.5).train()
    trainer = trainer_of(search_trainer, tmp_path, settings(2), model, CAUSAL)
    made = trainer.data_collator(rows(CAUSAL, 2))
    whole, count = trainer.compute_loss(model, made), int(made[search_trainer.TARGETS].sum())
    half = trainer.compute_loss(model, made, num_items_in_batch=2 * count)
    task = trainer.compute_loss(model.eval(), made)
    assert float(whole.detach() - task.detach()) > 0.1
    torch.testing.assert_close(half, whole / 2, atol=1e-6, rtol=0)
