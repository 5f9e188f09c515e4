"""Shapes of models that are never built, and short ways to load a space for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import LoadedSpace, load_space
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape

BERT = ModelShape(
    model_type="bert",
    task="sequence-classification",
    labels=2,
    depth=4,
    width=32,
    heads=4,
    kv_heads=4,
    head_width=8,
    vocabulary=100,
    embedding_width=32,
    max_positions=64,
    layers_path="bert.encoder.layer",
    matrices=(
        Matrix("q", "attention.self.query", 32, 32, True),
        Matrix("k", "attention.self.key", 32, 32, True),
        Matrix("v", "attention.self.value", 32, 32, True),
        Matrix("o", "attention.output.dense", 32, 32, True),
        Matrix("up", "intermediate.dense", 32, 64, True),
        Matrix("down", "output.dense", 64, 32, True),
    ),
    norms=(),
    input_matrices=(),
    head=(),
    head_modules=("classifier",),
    head_parameters=66,
    base_parameters=40_000,
    body_parameters=36_000,
    parallel=False,
    accepts_prefix=True,
    attention_interface=True,
)
FUSED = replace(
    BERT,
    model_type="gpt2",
    task="causal-lm",
    matrices=(
        Matrix("qkv", "attn.c_attn", 32, 96, True),
        Matrix("o", "attn.c_proj", 32, 32, True),
        Matrix("up", "mlp.c_fc", 32, 128, True),
        Matrix("down", "mlp.c_proj", 128, 32, True),
    ),
)


def lora(parameters: Mapping[str, Any], **options: Any) -> LoadedSpace:
    return load_space({"families": ["lora"], "parameters": parameters}, **options)


def problems(spec: Any, **options: Any) -> dict[str, str]:
    """What is wrong and how to mend it, by path."""
    with pytest.raises(InvalidInputError) as error:
        load_space(spec, **options)
    found = error.value.problems
    assert all(p.fix for p in found), found
    return {p.where: f"{p.what} | {p.fix}" for p in found}
