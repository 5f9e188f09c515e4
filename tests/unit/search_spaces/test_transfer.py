"""Configurations carried over from one model to another."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from transformers import BertConfig, GPT2Config, LlamaConfig, PretrainedConfig, T5Config

from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import load_space
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import adapted_layers
from search_spaces.transfer import transfer_configuration
from tests.support.grids import pairwise


def shape(config: PretrainedConfig) -> ModelShape:
    return read_shape(config, "sequence-classification")


def bert(depth: int) -> ModelShape:
    return shape(
        BertConfig(hidden_size=64, num_hidden_layers=depth, num_attention_heads=4, intermediate_size=96)
    )


SMALL, LARGE = bert(6), bert(12)
GPT2 = shape(GPT2Config(n_embd=64, n_layer=9, n_head=4))
LLAMA = shape(
    LlamaConfig(
        hidden_size=64, num_hidden_layers=8, num_attention_heads=4, intermediate_size=96, pad_token_id=0
    )
)
T5S = [
    shape(T5Config(d_model=64, d_kv=16, num_heads=4, d_ff=96, num_layers=e, num_decoder_layers=d))
    for e, d in ((4, 2), (8, 8))
]
EVERY_FORM: dict[str, Any] = {
    "families": ["lora", "serial"],
    "parameters": {
        "lora.layers": {"mask": True},
        "lora.targets": {"subset": True},
        "lora.rank": {"profile": True},
        "serial.layers": {"range": True},
    },
}


@pytest.mark.parametrize(
    ("spec", "models"),
    [
        *pairwise(
            ["autopeft", "lora-layers", EVERY_FORM],
            [(SMALL, LARGE), (LARGE, SMALL), (SMALL, LLAMA), (LLAMA, GPT2)],
        ),
        pytest.param("everything", (SMALL, LARGE), marks=pytest.mark.slow),
        pytest.param("everything", (SMALL, LLAMA), marks=pytest.mark.slow),
    ],
)
def test_what_is_carried_over_is_a_configuration_there(
    spec: Any, models: tuple[ModelShape, ModelShape]
) -> None:
    here, there = models
    mapping = load_space(spec).spec
    origin = load_space(mapping, shape=here).space
    target = load_space(mapping, shape=there)
    rng, carried = np.random.default_rng(0), 0
    for config in [*origin.defaults(), *(origin.sample(rng) for _ in range(30))]:
        assert transfer_configuration(config, mapping, here, here) == config
        if config["family"] in target.left_out:
            with pytest.raises(
                InvalidInputError, match=target.left_out[config["family"]][:20].replace("(", ".")
            ):
                transfer_configuration(config, mapping, here, there)
            continue
        found = transfer_configuration(config, mapping, here, there)
        target.space.validate(found)
        assert list(found) == [name for name in target.space.names if name in found]
        same = {
            name
            for name in config
            if name in target.space and ".layers" not in name and ".targets" not in name
        }
        assert {name: found[name] for name in same} == {name: config[name] for name in same}
        carried += 1
    assert carried > 20


def test_layers_keep_their_place_in_the_depth() -> None:
    mapping = load_space(EVERY_FORM).spec
    config = load_space(mapping, shape=SMALL).space.default(family="lora")
    config |= {f"lora.layers.{layer}": layer in (0, 4, 5) for layer in range(6)}
    found = transfer_configuration(config, mapping, SMALL, LARGE)
    assert adapted_layers(found, "lora.layers", 12) == (0, 1, 8, 9, 10, 11)
    assert adapted_layers(transfer_configuration(found, mapping, LARGE, SMALL), "lora.layers", 6) == (0, 4, 5)

    config |= {f"lora.layers.{layer}": layer in (2, 5) for layer in range(6)}
    # The middles of four layers lie in layers 0, 2, 3 and 5 of six.
    assert adapted_layers(transfer_configuration(config, mapping, SMALL, bert(4)), "lora.layers", 4) == (1, 3)

    config = load_space(mapping, shape=LARGE).space.default(family="serial")
    config |= {"serial.layers.count": 4, "serial.layers.start": 6}
    found = transfer_configuration(config, mapping, LARGE, SMALL)
    assert adapted_layers(found, "serial.layers", 6) == (3, 4)

    top = load_space({"families": ["lora"]}).spec
    config = load_space(top, shape=SMALL).space.default(**{"lora.layers": 1})
    assert transfer_configuration(config, top, SMALL, LARGE)["lora.layers"] == 2
    assert transfer_configuration(config, top, SMALL, bert(2))["lora.layers"] == 1
    lonely = load_space(mapping, shape=LARGE).space.default(family="lora")
    lonely |= {f"lora.layers.{layer}": layer == 6 for layer in range(12)}
    assert adapted_layers(transfer_configuration(lonely, mapping, LARGE, bert(2)), "lora.layers", 2) == (1,)


def test_each_side_of_an_encoder_decoder_has_its_own_depth() -> None:
    mapping = load_space({"families": ["lora"], "parameters": {"lora.layers": {"sides": True}}}).spec
    config = load_space(mapping, shape=T5S[0]).space.default(
        **{"lora.layers.encoder": 0, "lora.layers.decoder": 1}
    )
    found = transfer_configuration(config, mapping, *T5S)
    assert (found["lora.layers.encoder"], found["lora.layers.decoder"]) == (0, 4)


def test_fused_matrices_stand_for_their_parts() -> None:
    mapping = load_space(EVERY_FORM).spec
    config = load_space(mapping, shape=SMALL).space.default(family="lora")
    config |= {name: name == "lora.targets.v" for name in config if name.startswith("lora.targets.")}
    found = transfer_configuration(config, mapping, SMALL, GPT2)
    assert [name for name, on in found.items() if name.startswith("lora.targets.") and on] == [
        "lora.targets.qkv"
    ]
    back = transfer_configuration(found, mapping, GPT2, SMALL)
    on = {name for name, value in back.items() if name.startswith("lora.targets.") and value}
    assert on == {"lora.targets.q", "lora.targets.k", "lora.targets.v"}
    few = load_space({"families": ["lora"], "parameters": {"lora.targets": {"subset": ["q", "v"]}}}).spec
    config = load_space(few, shape=SMALL).space.default(**{"lora.targets.q": True, "lora.targets.v": False})
    assert transfer_configuration(config, few, SMALL, GPT2)["lora.targets.qkv"] is True
    assert "lora.targets.k" not in transfer_configuration(config, few, SMALL, LARGE)


def test_a_gate_is_on_with_the_matrix_that_it_gates() -> None:
    mapping = load_space(EVERY_FORM).spec
    config = load_space(mapping, shape=SMALL).space.default(family="lora")
    for role, gated in (("up", True), ("down", False)):
        config |= {
            name: name == f"lora.targets.{role}" for name in config if name.startswith("lora.targets.")
        }
        found = transfer_configuration(config, mapping, SMALL, LLAMA)
        assert found["lora.targets.gate"] is gated
        assert found[f"lora.targets.{role}"] is True


def test_a_family_that_does_not_fit_is_named_by_its_own_reason() -> None:
    spec = load_space({"families": ["layer-prefix", "lora"]}).spec
    config = load_space(spec, shape=SMALL).space.default(family="layer-prefix")
    there = dataclasses.replace(LARGE, attention_interface=False)
    with pytest.raises(InvalidInputError, match="has its own attention code"):
        transfer_configuration(config, spec, SMALL, there)


def test_what_the_other_model_cannot_have_is_said() -> None:
    mapping = load_space({"families": ["lora"], "parameters": {"lora.targets": ["gate", "q+v"]}}).spec
    config = load_space(mapping, shape=LLAMA).space.default(**{"lora.targets": "gate"})
    with pytest.raises(
        InvalidInputError, match=r"bert of 6 layers cannot have this configuration: lora\.targets"
    ):
        transfer_configuration(config, mapping, LLAMA, SMALL)
