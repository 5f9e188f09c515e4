"""Spaces for a user's own trainer lack the initial values that only a sweep computes."""

from __future__ import annotations

import pytest
from transformers import GPT2Config

import autotune
from autotune.blackbox.preparations import without_preparations
from autotune.blackbox.spaces import read_space
from search_spaces.errors import InvalidInputError
from search_spaces.language.loader import load_space
from search_spaces.parameters.types import Int
from search_spaces.space import SearchSpace

MODEL = GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2)


def test_computed_initial_values_are_no_choices_of_a_trainer() -> None:
    with pytest.warns(UserWarning, match=r"lora\.init: eva, corda, lora_ga are computed from") as seen:
        space = read_space({"families": ["lora", "ia3"]}, MODEL, "causal-lm").space
    assert space["lora.init"].choices == ("kaiming", "orthogonal", "pissa")
    assert len(seen) == 1


def test_families_of_tokens_from_the_data_are_left_out_with_their_parameters() -> None:
    given = {"families": ["cpt", "ia3", "trainable_tokens"]}
    with pytest.warns(UserWarning, match=r"cpt: .* computed .*trainable_tokens: "):
        space = read_space(given, MODEL, "causal-lm").space
    assert space["family"].choices == ("ia3",)
    assert not [name for name in space.names if name.startswith(("cpt", "trainable_tokens"))]
    assert space.default()["family"] == "ia3"


def test_a_family_with_one_computed_value_is_left_out() -> None:
    loaded = load_space({"families": ["lora", "ia3"], "parameters": {"lora.init": "eva"}})
    space, notes = without_preparations(loaded.space)
    assert space["family"].choices == ("ia3",)
    assert [note.partition(":")[0] for note in notes] == ["lora"]


def test_conditions_on_dropped_values_go_too() -> None:
    entries = {
        "lora.scale": {"when": {"lora.init": ["eva", "kaiming"]}},
        "lora.dropout": {"when": {"lora.init": "corda"}},
    }
    space, _ = without_preparations(load_space({"families": ["lora"], "parameters": entries}).space)
    assert space["lora.scale"].when["lora.init"] == ("kaiming",)
    assert "lora.dropout" not in space


@pytest.mark.parametrize(
    "given", [{"families": ["cpt"]}, {"families": ["lora"], "parameters": {"lora.init": ["eva", "corda"]}}]
)
def test_a_space_of_nothing_else_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=r"space: nothing is left \(.*computed .*autotune run"):
        autotune.optimize(lambda job, report: 1.0, given, ["loss"], budget=1, model=MODEL, task="causal-lm")


def test_other_spaces_stay_as_they_are() -> None:
    numbers = SearchSpace((Int(name="rank", low=1, high=4),))
    assert without_preparations(numbers) == (numbers, ())
    plain = load_space({"families": ["ia3", "vera"]}).space
    assert without_preparations(plain) == (plain, ())
