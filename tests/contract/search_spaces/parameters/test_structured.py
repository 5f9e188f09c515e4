"""Ranks over the layers, roles as switches and neighboring layers, held equal to real models."""

from __future__ import annotations

import pytest
import torch

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.model.shape import TaskType
from search_spaces.parameters.structured import rank_at
from search_spaces.parameters.types import Configuration
from tests.support.tiny_models import BATCH, DEPTH, MAIN, TOKENS, Case, batch, observe, shape_of

PROFILE: Configuration = {"rank.level": 4, "rank.slope": 1.0, "rank.bump": 0.5, "scale": 1.5}
CONFIGS: list[tuple[str, Configuration]] = [
    ("lora", PROFILE),
    (
        "lora",
        {**PROFILE, "dora": True, "dropout": 0.1, "layers.0": False, "layers.1": True, "layers.2": True},
    ),
    ("lora", {**PROFILE, "rslora": True, "layers.count": 2, "layers.start": 0, "targets": "k"}),
    ("lora", {"rank": 4, "targets.o": True, "targets.down": True, "layers.count": 1, "layers.start": 1}),
    ("ia3", {"targets.v": True, "targets.down": True, "layers.count": 2, "layers.start": 0}),
]
CASES = [
    Case(family, model, "causal-lm" if model != "bert" else "sequence-classification", 100 + number, config)
    for number, (family, config) in enumerate(CONFIGS)
    for model in MAIN
    # The switches are those of unfused models; `k` is inside a fused matrix.
    if not (model == "gpt2" and "targets.v" in config)
]
SIDED: list[tuple[str, Configuration]] = [
    ("lora", {"rank": 4, "layers.encoder": 0, "layers.decoder": 2}),
    ("lora", {"rank": 4, "layers.encoder": 2, "layers.decoder": 0}),
    ("lora", {"rank.encoder": 2, "rank.decoder": 5, "layers.encoder": 1, "layers.decoder": 2, "scale": 1.5}),
    (
        "lora",
        {
            **{
                f"rank.encoder.{part}": value for part, value in (("level", 4), ("slope", 1.0), ("bump", 0.5))
            },
            "rank.decoder": 3,
            "targets.encoder": "q+v",
            "targets.decoder": "cross-attention",
            "dora": True,
        },
    ),
    (
        "lora",
        {
            "targets.encoder.q": True,
            "targets.decoder.o": True,
            "targets.decoder.down": True,
            "freeze_a": True,
        },
    ),
    ("lora", {"targets.encoder.k": False, "targets.decoder.k": True, "layers": 4}),
    ("ia3", {"layers.encoder.count": 1, "layers.encoder.start": 1, "layers.decoder": 1}),
    ("lily", {"layers.encoder": 1, "layers.decoder": 2, "targets.encoder": "q", "targets.decoder": "v"}),
    (
        "norm",
        {"layers.encoder.0": True, "layers.encoder.1": False, "layers.encoder.2": False, "layers.decoder": 1},
    ),
    ("ssf", {"layers.encoder": 0, "layers.decoder": 2}),
    ("serial", {"size": 4, "sites": "houlsby", "layers.encoder": 1, "layers.decoder": 2}),
    (
        "composite",
        {
            "parts.lora": True,
            "parts.serial": True,
            "parts.parallel": True,
            "parts.prefix": True,
            "parts.ia3": True,
            "lora.layers.encoder": 0,
            "lora.layers.decoder": 2,
            "lora.targets.encoder": "q",
            "lora.targets.decoder": "cross-attention",
            "serial.layers.encoder": 1,
            "serial.layers.decoder": 0,
            "parallel.layers": 3,
            "ia3.layers.encoder": 2,
            "ia3.layers.decoder": 1,
            "prefix.tokens": 2,
        },
    ),
    (
        "composite",
        {"lora.layers.encoder": 0, "lora.layers.decoder": 1, "parts.serial": False, "prefix.layers": 1},
    ),
]
CASES += [Case(family, "t5", "regression", 200 + n, config) for n, (family, config) in enumerate(SIDED)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_costs_are_those_of_the_model(case: Case) -> None:
    workload = Workload(TOKENS, TOKENS**2, BATCH, BATCH)
    costs = CostModel(shape_of(case.model, case.task), case.task, workload)(case.full_config)
    seen = observe(case)
    assert costs.trainable_params == seen.adapter
    assert costs.stored_bytes == seen.stored_bytes
    assert costs.train_flops == pytest.approx(seen.train_flops, rel=1e-9)
    assert costs.inference_flops == pytest.approx(seen.inference_flops, rel=1e-9)
    assert seen.wrong_gradients == ()
    assert seen.change > 1e-3
    assert seen.reload_error < 1e-6
    assert seen.merge_error is None or seen.merge_error < 1e-4


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("model", MAIN)
def test_each_layer_has_its_rank_and_the_scale_that_goes_with_it(model: str, rslora: bool) -> None:
    """At rank r: scale · 8/r, or with rsLoRA scale · √(8/r)."""
    task: TaskType = "causal-lm" if model != "bert" else "regression"
    case = Case("lora", model, task, 0, {**PROFILE, "rslora": rslora})
    path = shape_of(model, task).layers_path
    found: dict[int, set[tuple[int, float]]] = {}
    for name, module in case.adapted().base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            layer = int(name.removeprefix(f"{path}.").partition(".")[0])
            found.setdefault(layer, set()).add((module.r["default"], module.scaling["default"]))
    ranks = [rank_at(PROFILE, "rank", layer, DEPTH, 32) for layer in range(DEPTH)]
    assert len(set(ranks)) == DEPTH
    for layer, rank in enumerate(ranks):
        multiplier = 1.5 * ((8 / rank) ** 0.5 if rslora else 8 / rank)
        ((r, scaling),) = found[layer]
        assert (r, scaling) == (rank, pytest.approx(multiplier))


def test_a_flat_profile_is_the_rank_itself() -> None:
    flat = Case("lora", "bert", "regression", 0, {"rank.level": 4, "rank.slope": 0.0, "rank.bump": 0.0})
    plain = Case("lora", "bert", "regression", 0, {"rank": 4})
    inputs = batch("regression")
    models = [case.adapted() for case in (flat, plain)]
    for (name, one), (other_name, other) in zip(*(m.named_parameters() for m in models), strict=True):
        assert name == other_name
        torch.testing.assert_close(one, other)
    losses = [model(**inputs).loss for model in models]
    torch.testing.assert_close(*losses)
