"""Shapes read from configurations, checked against the instantiated models and against known figures."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AlbertConfig,
    BertConfig,
    DebertaV2Config,
    FNetConfig,
    GPT2Config,
    MixtralConfig,
    MobileBertConfig,
    NystromformerConfig,
    OPTConfig,
    RobertaConfig,
    ViTConfig,
)

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.model.parts import is_targets
from search_spaces.model.reader import empty_network, read_shape, shape_of_network
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.parameters.types import Configuration
from tests.support.tiny_configs import CONFIGS, DEPTH
from tests.support.tiny_models import LABELS, build, pairs, shape_of


@pytest.mark.parametrize(("model", "task"), pairs())
def test_a_shape_counts_what_is_there(model: str, task: TaskType) -> None:
    shape, network = shape_of(model, task), build(model, task)
    modules = dict(network.named_modules())
    assert shape.unrolled.encoder_depth == DEPTH
    assert shape.base_parameters + shape.head_parameters == sum(p.numel() for p in network.parameters())
    assert shape.head_parameters == sum(
        p.numel() for name in shape.head_modules for p in modules[name].parameters()
    )
    for layer in range(shape.depth):
        for matrix in shape.in_layer(layer):
            module = modules[f"{shape.layer_path(layer)}.{matrix.name}"]
            sizes = tuple(module.weight.shape)
            assert sizes == (
                (matrix.inputs, matrix.outputs) if matrix.conv1d else (matrix.outputs, matrix.inputs)
            )
            assert matrix.bias == (module.bias is not None)
    for norm in shape.norms:
        assert norm.parameters == sum(p.numel() for p in modules[norm.name].parameters())
    in_layers = sum(p.numel() for p in modules[shape.layers_path].parameters())
    below = sum(inputs * outputs + outputs for inputs, outputs in shape.input_matrices)
    assert in_layers <= shape.body_parameters - below <= shape.base_parameters
    assert shape.task == task
    assert shape.labels == {"regression": 1, "causal-lm": 0}.get(task, LABELS)


def test_bert_base() -> None:
    """The sizes of bert-base-uncased: 109,482,240 parameters without a head."""
    shape = read_shape(BertConfig(), "sequence-classification", 2)
    assert shape.base_parameters == 109_482_240
    assert shape.head_parameters == 1538
    assert (shape.depth, shape.width, shape.heads, shape.head_width) == (12, 768, 12, 64)
    assert (shape.vocabulary, shape.max_positions) == (30522, 512)
    assert shape.layers_path == "bert.encoder.layer"
    assert [matrix.role for matrix in shape.matrices] == ["q", "k", "v", "o", "up", "down"]
    assert [(m.name, m.trained) for m in shape.head] == [("bert.pooler.dense", False), ("classifier", True)]
    assert {norm.place for norm in shape.norms} == {"feed-forward", "output"}


def test_roberta_base_has_a_heavy_head() -> None:
    assert read_shape(RobertaConfig(), "sequence-classification", 2).head_parameters == 592_130


def test_gpt2_ties_its_output_to_its_embeddings() -> None:
    """GPT-2 small: 124,439,808 parameters, 85 M of them in the layers and the last normalization."""
    shape = read_shape(GPT2Config(), "causal-lm")
    assert shape.base_parameters == 124_439_808
    assert shape.body_parameters == 124_439_808 - (50257 + 1024) * 768
    assert shape.head_modules == ()
    assert shape.conv1d
    assert [(m.per_token, m.trained, m.outputs) for m in shape.head] == [(True, False, 50257)]


def test_grouped_heads_and_free_head_width() -> None:
    shape = shape_of("qwen3", "causal-lm")
    assert (shape.attention_width, shape.kv_width, shape.width) == (48, 24, 32)
    assert {"q", "k"} <= {norm.place for norm in shape.norms}
    assert {norm.bias for norm in shape.norms} == {False}


def test_select_by_role_by_set_and_through_fused_matrices() -> None:
    def roles(model: str, targets: str) -> list[str]:
        return [matrix.role for matrix in shape_of(model, "sequence-classification").select(targets)]

    assert roles("bert", "v+q") == ["q", "v"]
    assert roles("bert", "attention") == ["q", "k", "v", "o"]
    assert roles("bert", "feed-forward") == roles("bert", "gate+up+down") == ["up", "down"]
    assert roles("llama", "feed-forward") == ["gate", "up", "down"]
    assert roles("gpt2", "q+v") == roles("gpt2", "qkv") == ["qkv"]
    assert roles("modernbert", "gate+up") == ["gate_up"]
    assert len(roles("llama", "all")) == 7


def test_an_encoder_decoder_is_two_stacks_with_one_numbering() -> None:
    shape = shape_of("t5", "sequence-classification")
    assert (shape.depth, shape.encoder_depth, shape.decoder_depth) == (5, 3, 2)
    assert [shape.stack_of(layer) for layer in range(5)] == [0, 0, 0, 1, 1]
    assert shape.layer_path(2) == "transformer.encoder.block.2"
    assert shape.layer_path(3) == "transformer.decoder.block.0"
    assert [(n.layer, n.name) for n in shape.norms if n.place == "final"] == [
        (2, "transformer.encoder.final_layer_norm"),
        (5, "transformer.decoder.final_layer_norm"),
    ]
    pattern = shape.modules((2, 3), shape.select("q"))
    hit = [name for name, _ in build("t5", "regression").named_modules() if re.fullmatch(pattern, name)]
    assert hit == [
        "transformer.encoder.block.2.layer.0.SelfAttention.q",
        "transformer.decoder.block.0.layer.0.SelfAttention.q",
        "transformer.decoder.block.0.layer.1.EncDecAttention.q",
    ]


def test_select_on_one_side_of_an_encoder_decoder() -> None:
    def sites(targets: str) -> list[str]:
        return [f"{m.stack}{m.site}" for m in shape_of("t5", "regression").select(targets)]

    assert sites("q+v") == ["0q", "0v", "1q", "1v", "1cross-q", "1cross-v"]
    assert sites("encoder.q+v") == ["0q", "0v"]
    assert sites("decoder.feed-forward") == ["1up", "1down"]
    assert sites("cross-attention") == ["1cross-q", "1cross-k", "1cross-v", "1cross-o"]
    with pytest.raises(ValueError, match=r"'decoder\.all' matches no module in bert; .* one stack"):
        shape_of("bert", "regression").select("decoder.all")
    known = ["encoder.q+v", "cross-attention", "all", "middle.all", "encoder.w"]
    assert [is_targets(text) for text in known] == [True, True, True, False, False]


def test_deberta_shares_its_projections_or_has_them_apart() -> None:
    shared, apart = shape_of("deberta", "regression"), shape_of("deberta_apart", "regression")
    assert shared.positions == apart.positions == 10
    assert {m.role for m in shared.matrices if m.positions == 10} == {"q", "k"}
    assert [m.positions for m in apart.matrices] == [0] * 6
    assert (shared.position_matrices, apart.position_matrices) == ((), ((32, 32), (32, 32)))
    assert apart.input_matrices == ((3 * 32, 32),), "the convolution over three neighbors"
    with pytest.raises(ValueError, match="projects positions that are not used"):
        read_shape(DebertaV2Config(**SMALL, relative_attention=True, share_att_key=True), "regression")


def test_an_image_is_its_patches() -> None:
    """ViT-B/16 with 1,000 classes: 86,567,656 parameters."""
    shape = read_shape(ViTConfig(), "image-classification", 1000)
    assert shape.base_parameters + shape.head_parameters == 86_567_656
    assert (shape.patches, shape.patch_matrix, shape.vocabulary) == (196, (3 * 16 * 16, 768), 0)


def test_select_refuses_what_it_cannot_find() -> None:
    shape = shape_of("bert", "sequence-classification")
    with pytest.raises(ValueError, match=r"targets: 'q\+w' names \['w'\]"):
        shape.select("q+w")
    with pytest.raises(ValueError, match="matches no module in bert"):
        shape.select("gate")


def test_a_folder_with_a_configuration_alone_is_enough(tmp_path: Path) -> None:
    config = CONFIGS["llama"]()
    config.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert read_shape(str(tmp_path), "causal-lm") == shape_of("llama", "causal-lm")


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig"}})
    )
    with pytest.raises(ValueError, match="trust_remote_code"):
        read_shape(str(tmp_path), "causal-lm")
    assert not marker.exists()


def test_a_shape_pickles() -> None:
    shape = shape_of("gpt2", "causal-lm")
    shape.select("all")
    copy: ModelShape = pickle.loads(pickle.dumps(shape))
    assert copy == shape
    assert copy.select("q+v") == shape.select("q+v")


def test_the_configuration_given_is_left_alone() -> None:
    config = BertConfig(num_labels=5)
    assert read_shape(config, "regression").labels == 1
    assert config.num_labels == 5


SMALL = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def test_layers_that_are_not_there_are_reported_with_what_is() -> None:
    config = FNetConfig(vocab_size=40, hidden_size=16, num_hidden_layers=3, intermediate_size=24)
    config.num_hidden_layers = 4
    network = empty_network(config, "sequence-classification", 2, False)
    network.config.num_hidden_layers = 3
    with pytest.raises(
        ValueError, match=r"no list of 3 layers .* fnet\.encoder\.layer\.\*.*known types: albert, "
    ):
        shape_of_network(network, "sequence-classification")


def test_albert_has_one_layer_that_runs_many_times() -> None:
    """The sizes of albert-base-v2: 11,683,584 parameters without a head."""
    shape = read_shape(AlbertConfig.from_dict({**ALBERT_BASE}), "sequence-classification", 2)
    assert shape.base_parameters == 11_683_584
    assert (shape.depth, shape.repeats, shape.unrolled.depth, shape.unrolled.repeats) == (1, 12, 12, 1)
    assert shape.layers_path == "albert.encoder.albert_layer_groups.0.albert_layers"
    costs = CostModel(shape, shape.task, Workload(16, 16**2, 10))({"family": "lora", "lora.targets": "q+v"})
    assert costs.trainable_params == 2 * 8 * (768 + 768)
    with pytest.raises(ValueError, match="3 groups of layers that share weights are not supported"):
        read_shape(AlbertConfig(**SMALL, num_hidden_groups=3, num_hidden_layers=3), "sequence-classification")


ALBERT_BASE = {
    "vocab_size": 30_000,
    "embedding_size": 128,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def test_an_encoder_is_no_language_model() -> None:
    with pytest.raises(ValueError, match=r"causal-lm needs a decoder .* bert also has cls"):
        read_shape(BertConfig(**SMALL), "causal-lm")


def test_experts_stay_frozen_and_are_priced_by_those_that_a_token_passes() -> None:
    """Two of four experts, three matrices of 16 x 24 each, and a router of 16 x 4; attention carries the adapters."""
    shape = read_shape(
        MixtralConfig(**SMALL, num_key_value_heads=2, num_hidden_layers=2, num_local_experts=4), "causal-lm"
    )
    assert [matrix.role for matrix in shape.matrices] == ["q", "k", "v", "o"]
    assert shape.experts == 4
    flops = {part.forward for part in shape.frozen_parts}
    assert flops == {2 * 2 * 2 * 16 * 24, 2 * 2 * 16 * 24, 2 * 16 * 4}
    assert {(part.layer, part.place) for part in shape.frozen_parts} == {
        (layer, place) for layer in (0, 1) for place in ("feed-forward", "experts-hidden")
    }
    assert [(m.site, m.inputs, m.outputs, m.active) for m in shape.expert_matrices] == [
        ("experts-gate_up", 16, 48, 2),
        ("experts-down", 24, 16, 2),
    ]


def test_matrices_that_not_every_layer_has_name_their_layers() -> None:
    """DeepSeek's first layer has a feed-forward network, the others shared and routed experts."""
    shape = shape_of("deepseek_v3", "causal-lm")
    feed_forward = ["gate", "up", "down"]
    assert [matrix.role for matrix in shape.matrices] == ["q", "kv", "o", *feed_forward, *feed_forward]
    assert [matrix.layers for matrix in shape.matrices] == [(), (), (), *[(0,)] * 3, *[(1, 2)] * 3]
    assert [matrix.layers for matrix in shape.expert_matrices] == [(1, 2)] * 2
    assert shape.query_width == 4 * (4 + 6)
    assert shape.attention_width == 4 * 8
    assert [(m.inputs, m.outputs) for m in shape.in_layer(0, "feed-forward")] == [
        (32, 56),
        (32, 56),
        (56, 32),
    ]
    assert not [part for part in shape.frozen_parts if part.layer == 0 and part.place != "attention"]
    assert [m.role for m in shape.select("q+v")] == ["q", "kv"]
    assert shape.modules((0, 1), shape.select("down")).count("down_proj") == 2


def test_places_of_normalizations_follow_the_order_of_the_calls() -> None:
    """BART and mBART give the same names to normalizations after and before a block."""

    def places(model: str, layer: int) -> list[str]:
        return [norm.place for norm in shape_of(model, "regression").norms if norm.layer == layer]

    assert places("bart", 0) == ["feed-forward", "output"]
    assert places("bart", 3) == ["cross-attention", "feed-forward", "output"]
    assert places("mbart", 0) == ["attention", "feed-forward"]
    assert places("mbart", 3) == ["attention", "cross-attention", "feed-forward"]
    assert places("mbart", 2) == ["attention", "feed-forward", "final"]


def test_one_normalization_before_both_blocks_makes_them_parallel() -> None:
    for model in ("phi", "gptj", "falcon"):
        shape = shape_of(model, "causal-lm")
        assert shape.parallel, model
        assert {norm.place for norm in shape.norms} == {"input", "final"}, model
    assert not shape_of("falcon_sequential", "causal-lm").parallel
    assert shape_of("falcon_new", "causal-lm").kv_heads == 2
    assert shape_of("falcon", "causal-lm").kv_heads == 1


def test_an_unknown_kind_of_attention_is_priced_by_counting() -> None:
    """MobileBERT's attention is narrower than its layers; the FLOPs of a whole pass are those counted."""
    config = MobileBertConfig(
        **SMALL, embedding_size=8, intra_bottleneck_size=8, num_hidden_layers=2, max_position_embeddings=64
    )
    task: TaskType = "sequence-classification"
    shape = read_shape(config, task)
    network = empty_network(config, task, 2, False).eval()
    for tokens in (16, 32):
        ids = torch.ones((1, tokens), dtype=torch.long, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(input_ids=ids)
        costs = CostModel(shape, task, Workload(tokens, tokens**2, 1, 1))({"family": "head"})
        assert costs.inference_flops == pytest.approx(counter.get_total_flops(), rel=1e-2)
    assert not shape.flops_are_estimates


def test_what_cannot_be_counted_is_an_estimate() -> None:
    """The landmarks of Nyströmformer depend on the mask, which has no values on the meta device."""
    config = NystromformerConfig(**SMALL, num_hidden_layers=2)
    shape = read_shape(config, "sequence-classification")
    assert shape.flops_are_estimates
    assert [matrix.role for matrix in shape.matrices] == ["q", "k", "v", "o", "up", "down"]
    assert not shape_of("bert", "regression").flops_are_estimates


def test_no_limit_of_the_length_is_no_limit() -> None:
    assert shape_of("xlnet", "regression").max_positions is None
    assert shape_of("t5", "regression").max_positions is None
    assert shape_of("bert", "regression").max_positions == 128


def test_a_text_of_longformer_is_padded_to_its_window() -> None:
    shape = shape_of("longformer", "regression")
    assert shape.window == 2
    assert shape.attended(5, 25) == (8, 3.5 * 2 * 8 - 2 * 2**2)
    assert shape_of("bert", "regression").attended(5, 25) == (5, 25)


def test_sequence_lengths_of_a_shared_layer_have_one_adapter_too() -> None:
    shape = shape_of("albert", "regression")
    lengths = Workload(12, 144, 4, 4, cuts={6: Workload(6, 36, 4, 4)})
    costs = CostModel(shape, "regression", lengths)
    config: Configuration = {"family": "lora", "lora.rank": 3}
    short, full = costs({**config, "sequence_length": 6}), costs(config)
    assert short.trainable_params == full.trainable_params
    assert short.train_flops < full.train_flops / 1.9


def test_only_a_decoder_is_a_language_model() -> None:
    with pytest.raises(ValueError, match="bart is an encoder-decoder"):
        read_shape(CONFIGS["bart"](), "causal-lm")
    with pytest.raises(ValueError, match="xlnet also attends to later tokens"):
        read_shape(CONFIGS["xlnet"](), "causal-lm")


def test_normalisations_in_other_places_are_refused() -> None:
    with pytest.raises(ValueError, match="do_layer_norm_before is off"):
        read_shape(OPTConfig(do_layer_norm_before=False, num_hidden_layers=1), "causal-lm")


def test_no_deep_learning_library_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, search_spaces.costs.cost_model, search_spaces.families; "
        "print({'torch', 'transformers', 'peft'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
