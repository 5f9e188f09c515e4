"""The contract of an adapter family, run over the registry: a new family is tested once it is registered."""

from __future__ import annotations

import re

import pytest
import torch

from search_spaces.costs.cost_model import CostModel, Costs
from search_spaces.families import REGISTRY, AdapterCost, Family, local_config, register
from search_spaces.model.gradient_flow import layer_gradients
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace
from tests.support.tiny_models import (
    DEPTH,
    TASKS,
    TOKENS,
    Case,
    batch,
    cases,
    logits,
    observe,
    pairs,
    shape_of,
    workload,
)


def estimated(case: Case) -> Costs:
    return CostModel(shape_of(case.model, case.task), case.task, workload(case.task))(case.full_config)


@pytest.mark.cases
def test_it_counts_its_parameters(case: Case) -> None:
    assert estimated(case).trainable_params == observe(case).adapter
    assert estimated(case).head_params == observe(case).head
    assert estimated(case).stored_bytes == observe(case).stored_bytes


@pytest.mark.cases
def test_its_flops_are_those_that_torch_counts(case: Case) -> None:
    """Training on one batch, and inference on one sample once merged: both sides count the same products."""
    assert estimated(case).train_flops == pytest.approx(observe(case).train_flops, rel=1e-9)
    assert estimated(case).inference_flops == pytest.approx(observe(case).inference_flops, rel=1e-9)


@pytest.mark.cases
def test_it_trains_saves_loads_and_merges(case: Case) -> None:
    seen = observe(case)
    assert seen.wrong_gradients == ()
    assert seen.change > 1e-4  # a multiplicative adapter moves little where the weights are small
    assert seen.reload_error < (1e-5 if case.is_converted else 1e-6)
    # Large changes of a weight (WaveFT's) cancel only up to rounding.
    assert seen.merge_error is None or seen.merge_error < 1e-4 + 1e-3 * seen.change


@pytest.mark.cases(where=lambda case: case.task == "sequence-classification" and case.number == 0)
def test_padding_changes_no_prediction(case: Case) -> None:
    model, left = case.adapted(), case.model == "xlnet"  # whose head reads the last token
    padded = batch(case.task, padded=True, left=left)
    length = int(padded["attention_mask"][0].sum())
    assert length < TOKENS
    kept = slice(-length, None) if left else slice(length)
    alone = {name: tensor[:1, kept] for name, tensor in padded.items() if name != "labels"}
    torch.testing.assert_close(logits(model, padded)[:1], logits(model, alone), atol=1e-5, rtol=1e-4)


def test_what_does_not_merge_cannot_be_merged() -> None:
    defaults = [c for c in cases() if c.number == 0 and c.model == "bert" and c.task != "regression"]
    costs = {c: REGISTRY[c.family].cost(c.config, shape_of(c.model, c.task)) for c in defaults}
    apart = [case for case, cost in costs.items() if not cost.mergeable]
    assert {case.family for case in apart} >= {"prefix", "prompt", "p_tuning", "lily", "serial"}
    refusals = (AttributeError, NotImplementedError, ValueError)
    for case in apart:
        with pytest.raises(refusals, match=r"merge_adapter|not supported|cannot be merged"):
            case.adapted().merge_adapter()


@pytest.mark.parametrize("name", REGISTRY)
def test_knobs_make_a_space_with_a_learning_rate(name: str) -> None:
    space = SearchSpace(REGISTRY[name].parameters).bind(DEPTH)
    assert "learning_rate" in space
    assert space.problems(space.default()) == []
    assert REGISTRY[name].name == name
    assert REGISTRY[name].title


@pytest.mark.parametrize("name", REGISTRY)
def test_peft_configurations_are_never_shared(name: str) -> None:
    """peft appends to `modules_to_save` in place, so a second call must start from a new list."""
    shape = shape_of("bert", "sequence-classification")
    if REGISTRY[name].unsupported(shape, shape.task):
        pytest.skip(f"{name} trains no head")
    config = SearchSpace(REGISTRY[name].parameters).bind(DEPTH).default()
    first = REGISTRY[name].peft_config(config, shape, shape.task)
    first.modules_to_save.append("score")
    assert REGISTRY[name].peft_config(config, shape, shape.task).modules_to_save == ["classifier"]


def test_every_family_supports_something_and_gives_reasons_for_the_rest() -> None:
    for family in REGISTRY.values():
        reasons = [family.unsupported(shape_of(model, task), task) for model, task in pairs()]
        assert None in reasons, family.name
        assert all(len(reason) > 20 for reason in reasons if reason is not None)


def test_what_is_unsupported() -> None:
    def refused(name: str) -> set[tuple[str, str]]:
        family = REGISTRY[name]
        return {(m, task) for m, task in pairs() if family.unsupported(shape_of(m, task), task)}

    assert {task for _, task in refused("head")} == {"causal-lm"}
    no_cache = {"distilbert", "modernbert", "deberta", "deberta_apart", "vit", "t5", "t5_gated"}
    no_cache |= {"longformer", "albert", "bart", "deberta_v1", "mamba", "mbart", "mpnet", "xlnet"}
    no_cache |= {"falcon", "falcon_new", "falcon_sequential"}  # whose kind of heads peft does not know
    no_cache |= {"deepseek_v3"}  # which compresses keys and values
    no_cache |= {"mamba2", "bamba", "falcon_h1", "granitemoehybrid", "jamba", "lfm2", "nemotron_h", "zamba2"}
    assert {model for model, _ in refused("prefix")} == no_cache
    assert {task for _, task in refused("prompt")} == set(TASKS) - {"causal-lm"}
    # Its virtual tokens have no labels, which tags of words would need.
    refused_prompt = {model for model, task in refused("prompt") if task != "token-classification"}
    assert not {"bert", "roberta", "electra", "distilbert", "deberta"} & refused_prompt
    assert {"vit", "t5"} <= refused_prompt
    assert refused("lora") | refused("ia3") | refused("norm") == set()


@pytest.mark.parametrize(
    ("model", "targets", "names"),
    [
        ("bert", "o", {"attention.output.dense"}),
        ("bert", "down", {"output.dense"}),
        ("bert", "q+v", {"attention.self.query", "attention.self.value"}),
        ("gpt2", "q+v", {"attn.c_attn"}),
        ("gpt2", "o+down", {"attn.c_proj", "mlp.c_proj"}),
        ("llama", "feed-forward", {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}),
    ],
)
@pytest.mark.parametrize("family", ["lora", "ia3"])
def test_targets_hit_exactly_what_they_name(family: str, model: str, targets: str, names: set[str]) -> None:
    case = Case(family, model, "regression", 0, {"targets": targets, "layers": 2})
    path = shape_of(model, "regression").layers_path
    hit = {
        name
        for name, module in case.adapted().base_model.model.named_modules()
        if hasattr(module, "base_layer")
    }
    assert hit == {f"{path}.{layer}.{name}" for layer in (1, 2) for name in names}


@pytest.mark.parametrize("model", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("name", REGISTRY)
def test_a_model_with_experts_is_adapted_in_the_chosen_layers_only(name: str, model: str) -> None:
    """peft reduces an expression for such a model to the last parts of the names that it matches."""
    shape = shape_of(model, "causal-lm")
    local = {knob.name for knob in REGISTRY[name].parameters}
    if "layers" not in local or REGISTRY[name].unsupported(shape, shape.task):
        pytest.skip(f"{name} has no layers to choose on {model}")
    case = Case(
        name, model, "causal-lm", 0, {"layers": 1} | ({"targets": "all"} if "targets" in local else {})
    )
    trained = [name for name, p in case.adapted().named_parameters() if p.requires_grad]
    assert trained
    assert not [name for name in trained if ".layers.0." in name or ".layers.1." in name]
    assert not [name for name in trained if ".experts." in name]


def test_ia3_rescales_the_input_of_down_and_the_output_of_the_rest() -> None:
    config = REGISTRY["ia3"].peft_config({"targets": "v+down"}, shape_of("bert", "regression"), "regression")
    layer = "bert.encoder.layer.2"
    assert re.fullmatch(config.feedforward_modules, f"{layer}.output.dense")
    assert not re.fullmatch(config.feedforward_modules, f"{layer}.attention.output.dense")
    assert not re.fullmatch(config.feedforward_modules, f"{layer}.attention.self.value")


@pytest.mark.parametrize(
    ("rank", "rslora", "multiplier"), [(8, False, 1.5), (8, True, 1.5), (32, False, 0.375), (32, True, 0.75)]
)
def test_scale_is_the_multiplier_at_rank_8(rank: int, rslora: bool, multiplier: float) -> None:
    """At rank r: scale · 8/r, or with rsLoRA scale · √(8/r)."""
    case = Case("lora", "bert", "regression", 0, {"rank": rank, "rslora": rslora, "scale": 1.5})
    scalings = [m.scaling["default"] for m in case.adapted().modules() if hasattr(m, "lora_A")]
    assert scalings == pytest.approx([multiplier] * len(scalings))
    assert len(scalings) == 6 * DEPTH


def test_layer_gradients_in_the_lowest_layer() -> None:
    """Queries alone: one gradient for the probabilities, one for the queries; o, up and down follow."""
    only_q = layer_gradients(frozenset({"q"}))
    assert (only_q.attention, only_q.k, only_q.v) == (False, False, False)
    assert only_q.mixed
    assert only_q.attention_products == 2
    assert layer_gradients(frozenset({"v"})).attention_products == 1
    assert layer_gradients(frozenset({"o"})).attention_products == 0
    assert not layer_gradients(frozenset({"o"})).reads("o")
    assert layer_gradients(frozenset({"o"})).reads("up")
    assert not layer_gradients(frozenset({"o"}), parallel=True).reads("up")
    assert layer_gradients(frozenset(), incoming=True).attention_products == 4
    assert layer_gradients(frozenset({"prefix"})).attention_products == 3


def test_a_name_registers_once() -> None:
    class Twin(Family):
        name = "lora"
        title = "twin"
        parameters = ()

        def unsupported(self, shape: object, task: object) -> None:
            return None

        def cost(self, config: object, shape: object) -> AdapterCost:
            return AdapterCost(0, 0)

        def peft_config(self, config: object, shape: object, task: object) -> None:
            return None

    with pytest.raises(ValueError, match="'lora' is already registered"):
        register(Twin)


def test_local_config_cuts_out_a_familys_own_knobs() -> None:
    config: Configuration = {
        "family": "lora",
        "lora.rank": 4,
        "lora.layers.0": True,
        "loran.rank": 5,
        "epochs": 2,
    }
    assert local_config("lora", config) == {"rank": 4, "layers.0": True}
