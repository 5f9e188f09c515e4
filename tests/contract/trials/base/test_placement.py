"""A base model that is spread over devices: here all of them are the CPU, on which accelerate's hooks work alike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from peft import get_peft_model

from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from search_spaces.families import REGISTRY
from tests.support.packs import agree, alone, spec
from tests.support.tiny_models import batch, build, shape_of
from tests.support.trials import classification
from trials.base.placement import first_device
from trials.execution.runner import Runner
from trials.packing.pack import Pack
from trials.tasks.specs import ModelSpec


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    model = ModelSpec(name=str(tiny_model("bert")), precision="fp32", device_map={"": "cpu"})
    return Runner(model, classification(reviews))


def test_trials_train_alone_and_as_without_a_map(
    runner: Runner, tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    usual = Runner(ModelSpec(name=str(tiny_model("bert")), precision="fp32"), classification(reviews))
    s = spec(runner, "lora", epochs=1)
    assert runner.base.is_sharded
    assert runner.base.device == torch.device("cpu")
    result = Pack(runner.base, runner.data).enter(0, s)
    assert result is not None
    agree(result, alone(usual, s), rel=1e-6)


@pytest.mark.parametrize("family", ["lora", "serial", "layer-prefix", "molora", "ia3"])
def test_adapters_train_on_a_copy_of_a_model_with_hooks(family: str) -> None:
    """Hooks belong to the copy, so the gradients are those of a model without them."""
    task, found = "sequence-classification", []
    for is_dispatched in (False, True):
        base, shape = build("llama", task), shape_of("llama", task)
        base.requires_grad_(False)
        if is_dispatched:
            modules = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu"}
            modules |= {"model.rotary_emb": "cpu", "score": "cpu"}
            base = dispatch_model(base, modules, force_hooks=True)
        twin = copy.deepcopy(base, {id(p): p for p in base.parameters()})
        assert hasattr(twin.model.layers[0], "_hf_hook") == is_dispatched
        torch.manual_seed(2)
        model = get_peft_model(twin, REGISTRY[family].peft_config({}, shape, task))
        model(**batch(task, padded=True)).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
        assert not any("lora" in name or "composite" in name for name, _ in base.named_parameters())
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": 0, "b": "cpu"}, "parts of it would be on cpu"),
        ({"a": 0, "b": 1, "c": "disk"}, "parts of it would be on disk"),
    ],
)
def test_weights_that_are_no_place_to_compute_are_refused(places: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"model\.device_map: .*{message}.*nf4"):
        first_device(SimpleNamespace(hf_device_map=places))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device_map": {}}, "places no module"),
        ({"device_map": {"model": "disk"}}, "disk cannot compute"),
        ({"device_map": "auto", "device": "cuda:0"}, "given beside device_map"),
    ],
)
def test_maps_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSpec(name="x", **fields)


def test_other_executors_are_refused_and_none_is_chosen(
    tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    mapping: dict[str, Any] = {
        "name": "spread",
        "model": {"name": str(tiny_model("bert")), "device_map": "auto"},
        "task": classification(reviews).model_dump(exclude_none=True),
        "space": "lora",
        "budget": {"trials": 1},
    }
    with pytest.raises(ValueError, match=r"executor\.name: executor packed .* one at a time"):
        Sweep.model_validate({**mapping, "executor": "packed"})
    sweep = Sweep.model_validate(mapping)
    assert not sweep.is_executor_open
    assert sweep.executor.name == "local"
