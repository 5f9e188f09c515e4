"""The frozen matrices in int8: near the products in fp32, the same beside any other rows."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from torch import nn

from search_spaces.errors import InvalidInputError
from tests.support.packs import agree, alone, packed, spec
from tests.support.processors import ROUNDING, needs_vnni
from tests.support.trials import classification
from trials.base import processor
from trials.base.frozen_linear import FrozenLinear, replace_linear, with_form
from trials.base.int8_linear import Int8Form, Int8Matrix, check_int8
from trials.execution.runner import Runner
from trials.packing.lora import add_products, plain_factors
from trials.packing.prefix_store import base_digest
from trials.tasks.specs import ModelSpec


@pytest.fixture(scope="module")
def runners(tiny_model: Callable[[str], Path], reviews: Path) -> tuple[Runner, Runner]:
    """On the same base: in fp32 and in int8."""
    torch.set_num_threads(1)
    model = ModelSpec(name=str(tiny_model("bert")), precision="fp32")
    task = classification(reviews)
    return Runner(model, task), Runner(model.model_copy(update={"precision": "int8"}), task)


def off(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """The distance as a share of what is wanted."""
    return float((got - wanted).norm() / wanted.norm())


def in_int8(linear: nn.Linear) -> FrozenLinear:
    return with_form(linear, Int8Form)


@needs_vnni
@pytest.mark.parametrize(("n", "inputs", "outputs"), [(1, 7, 5), (700, 384, 96), (90, 3000, 33)])
def test_product_is_near_the_exact_one(n, inputs, outputs):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(n, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    x *= torch.logspace(-6, 3, n)[:, None]  # every row has its own size
    weight *= torch.logspace(-3, 2, outputs)[:, None]
    matrix = Int8Matrix(weight)
    # Each of the two factors is off by 0.8 % of its size, at random, so that the sums are off by 1.1 % of theirs.
    size = x.norm(dim=1)[:, None] * weight.norm(dim=1) / inputs**0.5
    assert ((matrix(x) - x @ weight.t()).abs() / size).max() < 0.07
    torch.testing.assert_close(matrix(x, bias), matrix(x) + bias)
    torch.testing.assert_close(matrix(x.t().contiguous().t()), matrix(x), rtol=0, atol=0)


@needs_vnni
def test_rows_are_rounded_to_the_nearest_of_127_steps():
    """Whole numbers up to 127 are multiplied exactly."""
    torch.manual_seed(0)
    x = torch.randint(-126, 127, (60, 40)).float()
    weight = torch.randint(-126, 127, (20, 40)).float()
    x[:, 0] = weight[:, 1] = 127
    matrix, wanted = Int8Matrix(weight), x @ weight.t()
    torch.testing.assert_close(matrix(x), wanted, rtol=1e-5, atol=0.1)
    x[:, 1:] += 0.9 * (torch.rand(60, 39) - 0.5)  # rounds to what it was
    torch.testing.assert_close(matrix(x), wanted, rtol=1e-5, atol=0.1)


def multiplied_as_by_amx(matrix: Int8Matrix) -> Int8Matrix:
    """Have a matrix multiply as oneDNN 3.12 does on a processor with AMX, up to what bits the sums have.

    The AMX kernel multiplies the exact sum by the product of the scales; the kernel for few rows, as that of
    processors without AMX, by one scale after the other.
    """
    multiply = matrix._multiply

    def by_product_of_scales(rows, scale, zero, weight, scales, *others):
        if len(rows) <= 32 and len(rows) * len(scales) <= 256:
            return multiply(rows, scale, zero, weight, scales, *others)
        return multiply(rows, 1.0, zero, weight, torch.ones_like(scales), *others).mul_(scale * scales)

    matrix._multiply = by_product_of_scales
    return matrix


@needs_vnni
@pytest.mark.parametrize("kernel", [lambda matrix: matrix, multiplied_as_by_amx], ids=["own", "amx"])
def test_a_row_becomes_the_same_beside_others(kernel):
    torch.manual_seed(0)
    x, matrix = torch.randn(1000, 300), kernel(Int8Matrix(torch.randn(64, 300)))
    x[500:] *= 1000
    together = matrix(x)
    for rows in (slice(0, 1), slice(3, 400), slice(450, 620)):
        torch.testing.assert_close(together[rows], matrix(x[rows]), rtol=ROUNDING, atol=0)


@needs_vnni
def test_kernels_of_two_processors_differ_by_rounding_alone():
    torch.manual_seed(0)
    x, weight = torch.randn(1000, 300), torch.randn(64, 300)
    one, other = Int8Matrix(weight), multiplied_as_by_amx(Int8Matrix(weight))
    if "amx_int8" not in processor.instructions():
        assert not torch.equal(one(x), other(x))
    torch.testing.assert_close(one(x), other(x), rtol=ROUNDING, atol=0)


@needs_vnni
def test_rows_of_zeros_stay_zero_and_numbers_that_are_none_are_not_hidden():
    x = torch.ones(4, 16)
    x[1], x[2, 3], x[3, 3] = 0, torch.inf, torch.nan
    y = Int8Matrix(torch.ones(8, 16))(x)
    torch.testing.assert_close(y[0], torch.full((8,), 16.0))
    assert torch.equal(y[1], torch.zeros(8))
    assert not y[2].isfinite().any()
    assert y[3].isnan().all()


@needs_vnni
def test_gradients_are_near_the_exact_ones():
    torch.manual_seed(0)
    exact = nn.Linear(48, 32)
    exact.weight.requires_grad_(False)
    layer = in_int8(exact)
    x, weights = torch.randn(5, 9, 48, requires_grad=True), torch.randn(5, 9, 32)
    wanted = torch.autograd.grad((exact(x) * weights).sum(), [x, exact.bias])
    got = torch.autograd.grad((layer(x) * weights).sum(), [x, layer.bias])
    assert 0 < off(got[0], wanted[0]) < 0.03
    torch.testing.assert_close(got[1], wanted[1])


@needs_vnni
def test_lora_of_a_pack_is_that_of_peft():
    torch.manual_seed(0)
    base = in_int8(nn.Linear(12, 20).requires_grad_(False))
    config = LoraConfig(r=3, target_modules=["0"], init_lora_weights=False)
    layer = get_peft_model(nn.Sequential(base), config).base_model.model[0]
    x, weights = torch.randn(7, 3, 12, requires_grad=True), torch.randn(7, 3, 20)
    tensors = [x, *(p for p in layer.parameters() if p.requires_grad)]
    expected = torch.cat([layer(x[:4]), layer.get_base_layer()(x[4:])])
    wanted = torch.autograd.grad((expected * weights).sum(), tensors)
    factors = plain_factors(layer, layer.get_base_layer())
    y = add_products(x, layer.get_base_layer(), [(slice(0, 4), factors), (slice(4, 7), None)])
    torch.testing.assert_close(y, expected)
    for got, want in zip(torch.autograd.grad((y * weights).sum(), tensors), wanted, strict=True):
        torch.testing.assert_close(got, want)


@needs_vnni
def test_a_matrix_that_is_trained_or_replaced_is_multiplied_in_fp32():
    torch.manual_seed(0)
    plain = nn.Linear(12, 20).requires_grad_(False)
    layer, x = in_int8(plain), torch.randn(3, 12)
    assert copy.deepcopy(layer).own_form is layer.own_form is not None
    assert not torch.equal(layer(x), plain(x))
    layer.weight.requires_grad_(True)
    torch.testing.assert_close(layer(x), plain(x))
    layer.weight.requires_grad_(False)
    layer.weight.data = plain.weight + 1  # of the layer that it shares it with as well
    torch.testing.assert_close(layer(x), plain(x))


@needs_vnni
def test_only_linear_layers_are_changed():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2, bias=False)))
    shared = layers[0].weight
    assert replace_linear(layers, Int8Form) == 2
    assert [type(module) for module in layers[1]] == [nn.LayerNorm, FrozenLinear]
    assert layers[0].weight is shared
    assert sorted(layers.state_dict()) == ["0.bias", "0.weight", "1.0.bias", "1.0.weight", "1.1.weight"]


FAMILIES = ("lora", "ia3", "serial", "norm", "bitfit", "prefix", "composite", "full")


@needs_vnni
def test_trials_are_near_those_in_fp32(runners):
    exact, fast = runners
    assert fast.base.products == "int8"
    assert exact.base.products == "fp32"
    specs = [spec(fast, family, number) for number, family in enumerate(FAMILIES)]
    specs.append(spec(fast, "lora", 9, **{"lora.init": "pissa"}))
    for s, together in zip(specs, packed(fast, specs), strict=True):
        agree(together, alone(fast, s), rel=1e-2)
        agree(together, alone(exact, s), rel=2e-2)


@needs_vnni
def test_a_pack_is_near_its_trials_where_kernels_differ_by_the_number_of_rows(tiny_model, reviews):
    """What a product's last bits are decides now and then how an activation is rounded to 127 steps after it."""
    model = ModelSpec(name=str(tiny_model("bert")), precision="int8")
    runner = Runner(model, classification(reviews))
    for module in runner.base.model.modules():
        if isinstance(module, FrozenLinear):
            for matrix in (module.own_form.matrix, module.own_form.transposed):
                multiplied_as_by_amx(matrix)
    specs = [spec(runner, family, number) for number, family in enumerate(("lora", "ia3", "serial"))]
    for s, together in zip(specs, packed(runner, specs), strict=True):
        agree(together, alone(runner, s), rel=1e-2)


@needs_vnni
def test_a_pack_of_one_repeats_itself_and_leaves_the_base_as_it_was(runners):
    _, fast = runners
    one = spec(fast, "lora", 3)
    assert fast.run(one).metrics == fast.run(one).metrics
    assert (
        fast.run(replace(one, is_isolated=True)).metrics == fast.run(replace(one, is_isolated=True)).metrics
    )
    own = {id(m.own_form) for m in fast.base.model.modules() if isinstance(m, FrozenLinear)}
    adapted = fast.base.adapted(one.config, 0)
    assert {id(m.own_form) for m in adapted.modules() if isinstance(m, FrozenLinear)} == own


@needs_vnni
def test_states_of_frozen_layers_are_not_those_of_fp32(runners):
    exact, fast = runners
    assert base_digest(exact.base) != base_digest(fast.base)


@needs_vnni
def test_a_model_without_linear_layers_is_refused(tiny_model, reviews):
    with pytest.raises(InvalidInputError, match="no linear modules, which int8 needs"):
        Runner(ModelSpec(name=str(tiny_model("gpt2")), precision="int8"), classification(reviews))


def test_a_machine_that_has_no_such_products_is_refused(monkeypatch):
    monkeypatch.setattr(processor, "instructions", lambda: ("avx2", "avx512_f"))
    with pytest.raises(InvalidInputError, match=r"model\.precision.*no VNNI instructions"):
        check_int8(torch.device("cpu"))
    with pytest.raises(InvalidInputError, match="the device of this machine is cuda"):
        check_int8(torch.device("cuda"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": "bf16"}, "needs weights in fp32, not in bf16"),
        ({"device": "cuda:0"}, "int8 is supported on CPUs"),
    ],
)
def test_what_int8_does_not_go_with_is_said_when_the_file_is_read(changes, reason):
    with pytest.raises(ValidationError, match=reason):
        ModelSpec(name="builtin:pocket", precision="int8", **changes)


def test_forms_are_shared_by_copies():
    form = object.__new__(Int8Form)
    assert copy.deepcopy([form])[0] is form
