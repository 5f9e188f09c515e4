"""Gradient checkpointing in trials: the same numbers, less memory, and a second forward pass that is priced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.costs.cost_model import CostModel
from search_spaces.errors import InvalidInputError
from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Configuration
from tests.support.packs import agree, alone, packed, spec
from tests.support.tiny_models import DEPTH, batch, build, shape_of, workload
from tests.support.trials import classification
from trials.base.checkpointing import checkpoint_layers, is_checkpointed
from trials.base.model import training_mode
from trials.execution.runner import Runner
from trials.packing.memory import SavedTensors
from trials.packing.memory_model import Computation, MemoryModel
from trials.tasks.specs import ModelSpec

TASK = "sequence-classification"


def adapted(family: str, config: Configuration, model: str, checkpointing: bool) -> Any:
    """A model in the mode of a trial: the base model without its dropout, which here has some."""
    base, shape = build(model, TASK), shape_of(model, TASK)
    base.requires_grad_(False)
    if checkpointing:
        checkpoint_layers(base, shape)
    torch.manual_seed(2)
    model = get_peft_model(base, REGISTRY[family].peft_config(config, shape, TASK))
    training_mode(model)
    return model


def measured(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[list[torch.Tensor], int, int]:
    """The loss and the gradients, the FLOPs, and the bytes that autograd keeps of the layers."""
    torch.manual_seed(3)  # of the adapter's dropout
    with FlopCounterMode(display=False) as counter, SavedTensors([*model.parameters()]) as saved:
        loss = model(**inputs).loss
        kept = saved.bytes
        loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert not [name for name, p in model.named_parameters() if p.grad is not None and not p.requires_grad]
    return [loss.detach(), *gradients], counter.get_total_flops(), kept


CONFIGS: list[tuple[str, Configuration]] = [
    ("lora", {"rank": 3, "dropout": 0.1}),
    ("lora", {"rank": 3, "layers": 1, "targets": "q+v"}),
    ("layer-prefix", {"layers": 2, "tokens": 2}),
    ("head", {}),
]


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama", "t5", "bart"])
@pytest.mark.parametrize(("family", "config"), CONFIGS, ids=lambda value: str(value))
def test_losses_and_gradients_are_the_same(family: str, config: Configuration, model: str) -> None:
    if REGISTRY[family].unsupported(shape_of(model, TASK), TASK):
        pytest.skip(f"{family} does not fit {model}")
    inputs = batch(TASK, padded=True)
    plain, flops, kept = measured(adapted(family, config, model, False), inputs)
    again, more_flops, less = measured(adapted(family, config, model, True), inputs)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert more_flops >= flops
    if family == "lora":
        assert more_flops > flops
        assert less < kept


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama", "t5", "deberta"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_second_run_is_priced(model: str, layers: int) -> None:
    """Whole layers; torch leaves out the last product where no last normalization of the layer reads it."""
    shape, config = shape_of(model, TASK), {"rank": 3, "layers": layers, "targets": "q+v"}
    full = {"family": "lora", **{f"lora.{name}": value for name, value in config.items()}}
    once, twice = (
        CostModel(shape, TASK, workload(TASK), checkpointing)(full).train_flops
        for checkpointing in (False, True)
    )
    _, plain, _ = measured(adapted("lora", config, model, False), batch(TASK))
    _, again, _ = measured(adapted("lora", config, model, True), batch(TASK))
    assert once == pytest.approx(plain, rel=1e-9)
    assert again <= twice * (1 + 1e-9)
    last = max(2.0 * m.inputs * m.outputs for m in shape.matrices) * workload(TASK).train_samples
    assert twice - again <= layers * last * workload(TASK).tokens
    if model in ("bert", "deberta"):
        assert twice == pytest.approx(again, rel=1e-9)


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    model = ModelSpec(name=str(tiny_model("bert")), precision="fp32", gradient_checkpointing=True)
    return Runner(model, classification(reviews))


def test_packs_train_as_alone_and_as_without(
    runner: Runner, tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    usual = Runner(ModelSpec(name=str(tiny_model("bert")), precision="fp32"), classification(reviews))
    specs = [
        spec(runner, "lora", 0, epochs=1, **{"lora.dropout": 0.0}),
        spec(runner, "lora", 1, epochs=1, **{"lora.layers": 1, "lora.dropout": 0.0}),
        spec(runner, "serial", 2, epochs=1),
    ]
    assert is_checkpointed(runner.base.model)
    assert is_checkpointed(runner.base.adapted(specs[0].config, 0))
    for result, s in zip(packed(runner, specs), specs, strict=True):
        agree(result, alone(runner, s))
        agree(result, alone(usual, s))


def test_the_memory_model_predicts_less(runner: Runner) -> None:
    config, shape = spec(runner, "lora").config, runner.base.shape
    assert Computation.of(runner.base).checkpointing
    found = [
        MemoryModel(shape, Computation(checkpointing=checkpointing)).kept([config], 1024, 32)
        for checkpointing in (False, True)
    ]
    assert found[1] < 0.7 * found[0]
    one_layer = MemoryModel(shape, Computation(checkpointing=True)).kept(
        [{**config, "lora.layers": 1}], 1024, 32
    )
    assert found[1] - one_layer == pytest.approx((shape.depth - 1) * 4 * shape.width * 1024, rel=0.5)


def test_attention_in_fp32_is_the_same_in_the_second_run(
    tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    """Autocast is restored by torch; the context of the attention is not."""
    runners = [
        Runner(
            ModelSpec(
                name=str(tiny_model("llama")), precision="bf16", weights="bf16", gradient_checkpointing=on
            ),
            classification(reviews),
        )
        for on in (False, True)
    ]
    assert runners[1].base.attends_in_fp32
    first, second = (alone(each, spec(each, "lora", epochs=1)) for each in runners)
    agree(first, second, rel=1e-3)


def test_an_architecture_without_it_is_refused() -> None:
    model, shape = build("bert", TASK), shape_of("bert", TASK)
    type_of = type("Unsupported", (type(model),), {"supports_gradient_checkpointing": False})
    model.__class__ = type_of
    with pytest.raises(InvalidInputError, match=r"model\.gradient_checkpointing: .* bert.*Remove it"):
        checkpoint_layers(model, shape)
    assert len(list(model.get_submodule(shape.layers_path).children())) == DEPTH
    assert not is_checkpointed(model)
