"""Checkpoints that lack a part of the head, and checkpoints that lack more than that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from autotune.prepare.prepared_sweep import prepare
from search_spaces.errors import InvalidInputError
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import local_config
from search_spaces.language.loader import load_space
from tests.support.sweeps import small_sweep
from tests.support.tiny_models import shape_of
from tests.support.trials import COMMON, classification
from trials.base.model import Base, check_base, check_machine, load_base
from trials.data.task_data import load_task
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec

FIDELITY = Fidelity(train_samples=16, eval_samples=16, evaluations=1)
POOLER = "bert.pooler.dense"


def without(model: Path, folder: Path, *parts: str) -> Path:
    """Copy a model without the weights whose names contain one of the parts."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: x for name, x in weights.items() if not any(part in name for part in parts)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def masked(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as masked language modeling saves it: without a pooler."""
    return without(tiny_model("bert"), tmp_path_factory.mktemp("masked") / "bert", "pooler")


@pytest.fixture(scope="module")
def runner(masked: Path, reviews: Path) -> Runner:
    return Runner(ModelSpec(name=str(masked)), classification(reviews))


def pooler_of(model: torch.nn.Module) -> torch.Tensor:
    return next(p for name, p in model.named_parameters() if "modules_to_save" in name and "pooler" in name)


def test_a_missing_pooler_becomes_a_part_of_the_head(
    runner: Runner, tiny_model: Callable[[str], Path]
) -> None:
    shape, width = runner.base.shape, runner.base.shape.width
    assert shape.head_modules == (POOLER, "classifier")
    assert shape.new_head_parts == runner.base.new_heads[:1] == (POOLER,)
    assert shape.head_parameters == width * width + width + 2 * width + 2
    assert [(m.name, m.trained) for m in shape.head] == [(POOLER, True), ("classifier", True)]
    data = runner.data
    complete = load_base(ModelSpec(name=str(tiny_model("bert"))), runner.base.task, data).shape
    assert complete.head_modules == ("classifier",)
    moved = shape.head_parameters - complete.head_parameters
    assert complete.base_parameters - shape.base_parameters == moved == width * width + width


def test_the_pooler_of_albert_is_a_part_of_the_head_too() -> None:
    """It is one matrix beside the layers, and its adapter is that of the one layer."""
    shape = shape_of("albert", "regression")
    new = shape.with_new_head_parts({"albert.pooler.weight", "albert.pooler.bias", "classifier.weight"})
    assert new.head_modules == ("albert.pooler", "classifier")
    assert new.new_head_parts == ("albert.pooler",)
    assert new.head_parameters - shape.head_parameters == shape.width**2 + shape.width
    assert shape.with_new_head_parts({"classifier.weight"}) == shape


def test_each_seed_draws_its_own_pooler(runner: Runner) -> None:
    def drawn(base: Base, seed: int) -> torch.Tensor:
        return pooler_of(base.adapted({"family": "head"}, seed)).detach()

    assert torch.equal(drawn(runner.base, 1), drawn(runner.base, 1))
    assert not torch.equal(drawn(runner.base, 1), drawn(runner.base, 2))


@pytest.mark.parametrize("family", ["head", "lora", "full", "serial", "norm"])
def test_the_new_pooler_is_trained_counted_and_saved(family: str, runner: Runner, tmp_path: Path) -> None:
    shape = runner.base.shape
    space = load_space({"families": [family]}, shape=shape, task=shape.task).space
    config = {**space.default(family=family), **COMMON, "epochs": 1}
    result = runner.run(TrialSpec(config, seed=0, fidelity=FIDELITY))
    assert result.status == TrialStatus.COMPLETE, result.error
    cost = REGISTRY[family].cost(local_config(family, config), shape)
    assert result.trainable_params == cost.parameters + shape.head_parameters
    model = runner.base.adapted(config, 0)
    assert pooler_of(model).requires_grad
    model.save_pretrained(str(tmp_path))
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert f"base_model.model.{POOLER}.weight" in saved
    loaded = PeftModel.from_pretrained(runner.base.skeleton(), str(tmp_path))
    assert torch.equal(pooler_of(loaded), pooler_of(model))


def test_a_sweep_prices_the_new_pooler_and_names_it(masked: Path, reviews: Path) -> None:
    prepared = prepare(small_sweep(masked, reviews))
    assert prepared.shape.head_modules == (POOLER, "classifier")
    assert prepared.cost_table({"family": "head"})["head_params"] == prepared.shape.head_parameters
    (note,) = [note for note in prepared.notes if POOLER in note]
    assert "the checkpoint has no weights of" in note


def test_other_missing_weights_are_refused_by_name(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    folder = without(tiny_model("bert"), tmp_path / "torn", "pooler", "layer.1.output.dense.bias")
    spec, task = ModelSpec(name=str(folder)), classification(reviews)
    with pytest.raises(
        InvalidInputError, match=r"lacks the weights bert\.encoder\.layer\.1\.output\.dense\.bias\. "
    ):
        load_base(spec, task, load_task(task, spec))


def attending(folder: Path, implementation: str) -> ModelSpec:
    return ModelSpec(name=str(folder), attn_implementation=implementation)


@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        ("flash_attention_2", "runs on CUDA devices only, and the device is cpu.*Write sdpa"),
        ("flash_attention_3", "runs on CUDA devices only"),
        ("flex_attention", "no backward pass of flex_attention on CPUs"),
        ("flash_attention_9", "transformers has no attention 'flash_attention_9'"),
        ("paged|eager", "transformers has no attention"),
    ],
)
def test_attention_that_this_machine_lacks_is_named(
    implementation: str, message: str, tiny_model: Callable[[str], Path]
) -> None:
    spec = attending(tiny_model("bert"), implementation).model_copy(update={"device": "cpu"})
    with pytest.raises(InvalidInputError, match=rf"model\.attn_implementation: .*{message}"):
        check_machine(spec)


def test_the_earlier_name_of_the_attention_is_read() -> None:
    spec = ModelSpec.model_validate({"name": "x", "attention": "eager"})
    assert spec.attn_implementation == "eager"
    assert "attention" not in spec.model_dump()
    with pytest.raises(ValueError, match="attention"):
        ModelSpec.model_validate({"name": "x", "attention": "eager", "attn_implementation": "sdpa"})


def test_attention_that_the_architecture_lacks_is_named(
    tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    """Also for the smaller base models of a ladder, before the first trial."""
    model, task = attending(tiny_model("deberta"), "sdpa"), classification(reviews)
    data = load_task(task, model)
    for check in (check_base, load_base):
        with pytest.raises(
            InvalidInputError, match=r"model\.attn_implementation: .* has no sdpa attention.*auto"
        ):
            check(model, task, data)
