"""Architectures with unknown names: matrices are found by their sizes, their order and what they read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from search_spaces.costs.cost_model import CostModel
from search_spaces.families import REGISTRY
from search_spaces.model.reader import empty_network, read_shape, shape_of_network
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration
from tests.support.tiny_models import LABELS, batch, step, workload

WIDTH, HEADS = 32, 4


class OddConfig(PretrainedConfig):
    model_type = "odd"

    def __init__(self, kind: str = "split", **fields: Any) -> None:
        super().__init__(**fields)
        self.kind, self.hidden_size, self.num_attention_heads = kind, WIDTH, HEADS
        self.num_hidden_layers, self.vocab_size = 3, 90


class Blend(nn.Module):
    """Causal attention whose matrices have names without meaning."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        if fused:
            self.alpha = nn.Linear(WIDTH, 3 * WIDTH)
        else:
            self.alpha, self.beta, self.gamma = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3))
        self.delta = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.alpha(x).chunk(3, -1) if not hasattr(self, "beta") else map_all(x, self)
        q, k, v = (part.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(-1, -2)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(hidden, -1e9).softmax(-1) @ v
        return self.delta(mixed.transpose(1, 2).reshape(x.shape))


def map_all(x: torch.Tensor, block: Any) -> tuple[torch.Tensor, ...]:
    return block.alpha(x), block.beta(x), block.gamma(x)


class Fold(nn.Module):
    """A feed-forward network, gated or not, whose matrices have names without meaning."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(WIDTH, 56), nn.Linear(56, WIDTH)
        if gated:
            self.zero = nn.Linear(WIDTH, 56)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.one(x).relu()
        return self.two(inner * self.zero(x) if hasattr(self, "zero") else inner)


class Step(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.blend, self.fold = Blend(kind == "fused"), Fold(kind == "split")
        self.router = nn.Linear(WIDTH, 5)  # of a kind that nothing explains, so it stays frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.blend(self.first(x))
        y = self.second(x)
        return x + self.fold(y) * self.router(y).mean(-1, keepdim=True)


class Odd(PreTrainedModel, GenerationMixin):
    config_class = OddConfig
    base_model_prefix = "body"

    def __init__(self, config: OddConfig) -> None:
        super().__init__(config)
        self.body = nn.Module()
        self.body.table = nn.Embedding(config.vocab_size, WIDTH)
        self.body.steps = nn.ModuleList(Step(config.kind) for _ in range(config.num_hidden_layers))
        self.top = nn.Linear(WIDTH, config.vocab_size, bias=False)
        self.body._can_set_attn_implementation = lambda: False
        self.body.forward = lambda input_ids: None

    def get_input_embeddings(self) -> nn.Module:
        return self.body.table

    def get_output_embeddings(self) -> nn.Module:
        return self.top

    def forward(self, input_ids: torch.Tensor, labels: Any = None, **_: Any) -> CausalLMOutput:
        x = self.body.table(input_ids)
        for layer in self.body.steps:
            x = layer(x)
        logits = self.top(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits.transpose(1, 2), labels)
        return CausalLMOutput(loss=loss, logits=logits)


def odd_shape(kind: str) -> ModelShape:
    with torch.device("meta"):
        return shape_of_network(Odd(OddConfig(kind)), "causal-lm")


@pytest.mark.parametrize("kind", ["split", "fused"])
def test_roles_follow_from_sizes_order_and_inputs(kind: str) -> None:
    expected = {
        "split": {
            "blend.alpha": "q",
            "blend.beta": "k",
            "blend.gamma": "v",
            "fold.one": "gate",
            "fold.zero": "up",
        },
        "fused": {"blend.alpha": "qkv", "fold.one": "up"},
    }[kind] | {"blend.delta": "o", "fold.two": "down"}
    shape = odd_shape(kind)
    assert {matrix.name: matrix.role for matrix in shape.matrices} == expected
    assert {norm.place for norm in shape.norms} == {"attention", "feed-forward"}
    assert (shape.heads, shape.head_width) == (4, 8)
    assert [part.forward for part in shape.frozen_parts] == [2 * 32 * 5] * 3
    assert not shape.flops_are_estimates


@pytest.mark.parametrize("targets", ["all", "q+v", "feed-forward"])
@pytest.mark.parametrize("kind", ["split", "fused"])
def test_an_unknown_model_trains_at_the_predicted_cost(kind: str, targets: str) -> None:
    config: Configuration = {"targets": targets, "layers": 2, "rank": 3}
    shape = odd_shape(kind)
    torch.manual_seed(0)
    adapted = get_peft_model(Odd(OddConfig(kind)), REGISTRY["lora"].peft_config(config, shape, "causal-lm"))
    trained = [p for p in adapted.parameters() if p.requires_grad]
    costs = CostModel(shape, "causal-lm", workload("causal-lm"))(
        {"family": "lora", **{f"lora.{name}": value for name, value in config.items()}}
    )
    flops = step(adapted, batch("causal-lm"))
    assert costs.trainable_params == sum(p.numel() for p in trained)
    assert costs.train_flops == pytest.approx(flops, rel=1e-9)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize("kind", ["canine", "funnel", "ibert", "perceiver"])
def test_a_model_in_which_nothing_can_be_adapted_is_refused_with_the_reason(kind: str) -> None:
    from transformers import CONFIG_MAPPING

    with pytest.raises(ValueError, match=rf"model: {kind} cannot be adapted: its "):
        read_shape(CONFIG_MAPPING[kind](), "sequence-classification", LABELS)


def test_a_model_of_texts_and_images_is_adapted_where_it_reads_text() -> None:
    from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 56}
    text = Gemma3TextConfig(**sizes, vocab_size=90, num_key_value_heads=2, head_dim=8, pad_token_id=0)
    images = SiglipVisionConfig(**sizes, image_size=28, patch_size=14)
    config = Gemma3Config(text_config=text.to_dict(), vision_config=images.to_dict(), mm_tokens_per_image=4)
    shape = read_shape(config, "causal-lm")
    assert shape.layers_path == "model.language_model.layers"
    assert {matrix.role for matrix in shape.matrices} == {"q", "k", "v", "o", "gate", "up", "down"}
    assert [norm.place for norm in shape.norms][-1] == "final"
    network = empty_network(config, "causal-lm", LABELS, False)
    assert shape.base_parameters == sum(p.numel() for p in network.parameters())
