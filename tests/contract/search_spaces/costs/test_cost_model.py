"""Costs in closed form against what peft instantiates and what autograd computes."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from transformers import BertConfig

from search_spaces.costs.cost_model import KNOWN_COSTS, CostModel, Costs
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY
from search_spaces.families.composite import PARTS
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import TaskType
from search_spaces.parameters.types import Configuration
from tests.support.grids import pairwise
from tests.support.tiny_models import (
    BATCH,
    MAIN,
    TOKENS,
    Case,
    batch,
    build,
    pairs,
    shape_of,
    step,
    workload,
)

EXACT = 1e-9
"""Relative tolerance of FLOPs: both sides count the same products, so only rounding may differ."""

OF_SIDES = ("k+down", "cross-attention", "encoder.q+v", "decoder.k", "decoder.v+o")
"""Targets in the encoder, in the decoder, between them, and in both."""
SITES = ("gate", "q", "k", "v", "o", "up", "down", "o+up", "k+down")


def estimated(case: Case) -> Costs:
    return CostModel(shape_of(case.model, case.task), case.task, workload(case.task))(case.full_config)


@pytest.mark.parametrize("model", [*MAIN, "gpt_neox"])
@pytest.mark.parametrize("family", ["lora", "ia3"])
def test_truncation_inside_the_lowest_layer(family: str, model: str) -> None:
    """Each role alone, and pairs: what is differentiated in the lowest layer depends on the site."""
    for targets in SITES if model == "llama" else SITES[1:]:
        case = Case(family, model, "regression", 0, {"targets": targets, "layers": 1})
        expected = step(case.adapted(), batch(case.task))
        assert estimated(case).train_flops == pytest.approx(expected, rel=EXACT), targets


@pytest.mark.parametrize(("chosen", "targets"), pairwise([1, 2, 3, 5, (1, 3), (0, 4)], OF_SIDES))
def test_truncation_in_an_encoder_decoder(targets: str, chosen: int | tuple[int, ...]) -> None:
    """Whether the encoder's output needs a gradient decides what every layer of the decoder computes."""
    config: Configuration = {"targets": targets, "rank": 3}
    if isinstance(chosen, int):
        config["layers"] = chosen
    else:
        config |= {f"layers.{layer}": layer in chosen for layer in range(5)}
    case = Case("lora", "t5", "regression", 0, config)
    expected = step(case.adapted(), batch(case.task))
    assert estimated(case).train_flops == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("seed", range(5))
def test_composites_in_an_encoder_decoder(seed: int) -> None:
    """Parts with layers of their own, so that every layer of the decoder has other sites."""
    rng = np.random.default_rng(seed)
    config: Configuration = {f"parts.{part}": True for part in PARTS}
    for part in PARTS:
        kept = int(rng.integers(5))
        config |= {f"{part}.layers.{i}": bool(i == kept or (rng.random() < 0.3 and seed)) for i in range(5)}
    case = Case("composite", "t5", "regression", 0, config)
    expected = step(case.adapted(), batch(case.task))
    assert estimated(case).train_flops == pytest.approx(expected, rel=EXACT)


VARIED = {
    "jamba": ("all", "attention", "mixer", "feed-forward"),
    "falcon_h1": ("attention", "mixer"),
    "nemotron_h": ("attention",),
    "zamba2": ("all",),
}
"""Targets on models whose layers differ."""


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("model", "targets"), [(model, targets) for model, each in VARIED.items() for targets in each]
)
def test_layers_that_differ(model: str, targets: str, layers: int) -> None:
    """Layers without a matrix of the targets carry nothing, and the backward pass ends at the lowest that has one."""
    case = Case("lora", model, "causal-lm", 0, {"targets": targets, "layers": layers, "rank": 3})
    adapted = case.adapted()
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert estimated(case).trainable_params == trained
    assert estimated(case).train_flops == pytest.approx(step(adapted, batch(case.task)), rel=EXACT)


@pytest.mark.parametrize(("family", "config"), [("prompt", {"tokens": 8}), ("prompt", {"tokens": 4})])
def test_virtual_tokens_are_padded_to_the_chunks_of_a_mixer(family: str, config: Configuration) -> None:
    """12 tokens make 3 chunks of 5, and 20 or 16 with those of the prompt 4."""
    case = Case(family, "bamba", "causal-lm", 0, config)
    assert estimated(case).train_flops == pytest.approx(step(case.adapted(), batch(case.task)), rel=EXACT)


def test_layers_without_a_matrix_of_the_targets_are_left_out() -> None:
    """Jamba's attention is in layer 1 alone; its layers 0 and 1 have a feed-forward network, 2 has experts."""
    shape, lora = shape_of("jamba", "causal-lm"), REGISTRY["lora"]
    assert isinstance(lora, MatrixFamily)
    mask: Configuration = {f"layers.{layer}": layer == 2 for layer in range(3)}
    for targets, config, expected in (
        ("attention", {"layers": 3}, (1,)),
        ("attention", {"layers": 1}, (1,)),
        ("attention", mask, (1,)),
        ("feed-forward", {"layers": 2}, (1,)),
        ("mixer", mask, (2,)),
        ("all", {"layers": 3}, (0, 1, 2)),
    ):
        assert lora.chosen_layers({**config, "targets": targets}, shape) == expected, (targets, config)
    assert shape.without_attention == (0, 2)
    assert not shape.is_uniform
    assert shape_of("bert", "regression").is_uniform


def test_costs_of_layers_that_differ_are_the_same_one_by_one_and_in_a_table() -> None:
    costs = CostModel(shape_of("jamba", "causal-lm"), "causal-lm", workload("causal-lm"))
    configs: list[Configuration] = [
        {"family": "lora", "lora.targets": targets, "lora.layers": layers, "lora.rank": rank}
        for targets in ("all", "q+v", "mixer")
        for layers in (1, 2, 3)
        for rank in (2, 5)
    ]
    table = costs.many(configs)
    assert table.train_flops.tolist() == [costs(config).train_flops for config in configs]
    assert table.trainable_params.tolist() == [costs(config).trainable_params for config in configs]


def test_a_mask_off_the_side_of_the_targets_means_its_top_layer() -> None:
    shape = shape_of("t5", "regression")
    mask: Configuration = {f"layers.{layer}": layer == 1 for layer in range(5)}
    lora = REGISTRY["lora"]
    assert isinstance(lora, MatrixFamily)
    for targets, config, expected in (
        ("decoder.q", mask, (4,)),
        ("encoder.q", mask, (1,)),
        ("q", mask, (1,)),
        ("encoder.q", {"layers": 2}, (1, 2)),
        ("decoder.q", {"layers": 4}, (3, 4)),
        ("q", {"layers": 4}, (1, 2, 3, 4)),
    ):
        assert lora.chosen_layers({**config, "targets": targets}, shape) == expected


@pytest.mark.parametrize("model", ["deberta", "deberta_apart"])
@pytest.mark.parametrize(("targets", "layers"), pairwise(["q", "k", "v", "q+k"], [1, 3]))
def test_relative_positions(model: str, targets: str, layers: int) -> None:
    """Shared projections carry the adapter to the positions; those apart stay frozen."""
    config: Configuration = {"targets": targets, "layers": layers, "rank": 3, "dora": True}
    case = Case("lora", model, "regression", 0, config)
    expected = step(case.adapted(), batch(case.task))
    assert estimated(case).train_flops == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("model", MAIN)
@pytest.mark.parametrize(("dropout", "layers"), pairwise([0.0, 0.1], [1, 3]))
def test_dora_as_peft_computes_it(model: str, dropout: float, layers: int) -> None:
    config: Configuration = {"targets": "all", "layers": layers, "rank": 3, "dora": True, "dropout": dropout}
    case = Case("lora", model, "sequence-classification", 0, config)
    expected = step(case.adapted(), batch(case.task))
    assert estimated(case).train_flops == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize(
    ("model", "task"),
    [pytest.param(*pair, marks=pytest.mark.slow if pair[1] == "regression" else ()) for pair in pairs()],
)
def test_full_fine_tuning(model: str, task: TaskType) -> None:
    flops = CostModel(shape_of(model, task), task, workload(task)).full_fine_tuning_flops()
    network = build(model, task)
    expected = step(network, batch(task)) - sum(map(_overcounted, network.modules()))
    assert flops == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("targets", ["all", "q+v", "down"])
def test_adapters_on_a_sliding_window(targets: str, layers: int) -> None:
    """Without the products with the first token in the lowest layer, which are below half a percent."""
    case = Case("lora", "longformer", "regression", 0, {"targets": targets, "layers": layers, "rank": 3})
    model = case.adapted()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    costs = estimated(case)
    assert trained == costs.trainable_params + costs.head_params
    assert costs.train_flops == pytest.approx(step(model, batch(case.task)), rel=5e-3)


def _overcounted(module: torch.nn.Module) -> int:
    """Return what torch counts for the weight gradient of a depthwise convolution, as if every channel met all."""
    if not isinstance(module, torch.nn.Conv1d) or module.groups == 1:
        return 0
    (kernel,), channels = module.kernel_size, module.groups
    return 2 * BATCH * (TOKENS + kernel - 1) * kernel * channels * (channels - 1)


@pytest.fixture(scope="module")
def bert_base() -> CostModel:
    shape = read_shape(BertConfig(), "sequence-classification", 2)
    return CostModel(shape, "sequence-classification", Workload(128, 128**2, 2000))


def test_bert_base_by_hand(bert_base: CostModel) -> None:
    """Hu et al.'s LoRA on queries and values at rank 8: 12 layers · 2 · 8 · (768 + 768) = 294,912."""
    costs = bert_base({"family": "lora", "lora.targets": "q+v", "lora.rank": 8})
    assert costs.trainable_params == 294_912
    assert costs.head_params == 2 * 768 + 2
    assert costs.stored_bytes == 4 * (294_912 + 1538)
    matrices = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    inference = 128 * 2 * matrices + 12 * 4 * 768 * 128**2 + 2 * 768 * 768 + 2 * 768 * 2
    assert costs.inference_flops == inference
    assert bert_base.full_fine_tuning_flops() == 2000 * 3 * inference


@pytest.mark.parametrize(("layers", "low", "high"), [(12, 0.66, 0.70), (6, 0.48, 0.53), (1, 0.33, 0.39)])
def test_lora_as_a_share_of_full_fine_tuning(
    bert_base: CostModel, layers: int, low: float, high: float
) -> None:
    """Everywhere about two thirds (no weight gradients), less where the backward pass ends early."""
    costs = bert_base({"family": "lora", "lora.targets": "all", "lora.rank": 8, "lora.layers": layers})
    assert low < costs.train_flops / bert_base.full_fine_tuning_flops() < high


def test_prompts_are_cheap_in_parameters_and_dear_in_flops(bert_base: CostModel) -> None:
    prompt = bert_base({"family": "prompt", "prompt.tokens": 64})
    lora = bert_base({"family": "lora", "lora.rank": 8})
    assert prompt.trainable_params < lora.trainable_params / 10
    assert prompt.train_flops > 1.3 * lora.train_flops
    assert prompt.inference_flops > 1.3 * lora.inference_flops


def test_epochs_samples_and_batch_size(bert_base: CostModel) -> None:
    one = bert_base({"family": "lora"})
    assert bert_base({"family": "lora", "epochs": 3}).train_flops == pytest.approx(3 * one.train_flops)
    assert bert_base({"family": "lora", "batch_size": 4}).train_flops == one.train_flops
    small = bert_base({"family": "lora", "lora.dora": True, "batch_size": 8}).train_flops
    large = bert_base({"family": "lora", "lora.dora": True, "batch_size": 64}).train_flops
    assert small - large == pytest.approx(
        2000
        * (1 / 8 - 1 / 64)
        * 12
        * sum(2 * 8 * i * (i + o) for i, o in [(768, 768)] * 4 + [(768, 3072), (3072, 768)])
    )


def test_attention_follows_the_mean_square(bert_base: CostModel) -> None:
    """Same mean length, unequal lengths: only the attention products grow."""
    unequal = CostModel(bert_base.shape, bert_base.task, Workload(128, 2 * 128**2, 2000))
    difference = unequal.full_fine_tuning_flops() - bert_base.full_fine_tuning_flops()
    assert difference == pytest.approx(2000 * 3 * 12 * 4 * 768 * 128**2)


def test_a_call_is_fast_enough_to_score_a_grid(bert_base: CostModel) -> None:
    """About 20 µs; the limit leaves room for a busy machine."""
    configs = [
        {"family": "lora", "lora.rank": r, "lora.layers": n} for r in range(1, 65) for n in range(1, 13)
    ]
    start = time.process_time()
    for config in configs:
        bert_base(config)
    assert (time.process_time() - start) / len(configs) < 500e-6


def test_known_costs_are_fields_of_costs(bert_base: CostModel) -> None:
    costs = bert_base({"family": "head"})
    assert all(getattr(costs, name) >= 0 for name in KNOWN_COSTS)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0, 0, 10), "tokens"),
        ((8, 63, 10), "tokens_square"),
        ((8, 64, 0), "train_samples"),
        ((8, 64, 1, 0), "batch_size"),
    ],
)
def test_an_impossible_workload_is_refused(arguments: tuple[int, ...], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        Workload(*arguments)


def test_a_wrong_family_or_task_is_refused(bert_base: CostModel) -> None:
    with pytest.raises(ValueError, match=r"^family: 'loro'"):
        bert_base({"family": "loro"})
    with pytest.raises(ValueError, match=r"^family: None"):
        bert_base({"lora.rank": 4})
    with pytest.raises(ValueError, match=r"^task: 'regression'"):
        CostModel(bert_base.shape, "regression", bert_base.workload)
