"""Every block of the guide to search spaces loads, binds to a model, samples, and survives a round trip."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import InvalidInputError
from search_spaces.families import REGISTRY
from search_spaces.language import entry, includes, overrides
from search_spaces.language.loader import load_space
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from search_spaces.model.shape import ModelShape
from tests.support.shapes import BERT, FUSED
from tests.support.tiny_models import shape_of

T5 = shape_of("t5", "regression")

GUIDE = (Path(__file__).parents[3] / "docs" / "guides" / "search-spaces.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
@pytest.mark.parametrize("shape", [BERT, FUSED, T5], ids=lambda shape: shape.model_type)
def test_every_block_is_a_space(number: int, shape: ModelShape) -> None:
    if "sides: {" in BLOCKS[number] and not shape.decoder_depth:
        with pytest.raises(InvalidInputError, match="has one stack"):
            load_space(parse_yaml(BLOCKS[number]), shape=shape)
        return
    loaded = load_space(parse_yaml(BLOCKS[number]), shape=shape)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert loaded.space.problems(loaded.space.sample(rng)) == []
    for default in loaded.space.defaults():
        assert loaded.space.problems(default) == []
    again = load_space(parse_yaml(dump_yaml(loaded.spec)), shape=shape)
    assert again.space == loaded.space
    assert again.constraints == loaded.constraints


def test_the_guide_shows_every_form_and_every_key() -> None:
    text = "\n".join(BLOCKS)
    for word in (
        *includes.KEYS,
        *includes._FORMS,
        *entry.CENTERED_FIELDS,
        "sides",
        "when",
        "low",
        "log",
        "step",
    ):
        assert re.search(rf"\b{word}:", text), word
    assert overrides.__doc__
    for form in includes._FORMS:
        if form != "choices":
            assert f"{form}:" in overrides.__doc__, form


def test_the_guide_includes_what_it_says() -> None:
    last = load_space(parse_yaml(BLOCKS[-1]))
    assert last.spec["families"] == ["lora", "ia3", "prompt"]
    assert last.space["lora.rank"].distribution().high == 4  # type: ignore[attr-defined]
    everything = next(block for block in BLOCKS if block == "families: all\n")
    assert load_space(parse_yaml(everything)).spec["families"] == list(REGISTRY)
