"""`autotune.peft_config`: a configuration as peft's, from every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

import autotune
from autotune import InvalidInputError
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import unsupported_reason
from search_spaces.model.reader import read_shape

LORA = {"family": "lora", "lora.rank": 4, "lora.targets": "q+v", "lora.layers": 1, "lora.scale": 4.0}


def test_it_follows_the_configuration(tiny_model: Callable[[str], Path]) -> None:
    found = autotune.peft_config({**LORA, "batch_size": 8, "epochs": 3}, str(tiny_model("bert")))
    assert isinstance(found, peft.LoraConfig)
    assert (found.r, found.lora_alpha, found.task_type) == (4, 32, "SEQ_CLS")


def test_initial_values_from_data_are_said_to_be_missing(tiny_model: Callable[[str], Path]) -> None:
    with pytest.warns(UserWarning, match="lora.init: eva is computed from more than a configuration"):
        autotune.peft_config({**LORA, "lora.init": "eva"}, str(tiny_model("bert")))
    with pytest.warns(UserWarning, match="cpt_token_ids and cpt_tokens_type_mask are placeholders"):
        autotune.peft_config({"family": "cpt"}, str(tiny_model("gpt2")), task="causal-lm")


def test_every_kind_of_model_gives_the_same(tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("bert")
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    kinds = [str(folder), folder, AutoConfig.from_pretrained(folder), model]
    found = [autotune.peft_config(LORA, kind).to_dict() for kind in kinds]
    assert all(each == found[0] for each in found)


def test_the_adapter_trains_what_the_cost_says(tiny_model: Callable[[str], Path]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    shape = read_shape(model.config, "sequence-classification")
    adapted = peft.get_peft_model(model, autotune.peft_config(LORA, model))
    trained = sum(p.numel() for name, p in adapted.named_parameters() if p.requires_grad and "lora_" in name)
    values = {name.removeprefix("lora."): value for name, value in LORA.items()}
    assert trained == REGISTRY["lora"].cost(values, shape).parameters


def test_the_task_is_that_of_the_class(tiny_model: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model("gpt2"))
    assert autotune.peft_config({"family": "lora"}, model).task_type == "CAUSAL_LM"
    assert (
        autotune.peft_config({"family": "lora"}, model, task="sequence-classification").task_type == "SEQ_CLS"
    )
    regression = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"), num_labels=1)
    assert autotune.peft_config({"family": "lora"}, regression).task_type == "SEQ_CLS"


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_family_alone_is_enough(name: str, tiny_model: Callable[[str], Path]) -> None:
    config = AutoConfig.from_pretrained(tiny_model("bert"))
    reason = unsupported_reason(
        REGISTRY[name], read_shape(config, "sequence-classification"), "sequence-classification"
    )
    if name == "trainable_tokens":
        with pytest.warns(UserWarning, match="set them to the ids of the tokens to train"):
            assert autotune.peft_config({"family": name}, config).trainable_token_indices == list(range(64))
    elif reason is None:
        assert isinstance(autotune.peft_config({"family": name}, config), peft.PeftConfig)
    else:
        with pytest.raises(InvalidInputError, match="cannot work on this model"):
            autotune.peft_config({"family": name}, config)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({}, "family: missing"),
        ({"family": "lorra"}, "'lorra' is no family. Did you mean 'lora'"),
        ({"family": "lora", "lora.rnak": 4}, "lora has no such parameter. Did you mean 'lora.rank'"),
    ],
)
def test_what_is_wrong_is_named(configuration: dict, message: str, tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidInputError, match=message):
        autotune.peft_config(configuration, str(tiny_model("bert")))


def test_models_that_cannot_be_used_are_named(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read"):
        autotune.peft_config(LORA, tmp_path)
    with pytest.raises(InvalidInputError, match="a int is no transformers model"):
        autotune.peft_config(LORA, 3)
    with pytest.raises(InvalidInputError, match="'chat' is no task"):
        autotune.peft_config(LORA, tiny_model("bert"), task="chat")
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model("bert"))
    adapted = peft.get_peft_model(model, autotune.peft_config(LORA, model))
    with pytest.raises(InvalidInputError, match="it already has an adapter"):
        autotune.peft_config(LORA, adapted)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"rank": 64}, "rank"),
        ({"ia3.targets": "all"}, "ia3.targets"),
        ({"lora.rnk": 4}, "lora.rnk"),
        ({"lora.rank": -5}, "lora.rank"),
        ({"lora.rank": 0}, "lora.rank"),
        ({"lora.rank": 2.5}, "lora.rank"),
        ({"lora.dropout": 7}, "lora.dropout"),
        ({"lora.targets": "all of them"}, "lora.targets"),
    ],
)
def test_what_the_family_cannot_take_is_refused(
    wrong: dict[str, Any], where: str, tiny_model: Callable[[str], Path]
) -> None:
    with pytest.raises(InvalidInputError) as raised:
        autotune.peft_config({**LORA, **wrong}, tiny_model("bert"))
    assert [problem.where for problem in raised.value.problems] == [where]


@pytest.mark.parametrize("configuration", ["lora", None, {1: 2, "family": "lora"}])
def test_a_configuration_is_a_mapping(configuration: Any, tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidInputError, match="is not a mapping of parameter names to values"):
        autotune.peft_config(configuration, tiny_model("bert"))
