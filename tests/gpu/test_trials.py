"""Trials on a CUDA device compute what they compute on the CPU, in packs and on quantized weights too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from search_spaces.language.loader import load_space
from tests.support.gpu import DEVICE, needs_card, needs_device
from tests.support.packs import agree, alone, packed
from tests.support.trials import COMMON
from trials.execution.runner import Runner
from trials.packing.pack import Pack
from trials.records import Fidelity, Segment, TrialSpec, TrialStatus
from trials.tasks.specs import find_spec

FIDELITY = Fidelity(train_samples=96, eval_samples=40, evaluations=2)

pytestmark = needs_device


def spec(runner: Runner, family: str, seed: int = 0) -> TrialSpec:
    shape = runner.base.shape
    space = load_space({"families": [family]}, shape=shape, task=shape.task).space
    return TrialSpec({**space.default(family=family), **COMMON}, seed, FIDELITY)


@pytest.mark.parametrize("family", ["lora", "ia3", "norm", "prefix", "serial", "full"])
def test_a_trial_has_the_losses_of_the_cpu(family: str, runners: Callable[..., Runner]) -> None:
    """Dropout draws other numbers on another device, so the adapters have none; products round otherwise."""
    there, here = runners(), runners(device="cpu")
    assert there.base.device.type == DEVICE
    given = spec(here, family)
    if f"{family}.dropout" in given.config:
        given = replace(given, config={**given.config, f"{family}.dropout": 0.0})
    agree(there.run(given), here.run(given), rel=1e-3)


def test_a_pack_computes_what_its_trials_compute_alone(runners: Callable[..., Runner]) -> None:
    runner = runners()
    specs = [spec(runner, family, seed) for seed, family in enumerate(("lora", "ia3", "serial", "norm"))]
    for together, given in zip(packed(runner, specs), specs, strict=True):
        agree(together, alone(runner, given), rel=1e-3)


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_a_pack_in_bf16_computes_what_its_trials_compute_alone(
    weights: str, runners: Callable[..., Runner]
) -> None:
    """Kernels round otherwise for other shapes, and bf16 has 8 bits."""
    runner, whole = runners(precision="bf16", weights=weights), runners()
    specs = [spec(runner, family, seed) for seed, family in enumerate(("lora", "ia3", "lora", "norm"))]
    for together, given in zip(packed(runner, specs), specs, strict=True):
        agree(together, alone(runner, given), rel=2e-2)
        agree(together, alone(whole, given), rel=5e-2)


class Casts(TorchDispatchMode):
    """Collects the addresses of the tensors that are cast."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._to_copy.default:
            self.addresses.add(args[0].data_ptr())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_frozen_matrices_are_not_cast_in_a_step(weights: str, runners: Callable[..., Runner]) -> None:
    """Autocast would cast them in every forward pass."""
    runner = runners(precision="bf16", weights=weights)
    layers = runner.base.model.get_submodule(runner.base.shape.layers_path)
    frozen = {parameter.data_ptr() for parameter in layers.parameters() if parameter.dim() == 2}
    pack = Pack(runner.base, runner.data)
    for ticket in range(2):
        assert pack.enter(ticket, spec(runner, "lora", ticket)) is None
    with Casts() as casts:
        pack.advance()
    assert casts.addresses
    assert not casts.addresses & frozen


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs the extra `quantized`")
@pytest.mark.parametrize(("weights", "rel"), [("nf4", 1e-2), ("int8", 5e-2)])
def test_quantized_weights_give_nearly_the_losses_of_whole_ones(
    weights: str, rel: float, runners: Callable[..., Runner]
) -> None:
    quantized, whole = runners(weights=weights), runners()
    given = spec(quantized, "lora")
    result, expected = quantized.run(given), whole.run(given)
    assert result.status == expected.status == TrialStatus.COMPLETE, result.error
    assert result.metrics["eval_loss"] == pytest.approx(expected.metrics["eval_loss"], abs=0.2)
    agree(packed(quantized, [given])[0], alone(quantized, given), rel=rel)


@needs_card
def test_the_peak_memory_is_the_devices_and_grows_with_the_batch(runners: Callable[..., Runner]) -> None:
    runner = runners()
    given = spec(runner, "lora")
    small, large = (
        runner.run(TrialSpec({**given.config, "batch_size": size}, 0, FIDELITY, is_isolated=True))
        for size in (4, 64)
    )
    assert 0 < small.peak_memory < large.peak_memory
    total = torch.cuda.get_device_properties(0).total_memory
    assert large.peak_memory < total


def test_a_resumed_trial_ends_as_one_that_was_never_stopped(
    runners: Callable[..., Runner], tmp_path: Path
) -> None:
    """The state of the device's random numbers is kept too: LoRA's dropout draws from it."""
    runner = runners()
    given = spec(runner, "lora")
    whole = runner.run(given)
    end = str(tmp_path / "0.safetensors")
    half = runner.run(replace(given, segment=Segment(0.5, end=end)))
    assert half.status == TrialStatus.PAUSED
    torch.manual_seed(12345)
    resumed = runner.run(replace(given, segment=Segment(1.0, start=end)))
    assert resumed.metrics["eval_loss"] == pytest.approx(whole.metrics["eval_loss"], rel=1e-4)
