"""Orthogonal, spectral, shared and other matrix adapters: what each promises beside the common contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, GPT2Config, LlamaConfig

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY
from search_spaces.families.framework.block_sizes import FittedFamily, largest_divisor, smallest_side
from search_spaces.model.parts import Matrix
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace
from tests.support.tiny_models import (
    BATCH,
    DEPTH,
    TOKENS,
    Case,
    batch,
    build,
    largest,
    logits,
    shape_of,
    step,
)

FITTED = sorted(name for name, family in REGISTRY.items() if isinstance(family, FittedFamily))
LINEAR_ONLY = {
    "adamss",
    "beft",
    "boft",
    "c3a",
    "delora",
    "glora",
    "hra",
    "lily",
    "miss",
    "oft",
    "peanut",
    "psoft",
}
CLASSES = "sequence-classification"


def case(family: str, config: Configuration, model: str = "bert") -> Case:
    return Case(family, model, "regression", 0, config)


def trained(one: Case) -> Any:
    """The adapted model after one step, in evaluation mode."""
    model = one.adapted()
    step(model, batch(one.task))
    return model.eval()


def adapters(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "base_layer")]


@pytest.fixture(scope="module")
def real_shapes() -> tuple[ModelShape, ...]:
    """BERT base, MiniLM, Qwen2's 0.5B as a Llama, Llama-2's 7B and GPT-2."""
    qwen = {"num_attention_heads": 14, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 90}
    minilm = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
    return (
        read_shape(BertConfig(), CLASSES),
        read_shape(BertConfig(**minilm), CLASSES),
        read_shape(LlamaConfig(hidden_size=896, intermediate_size=4864, **qwen), "causal-lm"),
        read_shape(LlamaConfig(num_hidden_layers=2, vocab_size=90), "causal-lm"),
        read_shape(GPT2Config(), "causal-lm"),
    )


@pytest.mark.parametrize(
    ("limit", "sizes", "expected"), [(32, [768, 3072], 32), (32, [32, 56], 8), (7, [12], 6), (8, [9, 15], 3)]
)
def test_the_largest_divisor(limit: int, sizes: list[int], expected: int) -> None:
    assert largest_divisor(limit, sizes) == expected
    assert largest_divisor(1, sizes) == 1


def test_the_smallest_side() -> None:
    matrices = shape_of("llama", "causal-lm").matrices
    assert smallest_side(matrices) == 16
    assert smallest_side(m for m in matrices if m.role == "up") == 32


@pytest.mark.parametrize("name", FITTED)
def test_sampled_sizes_suit_real_models(name: str, real_shapes: tuple[ModelShape, ...]) -> None:
    family, rng = REGISTRY[name], np.random.default_rng(0)
    assert isinstance(family, FittedFamily)
    for shape in real_shapes:
        if family.unsupported(shape, shape.task):
            continue
        space = SearchSpace(family.parameters).bind(shape.depth)
        for config in [space.sample(rng) for _ in range(20)]:
            fitted = family.fit_to_model(config, shape)
            matrices = family.matrices(config, shape)
            cost = family.cost(config, shape)
            assert 0 < cost.parameters < shape.base_parameters
            assert cost.stored_bytes >= 4 * cost.parameters
            assert cost.backward_flops >= 0
            if "block_size" in fitted:
                assert 1 < fitted["block_size"] <= config["block_size"]
                assert all(matrix.inputs % fitted["block_size"] == 0 for matrix in matrices)
            if name in ("psoft", "miss"):
                assert fitted["rank"] <= min(m.inputs for m in matrices)


BY_HAND: list[tuple[str, Configuration, int]] = [
    ("oft", {"block_size": 32}, 24 * 496),
    ("oft", {"block_size": 32, "share": True}, 496),
    ("boft", {"block_size": 8}, 96 * 64 + 768),
    ("hra", {"rank": 8}, 8 * 768),
    ("miss", {"rank": 16}, 16 * 768),
    ("delora", {"rank": 8}, 2 * 8 * 768 + 1),
    ("hira", {"rank": 32}, 2 * 32 * 768),
    ("fourierft", {"frequencies": 1000}, 1000),
    ("c3a", {"block_size": 128}, 6 * 768),
    ("beft", {}, 768),
    ("peanut", {"rank": 8, "depth": 2}, 2 * 8 * 768 + 4 * 64),
    ("glora", {"rank": 4}, 4 * 4 * 768 + 4 * 769 + 2),
    ("glora", {"weight": "vector", "prompt": "none", "bias": "vector"}, 4 * 768),
    ("psoft", {"rank": 64}, 2016 + 128),
    ("waveft", {"coefficients": 2592}, 2592),
    ("tinylora", {"numbers": 64}, 64),
    ("deft", {"rank": 8}, 2 * 8 * 768),
]


@pytest.mark.parametrize(("name", "config", "parameters"), BY_HAND)
def test_parameters_on_one_matrix_of_768(
    name: str, config: Configuration, parameters: int, real_shapes: tuple[ModelShape, ...]
) -> None:
    one = {**config, "targets": "v", "layers": 1}
    assert REGISTRY[name].cost(one, real_shapes[0]).parameters == parameters
    assert REGISTRY[name].cost({**one, "layers": 12}, real_shapes[0]).parameters == 12 * parameters


def test_one_vector_for_the_whole_model(real_shapes: tuple[ModelShape, ...]) -> None:
    for layers in (1, 12):
        config = {"targets": "all", "layers": layers}
        assert REGISTRY["unilora"].cost({**config, "length": 500}, real_shapes[0]).parameters == 500
        tied = {**config, "tied": True, "numbers": 13}
        assert REGISTRY["tinylora"].cost(tied, real_shapes[0]).parameters == 13


@pytest.mark.parametrize("name", sorted({*FITTED} - {"unilora"}))
def test_training_starts_from_the_bases_own_function(name: str) -> None:
    """Uni-LoRA alone starts from a small random change. HRA's reflections cancel up to rounding."""
    one = Case(name, "bert", CLASSES, 0, {"layers": DEPTH})
    inputs = batch(CLASSES)
    assert largest(logits(one.adapted(), inputs) - logits(build("bert", CLASSES), inputs)) < 1e-5


@pytest.mark.parametrize("name", FITTED)
def test_the_backward_pass_ends_where_the_formula_says(name: str) -> None:
    """One layer, one role: what is differentiated in the lowest layer depends on the site."""
    workload = Workload(TOKENS, TOKENS**2, BATCH, BATCH)
    for model in ("bert", "llama"):
        for targets in ("q", "o", "down"):
            one = case(name, {"targets": targets, "layers": 1}, model)
            costs = CostModel(shape_of(model, one.task), one.task, workload)(one.full_config)
            assert costs.train_flops == pytest.approx(step(one.adapted(), batch(one.task)), rel=1e-9), targets


def test_transposed_matrices_are_refused_where_peft_refuses_them() -> None:
    shape = shape_of("gpt2", "causal-lm")
    reasons = {name: REGISTRY[name].unsupported(shape, "causal-lm") for name in FITTED}
    assert {name for name, reason in reasons.items() if reason} >= LINEAR_ONLY
    assert all("Conv1D" in str(reasons[name]) for name in LINEAR_ONLY)
    for name in {*FITTED} - LINEAR_ONLY:
        assert reasons[name] is None


def test_matrices_without_a_common_block_are_refused() -> None:
    shape = shape_of("bert", CLASSES)
    odd = replace(shape, matrices=(*shape.matrices, Matrix("down", "odd", 33, 32, bias=True)))
    for name in ("oft", "boft"):
        assert "not all even" in str(REGISTRY[name].unsupported(odd, CLASSES))
    assert "no common divisor" in str(REGISTRY["c3a"].unsupported(odd, CLASSES))


@pytest.mark.parametrize(("name", "config"), [("hra", {"rank": 4}), ("boft", {"block_size": 4})])
def test_orthogonal_adapters_keep_the_singular_values(name: str, config: Configuration) -> None:
    """W times a rotation has W's singular values; BOFT then gives each output a length of its own."""
    model = trained(case(name, {**config, "targets": "q", "layers": 1}))
    (adapter,) = adapters(model)
    before = torch.linalg.svdvals(adapter.base_layer.weight.detach().clone())
    model.merge_adapter()
    merged = adapter.base_layer.weight.detach()
    if name == "boft":
        merged = merged / adapter.boft_s["default"].detach()
    torch.testing.assert_close(torch.linalg.svdvals(merged), before, atol=1e-5, rtol=1e-4)


def test_boft_has_one_factor() -> None:
    (adapter,) = adapters(case("boft", {"targets": "q", "layers": 1}).adapted())
    assert adapter.boft_R["default"].shape == (1, 4, 8, 8)


def test_c3a_adds_circulant_blocks() -> None:
    (adapter,) = adapters(trained(case("c3a", {"targets": "q", "layers": 1, "block_size": 8})))
    delta = adapter.get_delta_weight("default").detach()
    blocks = delta.reshape(4, 8, 4, 8).permute(0, 2, 1, 3)
    shifted = torch.roll(blocks, shifts=(1, 1), dims=(-2, -1))
    torch.testing.assert_close(blocks, shifted, atol=1e-6, rtol=1e-5)
    assert largest(delta) > 0


def test_lily_shares_across_layers_and_saves_each_share() -> None:
    config: Configuration = {"targets": "o+down", "layers": 3, "stride": 2, "rank": 4, "experts": 2}
    one = case("lily", config)
    found = adapters(one.adapted())
    for inputs in (32, 56):
        role = [adapter for adapter in found if adapter.base_layer.in_features == inputs]
        assert len(role) == 3
        assert len({id(adapter.lily_A["default"]) for adapter in role}) == 2
        assert len({id(adapter.lily_B["default"]) for adapter in role}) == 1
    cost = REGISTRY["lily"].cost(config, shape_of("bert", "regression"))
    routers = 2 * 3 * 4 * 2
    assert cost.parameters == 2 * 4 * (32 + 56) + 2 * 2 * 4 * 32 + routers
    assert cost.stored_bytes == 4 * (3 * 4 * (32 + 56) + 2 * 3 * 2 * 4 * 32 + routers)


def test_lily_is_refused_where_names_do_not_tell_matrices_apart() -> None:
    shape = shape_of("bert", CLASSES)
    square = replace(
        shape, matrices=tuple(replace(m, inputs=32) if m.role == "down" else m for m in shape.matrices)
    )
    assert "'attention.output.dense'" in str(REGISTRY["lily"].unsupported(square, CLASSES))


def test_biases_merge_where_there_are_biases() -> None:
    for model, merges in (("bert", True), ("llama", False)):
        assert REGISTRY["beft"].cost({"layers": 1}, shape_of(model, "regression")).mergeable is merges
    with pytest.raises(ValueError, match="no bias"):
        case("beft", {"layers": 1}, "llama").adapted().merge_adapter()


def test_p_tuning_stores_less_than_it_trains(real_shapes: tuple[ModelShape, ...]) -> None:
    cost = REGISTRY["p_tuning"].cost({"tokens": 10, "hidden": 128}, real_shapes[0])
    network = 768 * 128 + 128 * 128 + 128 * 768 + 2 * 128 + 768
    assert cost.stored_bytes == 4 * 10 * 768
    assert cost.parameters == 10 * 768 + network
    costs = CostModel(real_shapes[0], CLASSES, Workload(16, 256, 100))
    p_tuning = costs({"family": "p_tuning", "p_tuning.tokens": 10})
    prompt = costs({"family": "prompt", "prompt.tokens": 10})
    assert p_tuning.inference_flops == prompt.inference_flops
    assert p_tuning.stored_bytes == prompt.stored_bytes
    steps = 100 / 32
    weights = 2 * 768 * 128 + 128**2
    assert p_tuning.train_flops - prompt.train_flops == pytest.approx(steps * 6 * 10 * weights)


def test_p_tuning_is_refused_where_peft_would_mistake_its_network_for_the_head() -> None:
    assert "mlp_head" in str(REGISTRY["p_tuning"].unsupported(shape_of("modernbert", CLASSES), CLASSES))
    assert REGISTRY["p_tuning"].unsupported(shape_of("bert", CLASSES), CLASSES) is None
