"""LoRA on routed and shared experts, and what is said where experts cannot be adapted."""

from __future__ import annotations

import re

import pytest

from search_spaces.costs.cost_model import CostModel
from search_spaces.families import REGISTRY
from search_spaces.language.loader import load_space
from search_spaces.parameters.types import Configuration
from tests.support.shapes import problems
from tests.support.tiny_models import Case, observe, shape_of, workload

PLAIN = {"lora.dora": False, "lora.dropout": 0.0, "lora.init": "kaiming"}
"""The values with which peft adapts parameters."""

CASES: list[tuple[str, Configuration]] = [
    ("mixtral", {"targets": "experts", "layers": 2}),
    ("qwen3_moe", {"targets": "attention,experts", "freeze_a": True}),
    ("gpt_oss", {"targets": "experts", "layers": 1}),
    ("deepseek_v3", {"targets": "attention,shared-experts,experts"}),
    ("deepseek_v3", {"targets": "shared-experts", "layers": 1}),
    ("qwen2_moe", {"targets": "shared-experts", "layers": 2}),
    ("jamba", {"targets": "all,experts"}),
    ("granitemoehybrid", {"targets": "experts", "layers": 2}),
]


@pytest.mark.parametrize(("model", "config"), CASES, ids=lambda value: str(value))
def test_experts_are_counted_trained_saved_and_merged(model: str, config: Configuration) -> None:
    case = Case("lora", model, "causal-lm", 0, {**config, "rank": 3})
    costs = CostModel(shape_of(model, "causal-lm"), "causal-lm", workload("causal-lm"))(case.full_config)
    seen = observe(case)
    assert costs.trainable_params == seen.adapter
    assert costs.stored_bytes == seen.stored_bytes
    assert costs.train_flops == pytest.approx(seen.train_flops, rel=1e-9)
    assert costs.inference_flops == pytest.approx(seen.inference_flops, rel=1e-9)
    assert seen.wrong_gradients == ()
    assert seen.change > 1e-4
    assert seen.reload_error < 1e-6
    assert seen.merge_error is not None
    assert seen.merge_error < 1e-4 + 1e-3 * seen.change


def test_an_update_of_four_experts_by_hand() -> None:
    """Rank 3 on 4 experts of 112 x 32 and 32 x 56: 4 · 3 · (144 + 88) parameters per layer."""
    case = Case("lora", "mixtral", "causal-lm", 0, {"targets": "experts", "layers": 1, "rank": 3})
    assert observe(case).adapter == 4 * 3 * (112 + 32 + 32 + 56)


def test_no_other_word_names_routed_experts() -> None:
    shape = shape_of("mixtral", "causal-lm")
    assert [matrix.site for matrix in shape.select("all")] == ["q", "k", "v", "o"]
    assert [matrix.site for matrix in shape.select("experts")] == ["experts-gate_up", "experts-down"]
    with pytest.raises(ValueError, match=r"matches no module in bert; .* no experts that can be adapted"):
        shape_of("bert", "regression").select("experts")
    with pytest.raises(ValueError, match="its experts are not shared"):
        shape.select("shared-experts")


def test_shared_experts_are_adapted_like_other_matrices() -> None:
    shape = shape_of("deepseek_v3", "causal-lm")
    assert {m.name.rpartition(".")[0] for m in shape.select("shared-experts")} == {"mlp.shared_experts"}
    assert shape.in_layer(0, "feed-forward") != shape.in_layer(1, "feed-forward")
    assert {m.name.rpartition(".")[0] for m in shape.in_layer(1, "feed-forward")} == {"mlp.shared_experts"}


@pytest.mark.parametrize("family", ["ia3", "serial", "hra"])
def test_families_whose_names_peft_leaves_alone_adapt_shared_experts(family: str) -> None:
    local = {knob.name for knob in REGISTRY[family].parameters}
    config: Configuration = {"targets": "feed-forward"} if "targets" in local else {}
    case = Case(family, "qwen2_moe", "causal-lm", 0, config)
    costs = CostModel(shape_of("qwen2_moe", "causal-lm"), "causal-lm", workload("causal-lm"))
    seen = observe(case)
    assert costs(case.full_config).trainable_params == seen.adapter > 0
    assert costs(case.full_config).train_flops == pytest.approx(seen.train_flops, rel=1e-9)
    assert seen.wrong_gradients == ()


def test_a_family_without_experts_says_so() -> None:
    shape = shape_of("mixtral", "causal-lm")
    spec = {"families": ["oft"], "parameters": {"oft.targets": ["attention,experts", "experts"]}}
    assert "routed experts, which oft cannot adapt" in problems(spec, shape=shape)["parameters.oft.targets"]
    spec["parameters"]["oft.targets"].append("attention")
    loaded = load_space(spec, shape=shape)
    assert loaded.space["oft.targets"].choices == ("attention",)
    assert "which oft cannot adapt" in loaded.narrowed["oft.targets"]


def test_what_peft_supports_on_modules_alone_is_refused_with_experts() -> None:
    shape = shape_of("mixtral", "causal-lm")
    targets = {"lora.targets": ["attention", "experts"]}
    found = problems({"families": ["lora"], "parameters": targets}, shape=shape)
    assert {f"parameters.{name}" for name in PLAIN} == found.keys()
    assert "Write false, or leave experts out of lora.targets." in found["parameters.lora.dora"]
    loaded = load_space({"families": ["lora"], "parameters": {**targets, **PLAIN}}, shape=shape)
    assert loaded.space["lora.targets"].choices == ("attention", "experts")
    elsewhere = {"lora.dora": {"when": {"lora.targets": ["attention"]}}}
    apart = {**targets, "lora.dropout": 0.0, "lora.init": "kaiming", **elsewhere}
    assert "lora.dora" in load_space({"families": ["lora"], "parameters": apart}, shape=shape).space


def test_names_that_peft_takes_for_routed_experts_are_left_out_of_lora() -> None:
    shape = shape_of("deepseek_v3", "causal-lm")
    loaded = load_space({"families": ["lora"]}, shape=shape)
    assert loaded.space["lora.targets"].choices == ("q+v", "attention")
    assert re.search("peft's LoRA takes for those of its routed experts", loaded.narrowed["lora.targets"])
    subset = load_space({"families": ["lora"], "parameters": {"lora.targets": {"subset": True}}}, shape=shape)
    switches = [name for name in subset.space.names if name.startswith("lora.targets.")]
    assert switches == ["lora.targets.q", "lora.targets.kv", "lora.targets.o"]
