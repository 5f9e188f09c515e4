"""Families that add keys and values to attention, and the implementations of attention that they need."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import unsupported_reason
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from tests.support.tiny_configs import CONFIGS


@pytest.fixture(scope="module")
def shape() -> ModelShape:
    return read_shape(CONFIGS["bert"](), "sequence-classification")


@pytest.mark.parametrize("name", ["layer-prefix", "composite", "autopeft"])
def test_added_keys_need_attention_that_can_have_them(name: str, shape: ModelShape) -> None:
    family, task = REGISTRY[name], "sequence-classification"
    for attention in ("auto", "eager", "sdpa"):
        assert unsupported_reason(family, replace(shape, attention=attention), task) is None
    for attention in ("flash_attention_2", "flex_attention"):
        reason = unsupported_reason(family, replace(shape, attention=attention), task)
        assert reason is not None
        assert reason.endswith(f"model.attn_implementation is {attention}")


def test_other_families_take_every_implementation(shape: ModelShape) -> None:
    flash = replace(shape, attention="flash_attention_2")
    assert unsupported_reason(REGISTRY["lora"], flash, "sequence-classification") is None
