"""Trials on a base that is kept in bf16, 8 bits or 4 bits."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from search_spaces.errors import InvalidInputError
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import unsupported_reason
from search_spaces.language.loader import load_space
from search_spaces.model.reader import read_shape
from tests.support.grids import REPRESENTATIVES
from tests.support.packs import agree, alone, packed
from tests.support.trials import COMMON, classification
from trials.base import model as base_model
from trials.base import quantization
from trials.base.model import Base, load_base
from trials.data.task_data import load_task
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks import model_spec
from trials.tasks.specs import ModelSpec, TaskSpec

KEPT = ("bf16", "int8", "nf4")
needs_bitsandbytes = pytest.mark.skipif(
    model_spec.find_spec("bitsandbytes") is None, reason="needs the extra `quantized`"
)


@contextmanager
def with_inference_kernel() -> Iterator[None]:
    """Layers that are made here take this processor for one with AVX512-BF16, whatever it is.

    bitsandbytes then rewrites 4-bit weights for its inference kernel unless it is told not to.
    """
    with pytest.MonkeyPatch.context() as patch:
        if model_spec.find_spec("bitsandbytes") is not None:
            patch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
        yield


@pytest.fixture(scope="module")
def runners(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[[str, str], Runner]:
    made: dict[tuple[str, str], Runner] = {}

    def make(kind: str, weights: str) -> Runner:
        if (kind, weights) not in made:
            spec = ModelSpec(name=str(tiny_model(kind)), weights=weights)  # type: ignore[arg-type]
            with with_inference_kernel():
                made[kind, weights] = Runner(spec, classification(reviews))
        return made[kind, weights]

    torch.set_num_threads(1)
    return make


def families(base: Base) -> list[str]:
    return [
        name
        for name, family in REGISTRY.items()
        if unsupported_reason(family, base.shape, base.task.type) is None
        and name != "trainable_tokens"  # whose tokens are those of training data
    ]


def default_config(base: Base, family: str, **changes: object) -> dict[str, object]:
    space = load_space({"families": [family]}, shape=base.shape, task=base.task.type).space
    return {**space.default(family=family), **COMMON, **changes}


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("kind", "weights", "chosen"),
    [
        *(
            (kind, kept, REPRESENTATIVES)
            for kind, kept in (("bert", "bf16"), ("bert", "int8"), ("gpt2", "nf4"))
        ),
        *(
            pytest.param(kind, kept, tuple(REGISTRY), marks=pytest.mark.slow, id=f"{kind}-{kept}-all")
            for kind in ("bert", "gpt2", "llama")
            for kept in KEPT
        ),
    ],
)
def test_families_that_are_not_refused_train_and_leave_the_base_as_it_was(
    kind: str, weights: str, chosen: tuple[str, ...], runners: Callable[[str, str], Runner]
) -> None:
    runner = runners(kind, weights)
    before = logits(runner.base)
    for family in (name for name in families(runner.base) if name in chosen):
        config = default_config(runner.base, family, epochs=1)
        spec = TrialSpec(config, seed=0, fidelity=Fidelity(train_samples=32, eval_samples=32))
        result = runner.run(spec)
        assert result.status == TrialStatus.COMPLETE, (family, result.error)
        assert runner.run(spec).metrics == result.metrics, family
    torch.testing.assert_close(logits(runner.base), before, rtol=0, atol=0)


def logits(base: Base) -> torch.Tensor:
    with torch.no_grad(), base.computing():
        return base.model(input_ids=torch.tensor([[2, 9, 10, 30, 3]])).logits


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["bert", pytest.param("llama", marks=pytest.mark.slow)])
def test_adapters_on_four_bits_compute_as_on_the_numbers_that_the_bits_stand_for(
    kind: str, runners: Callable[[str, str], Runner]
) -> None:
    """The same outputs and gradients as on a base in fp32 that has the dequantized weights."""
    base = runners(kind, "nf4").base
    plain = dequantized(base)
    inputs = {
        "input_ids": torch.tensor([[2, 9, 10, 30, 3], [2, 40, 41, 9, 3]]),
        "labels": torch.tensor([0, 1]),
    }
    for name in families(base):
        config = default_config(base, name)
        one, other = base.adapted(config, seed=1), plain.adapted(config, seed=1)
        for model in (one, other):
            model.eval()
            with torch.no_grad():
                torch.manual_seed(0)
                for _, parameter in sorted(model.named_parameters()):
                    if parameter.requires_grad:
                        parameter.add_(0.05 * torch.randn(parameter.shape))
            model(**inputs).loss.backward()
        gradients = {key: p.grad for key, p in one.named_parameters() if p.requires_grad}
        assert gradients
        for key, parameter in other.named_parameters():
            if parameter.requires_grad:
                assert parameter.dtype == torch.float32
                torch.testing.assert_close(
                    gradients[key], parameter.grad, rtol=1e-3, atol=1e-6, msg=f"{name} {key}"
                )


def dequantized(base: Base) -> Base:
    from bitsandbytes.functional import dequantize_4bit

    model = copy.deepcopy(base.model)
    for path, module in list(model.named_modules()):
        if hasattr(module, "quant_state"):
            linear = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            linear.weight = nn.Parameter(
                dequantize_4bit(module.weight.data, module.quant_state), requires_grad=False
            )
            linear.bias = module.bias
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, linear)
    return Base(model, base.shape, base.task, base.device, base.autocast, base.new_heads)


def four_bit_layer(inputs: int, outputs: int) -> nn.Module:
    """A quantized layer in evaluation mode whose weight bitsandbytes would rewrite at its first product."""
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    with with_inference_kernel():
        layer = Linear4bit(inputs, outputs, compute_dtype=torch.float32, quant_type="nf4")
    return layer.requires_grad_(False).to("cpu").eval()


def is_rewritten(layer: nn.Module) -> bool:
    return bool(getattr(layer.weight.quant_state, "packing_format_for_cpu", False))


@needs_bitsandbytes
@pytest.mark.parametrize(("inputs", "outputs"), [(128, 64), (32, 48)])  # the kernel takes the first alone
@pytest.mark.parametrize("gradient", [False, True])
def test_four_bit_weights_keep_their_layout(inputs: int, outputs: int, gradient: bool) -> None:
    """A frozen layer multiplies in fp32, and its input and bias get gradients, on a CPU with AVX512-BF16 too."""
    from bitsandbytes.functional import dequantize_4bit

    layer = four_bit_layer(inputs, outputs)
    quantization.freeze_layout(layer)
    layer.bias.requires_grad_(gradient)
    stored = layer.weight.data.clone()
    wanted = nn.Linear(inputs, outputs)
    wanted.weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    wanted.bias.data = layer.bias.data
    x = torch.randn(5, inputs)
    torch.testing.assert_close(layer(x), wanted(x))
    if gradient:
        layer(x).square().sum().backward()
        wanted(x).square().sum().backward()
        torch.testing.assert_close(layer.bias.grad, wanted.bias.grad)
    copied = copy.deepcopy(layer)
    torch.testing.assert_close(copied(x), layer(x), rtol=0, atol=0)
    assert not is_rewritten(layer)
    assert not is_rewritten(copied)
    assert torch.equal(layer.weight.data, stored)
    assert "weight" in layer.state_dict()
    assert torch.equal(layer.weight.data, stored)


@needs_bitsandbytes
def test_without_that_bitsandbytes_rewrites_four_bit_weights() -> None:
    """The test above prevents this; if this one fails, bitsandbytes has changed and `freeze_layout` must follow."""
    layer = four_bit_layer(128, 64)
    with contextlib.suppress(Exception):  # a CPU without AVX512-BF16 has no such kernel
        layer(torch.randn(5, 128))
    assert is_rewritten(layer)


@needs_bitsandbytes
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_four_bits_give_the_same_trial_on_every_processor(
    kind: str, runners: Callable[[str, str], Runner], tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    """Bit for bit: whether the processor has AVX512-BF16 decides nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
        other = Runner(ModelSpec(name=str(tiny_model(kind)), weights="nf4"), classification(reviews))
    runner = runners(kind, "nf4")
    for alone_ in (True, False):
        spec = TrialSpec(
            default_config(runner.base, "lora", epochs=2),
            seed=0,
            fidelity=Fidelity(train_samples=64, eval_samples=40, evaluations=2),
            is_isolated=alone_,
        )
        one, two = runner.run(spec), other.run(spec)
        assert one.status == TrialStatus.COMPLETE, one.error
        assert one.metrics == two.metrics


@needs_bitsandbytes
def test_trials_share_the_packed_weights(runners: Callable[[str, str], Runner]) -> None:
    for weights in ("int8", "nf4"):
        base = runners("bert", weights).base
        owned = {part.data_ptr() for part in base.model.parameters()}
        states = {id(part) for part in quantization.quantized_parts(base.model)}
        copies = base.skeleton()
        head = {id(part) for part in copies.get_submodule("classifier").parameters()}
        assert all(part.data_ptr() in owned for part in copies.parameters() if id(part) not in head)
        assert {id(part) for part in quantization.quantized_parts(copies)} == states
        small = sum(
            p.numel() * p.element_size() for p in base.model.get_submodule("bert.encoder").parameters()
        )
        whole = sum(matrix.inputs * matrix.outputs for matrix in base.shape.matrices) * base.shape.depth * 4
        assert small < whole * (0.3 if weights == "int8" else 0.2) + 4096


@needs_bitsandbytes
@pytest.mark.parametrize("weights", ["int8", "nf4"])
def test_the_first_copy_takes_nothing_from_the_next(
    weights: str, tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    """bitsandbytes moves an 8-bit weight's scales away in its first forward pass."""
    spec = ModelSpec(name=str(tiny_model("bert")), weights=weights)  # type: ignore[arg-type]
    with with_inference_kernel():
        base = Runner(spec, classification(reviews)).base
    first, second = (replace(base, model=base.skeleton()) for _ in range(2))
    torch.testing.assert_close(logits(first), logits(second), rtol=0, atol=0)
    torch.testing.assert_close(logits(second), logits(base), rtol=0, atol=0)


def test_what_reads_the_weights_is_left_out_with_its_reason(tiny_model: Callable[[str], Path]) -> None:
    folder = str(tiny_model("bert"))
    shape = read_shape(folder, "sequence-classification", quantized=True)
    loaded = load_space({"families": ["lora", "full", "oft"]}, shape=shape)
    assert loaded.left_out == dict.fromkeys(
        ("full", "oft"), "it reads or changes the weights, which are quantized"
    )
    assert loaded.narrowed["lora.init"] == (
        "pissa, olora, corda, lora_ga: each reads the weights, which are quantized"
    )
    assert loaded.space["lora.dora"].choices == (False,)  # type: ignore[attr-defined]
    assert loaded.space["lora.init"].choices == ("kaiming", "orthogonal", "eva", "loftq")  # type: ignore[attr-defined]
    spec = {"families": ["lora"], "parameters": {"lora.init": "pissa"}}
    with pytest.raises(InvalidInputError, match=r"pissa reads the weights.*Give another value"):
        load_space(spec, shape=shape)
    assert "lora.init" not in load_space(spec, shape=read_shape(folder, "sequence-classification")).narrowed


@pytest.mark.parametrize(
    ("fields", "installed", "where", "what"),
    [
        (
            {"weights": "int8"},
            False,
            "model.weights",
            r"int8 needs the package bitsandbytes.*\[quantized",
        ),
        ({"weights": "nf4", "device": "mps"}, True, "model.weights", "'mps' cannot multiply nf4"),
        ({"weights": "bf16", "precision": "fp32"}, True, "model.precision", "Write bf16, or remove it"),
    ],
)
def test_what_cannot_be_is_said_when_the_sweep_is_read(
    fields: dict[str, str], installed: bool, where: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_spec, "find_spec", lambda name: object() if installed else None)
    with pytest.raises((InvalidInputError, ValidationError), match=what) as error:
        ModelSpec(name="m", **fields)  # type: ignore[arg-type]
    assert where in str(error.value)


@needs_bitsandbytes
def test_a_machine_that_would_choose_another_device_says_so(
    tiny_model: Callable[[str], Path], reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_model, "choose_device", lambda name: torch.device("mps"))
    with pytest.raises(
        InvalidInputError, match="the device of this machine is mps, which cannot multiply nf4"
    ):
        Runner(ModelSpec(name=str(tiny_model("bert")), weights="nf4"), classification(reviews))


@needs_bitsandbytes
@pytest.mark.parametrize(("weights", "rel"), [("nf4", 1e-4), ("int8", 1e-2), ("bf16", 2e-2)])
def test_a_pack_on_a_base_that_is_not_in_fp32(
    weights: str, rel: float, runners: Callable[[str, str], Runner]
) -> None:
    """In 4 bits as alone. In 8 bits the scale of a row does not hang on the others, but the columns that are
    kept in 16 bits do; and bf16 rounds sums of another order otherwise."""
    runner = runners("bert", weights)
    kinds = (
        ("lora", {}),
        ("lora", {"lora.rslora": True, "lora.layers": 1, "lora.dropout": 0.0}),
        ("ia3", {}),
        ("serial", {}),
        ("norm", {}),
    )
    specs = [
        TrialSpec(
            {**default_config(runner.base, family, epochs=2), **changes},
            seed=seed,
            fidelity=Fidelity(train_samples=64, eval_samples=40, evaluations=2),
        )
        for seed, (family, changes) in enumerate(kinds)
    ]
    for one, other in zip(packed(runner, specs), [alone(runner, s) for s in specs], strict=True):
        agree(one, other, rel)


@pytest.mark.parametrize("weights", ["fp32", pytest.param("nf4", marks=needs_bitsandbytes)])
def test_a_model_without_a_head_for_the_task_is_said_however_it_is_kept(
    weights: str, runners: Callable[[str, str], Runner], tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    data = runners("bert", "bf16").data
    spec = ModelSpec(name=str(tiny_model("deberta")), weights=weights)  # type: ignore[arg-type]
    task = TaskSpec(type="causal-lm", train=str(reviews / "train.tsv"), text="sentence")
    with pytest.raises(InvalidInputError, match="has no head for causal-lm"):
        load_base(spec, task, data)


@needs_bitsandbytes
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_quantized_weights_are_loaded_on_the_named_device(
    device: str, tiny_model: Callable[[str], Path], reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would load them on the current GPU, which is the first one in every worker process."""
    options: dict[str, object] = {}

    def read(*_: object, **given: object) -> None:
        options.update(given)
        raise InterruptedError

    monkeypatch.setattr("trials.base.model.read_pretrained", read)
    spec, task = (
        ModelSpec(name=str(tiny_model("bert")), weights="nf4", device=device),
        classification(reviews),
    )
    with pytest.raises(InterruptedError):
        load_base(spec, task, load_task(task, spec))
    assert options["device_map"] == {"": torch.device(device)}
