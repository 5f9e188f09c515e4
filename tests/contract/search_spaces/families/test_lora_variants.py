"""What is particular to LoRA's variants and relatives; the contract suite covers what they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.lokr.layer import factorization

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY
from search_spaces.families.lokr import divided
from search_spaces.parameters.types import Configuration
from tests.support.tiny_models import (
    BATCH,
    MAIN,
    TOKENS,
    Case,
    batch,
    build,
    largest,
    logits,
    observe,
    pairs,
    shape_of,
)

TASK = "sequence-classification"
WORKLOAD = Workload(TOKENS, TOKENS**2, BATCH, BATCH)
KIN = ("adalora", "gralora", "loha", "lokr", "lora", "randlora", "road", "shira", "vblora", "vera")
ALL = {"targets": "all", "layers": 2}


def case(family: str, model: str = "bert", **config: Any) -> Case:
    return Case(family, model, TASK, 0, {**ALL, **config})


def check(observed: Case) -> None:
    """The contract of test_families.py and test_costs.py on one more configuration."""
    seen = observe(observed)
    costs = CostModel(shape_of(observed.model, TASK), TASK, WORKLOAD)(observed.full_config)
    assert (costs.trainable_params, costs.stored_bytes) == (seen.adapter, seen.stored_bytes)
    assert costs.train_flops == pytest.approx(seen.train_flops, rel=1e-9)
    assert seen.wrong_gradients == ()
    assert seen.change > 1e-3
    assert seen.reload_error < (1e-5 if observed.is_converted else 1e-6)
    assert seen.merge_error is not None
    assert seen.merge_error < 1e-4


def test_what_is_unsupported() -> None:
    """Conv1D, and sizes without a common divisor; and images in AdaLoRA's way. The reason names it."""
    for name in KIN:
        reasons = {m: REGISTRY[name].unsupported(shape_of(m, task), task) for m, task in pairs()}
        if name == "adalora":
            assert "penalty" in str(reasons.pop("vit"))
        if name in ("gralora", "vblora"):
            assert "deepseek_v3" in str(reasons.pop("deepseek_v3"))
        refused = {model for model, reason in reasons.items() if reason}
        assert refused == ({"gpt2"} if name in ("loha", "lokr", "road", "shira") else set()), name
        assert all("Conv1D" in reasons[model] for model in refused)


@pytest.mark.parametrize("model", MAIN)
@pytest.mark.parametrize("init", ["kaiming", "orthogonal", "pissa", "eva", "corda", "lora_ga", "loftq"])
def test_lora_with_every_start_and_a_frozen_a(init: str, model: str) -> None:
    check(case("lora", model, rank=5, init=init, freeze_a=True, dora=init == "pissa", dropout=0.0))


def test_a_decomposition_has_no_more_ranks_than_the_matrix() -> None:
    check(case("lora", "llama", rank=40, init="pissa"))


@pytest.mark.parametrize("init", ["orthogonal", "pissa"])
def test_every_start_leaves_the_model_as_it_was(init: str) -> None:
    inputs = batch(TASK)
    adapted = case("lora", init=init, rank=4).adapted()
    torch.testing.assert_close(
        logits(adapted, inputs), logits(build("bert", TASK), inputs), atol=1e-5, rtol=1e-4
    )
    matrices = [m for m in adapted.modules() if hasattr(m, "lora_A")]
    assert all(float(m.lora_B["default"].weight.detach().abs().max()) > 1e-3 for m in matrices)


def test_pissa_takes_the_largest_singular_values_out_of_the_weight() -> None:
    plain = build("bert", TASK).bert.encoder.layer[2].attention.self.query.weight.detach()
    model = case("lora", init="pissa", rank=4).adapted().base_model.model
    rest = model.bert.encoder.layer[2].attention.self.query.base_layer.weight
    expected = torch.linalg.svdvals(plain)
    torch.testing.assert_close(torch.linalg.svdvals(rest)[:-4], expected[4:], atol=1e-5, rtol=1e-4)


def test_learning_rate_factors_name_what_they_mean() -> None:
    lora, vblora = REGISTRY["lora"], REGISTRY["vblora"]
    assert lora.learning_rate_factors({"lr_ratio": 1.0}) == {}
    assert lora.learning_rate_factors({"lr_ratio": 4.0}) == {"lora_B": 4.0}
    assert lora.learning_rate_factors({"freeze_a": True}) == {"lora_A": 0.0}
    assert set(vblora.learning_rate_factors({}).values()) == {10.0}
    for family, config in (("lora", {"lr_ratio": 4.0}), ("vblora", {})):
        names = [name.split(".") for name, _ in case(family).adapted().named_parameters()]
        for part in REGISTRY[family].learning_rate_factors(config):
            assert any(part in name for name in names)


@pytest.mark.parametrize("factor", [2, 3, 4, 8, 16, 32])
def test_sizes_are_divided_as_peft_divides_them(factor: int) -> None:
    for size in (*range(2, 400), 768, 896, 1024, 3072, 4864, 11008):
        assert divided(size, factor) == factorization(size, factor), size


@pytest.mark.parametrize("decompose_both", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 16])
def test_lokr_with_each_factor_full_or_low_rank(rank: int, decompose_both: bool) -> None:
    check(case("lokr", rank=rank, factor=8, decompose_both=decompose_both))


def test_vblora_cuts_to_what_divides_every_size() -> None:
    """Width 32, 56 hidden: pieces of 8; queries and values alone: pieces of 32."""
    shape = shape_of("bert", TASK)
    sizes = {
        targets: REGISTRY["vblora"].peft_config({"targets": targets}, shape, TASK).vector_length
        for targets in ("all", "q+v")
    }
    assert sizes == {"all": 8, "q+v": 32}
    check(case("vblora", targets="q+v", vectors=300))


def test_shira_trains_no_more_entries_than_there_are() -> None:
    """Llama's keys are 16 by 32: at most rank 512 // 48 = 10."""
    model = case("shira", "llama", rank=64).adapted()
    assert {m.r["default"] for m in model.modules() if hasattr(m, "shira_weight")} == {10}
    check(case("shira", "llama", rank=64))


def test_gralora_rounds_its_rank_up_to_whole_blocks() -> None:
    config = REGISTRY["gralora"].peft_config({"rank": 5, "blocks": 4}, shape_of("bert", TASK), TASK)
    assert (config.r, config.gralora_k) == (8, 4)
    check(case("gralora", rank=5, blocks=4))


@pytest.mark.parametrize("variant", [1, 2, 4])
def test_road_variants(variant: int) -> None:
    check(case("road", "llama", variant=variant))


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_adalora_reaches_its_budget_and_loads_again(steps: int, tmp_path: Path) -> None:
    """Rank 2 on average of 3 at first; a single step cuts nothing. Ties, as in short runs, go together."""
    inputs = batch(TASK)
    config: Configuration = {**ALL, "rank": 2, "orthogonality": 0.1}
    family, model = REGISTRY["adalora"], case("adalora", **config).adapted()
    family.schedule(model.active_peft_config, steps)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for number in range(1, steps + 1):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()
        family.after_step(model, number)
    values = [p for name, p in model.named_parameters() if "lora_E" in name]
    kept = sum(int((value != 0).sum()) for value in values)
    budget = len(values) * (3 if steps == 1 else 2)
    assert kept == budget if steps in (1, 10) else 0 < kept <= budget
    model.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(build("bert", TASK), str(tmp_path))
    assert largest(logits(loaded, inputs) - logits(model, inputs)) < 1e-6
    assert largest(logits(model, inputs) - logits(build("bert", TASK), inputs)) > 1e-3
