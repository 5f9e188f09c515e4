"""Frozen matrices that are multiplied in bf16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from search_spaces.families import REGISTRY
from tests.support.grids import REPRESENTATIVES
from tests.support.packs import agree, alone, packed, spec
from tests.support.trials import classification
from trials.base.frozen_linear import FrozenLinear, padded_rows
from trials.base.half_precision import Bf16Form, store_in_bf16
from trials.execution.runner import Runner
from trials.tasks.specs import ModelSpec


def test_numbers_of_rows_are_few_and_near():
    numbers = {padded_rows(n) for n in range(1, 2049)}
    assert len(numbers) < 64
    assert all(0 <= padded_rows(n) - n < max(16, n / 8) for n in range(1, 4097))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_products_are_those_of_autocast_plus_the_bias_in_fp32(rows: int, bias: bool):
    torch.manual_seed(0)
    plain = nn.Linear(24, 12, bias=bias).requires_grad_(False)
    layer = FrozenLinear(plain, Bf16Form(plain.weight))
    x = torch.randn(rows, 24, requires_grad=True)
    weights = torch.randn(rows, 12)
    got = layer(x)
    (grad,) = torch.autograd.grad((got * weights).sum(), x)
    wanted = nn.functional.linear(x.detach().bfloat16(), plain.weight.bfloat16()).float()
    torch.testing.assert_close(got, wanted + (plain.bias if bias else 0))
    torch.testing.assert_close(grad, (weights.bfloat16() @ plain.weight.bfloat16()).float())
    assert got.dtype == grad.dtype == torch.float32


def test_a_matrix_that_is_trained_is_multiplied_in_bf16_with_a_gradient_in_fp32():
    torch.manual_seed(0)
    plain = nn.Linear(24, 12).requires_grad_(False)
    layer = FrozenLinear(plain, Bf16Form(plain.weight))
    layer.weight.requires_grad_(True)
    layer(torch.randn(5, 24)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert copy.deepcopy(layer).own_form is layer.own_form


@pytest.fixture(scope="module")
def runners(tiny_model: Callable[[str], Path], reviews: Path) -> tuple[Runner, Runner]:
    torch.set_num_threads(1)
    model = ModelSpec(name=str(tiny_model("bert")), precision="fp32")
    half = model.model_copy(update={"precision": "bf16"})
    return Runner(model, classification(reviews)), Runner(half, classification(reviews))


def test_trials_are_near_those_in_fp32_alone_and_in_a_pack(runners):
    exact, half = runners
    assert (exact.base.products, half.base.products) == ("fp32", "bf16")
    specs = [spec(half, family, number) for number, family in enumerate(REPRESENTATIVES)]
    for s, together in zip(specs, packed(half, specs), strict=True):
        agree(together, alone(half, s), rel=1e-2)
        agree(together, alone(exact, s), rel=2e-2)


def test_frozen_matrices_are_not_cast_in_a_forward_pass(runners):
    """Neither on a CPU, nor with autocast once they are stored in bf16."""
    _, half = runners
    texts = {"input_ids": torch.tensor([[2, 9, 10, 30, 3]])}
    assert not cast_weights(half.base.model, half.base.computing, texts)

    exact, _ = runners
    stored = copy.deepcopy(exact.base.model)
    store_in_bf16(stored, exact.base.shape)
    autocast = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731
    inside = exact.base.shape.layers_path
    assert any(name.startswith(inside) for name in cast_weights(exact.base.model, autocast, texts))
    assert not any(name.startswith(inside) for name in cast_weights(stored, autocast, texts))


def test_no_family_trains_another_parameter_on_a_base_stored_in_bf16(tiny_model, reviews):
    """peft moves an adapter to the dtype of the base, and makes tensors that it moves trainable."""
    task, model = classification(reviews), ModelSpec(name=str(tiny_model("gpt2")), precision="fp32")
    runner = Runner(model, task)
    stored = Runner(model.model_copy(update={"precision": "bf16"}), task)
    assert stored.base.autocast == torch.bfloat16
    shape = runner.base.shape
    for family in REPRESENTATIVES:
        if REGISTRY[family].unsupported(shape, shape.task) is not None:
            continue
        config = spec(runner, family, 0).config
        exact, half = (
            {name for name, p in each.base.adapted(config, 0).named_parameters() if p.requires_grad}
            for each in (runner, stored)
        )
        assert half == exact, family


def cast_weights(model: nn.Module, context: Callable, inputs: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of the model's matrices that a forward pass copies to another dtype."""
    from torch.utils._python_dispatch import TorchDispatchMode

    pointers = {p.data_ptr(): name for name, p in model.named_parameters() if p.ndim == 2}
    found: set[str] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default and args[0].data_ptr() in pointers:
                found.add(pointers[args[0].data_ptr()])
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), context(), Watch():
        model(**inputs)
    return found
