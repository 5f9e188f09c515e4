"""What earlier trials trained with beside their configurations: the number of examples, the base model, and more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from autotune.sweep.prior_spec import with_model_choice
from autotune.transfer import source_settings
from autotune.transfer.source_settings import SourceSettings, choice_of_model, training_examples
from autotune.transfer.value_mapping import Changes, NotCarriedError, SpaceMapping
from search_spaces.language.loader import load_space
from search_spaces.space import SearchSpace
from tests.support.shapes import BERT
from trials.tasks.model_spec import ModelSpec

PLAIN = {"families": ["lora"]}
AMOUNTS = {"families": ["lora"], "parameters": {"train_samples": [20, 200, 3200]}}
CHOICES = ModelSpec(choices=("models/small", "models/base"))  # type: ignore[call-arg]
SHARES = ModelSpec(name="models/base", choices=("25%", "100%"))


def settings(
    spec: dict[str, Any] = AMOUNTS,
    model: ModelSpec | None = None,
    own: ModelSpec | None = None,
    examples: int | None = 60,
) -> tuple[SourceSettings, SpaceMapping]:
    """Settings of an earlier sweep with the space `PLAIN`, and its mapping into the space of `spec`."""
    own = own or ModelSpec(name="models/base")
    loaded = load_space(spec, shape=BERT, examples=3200)
    space: SearchSpace = with_model_choice(loaded.space, own.choices)
    mapping = SpaceMapping(load_space(PLAIN).spec, BERT, loaded.spec, space, BERT)
    return SourceSettings(model or ModelSpec(name="models/base"), own, space, examples, 48), mapping


def carried(config: dict[str, Any], *args: Any, **options: Any) -> tuple[dict[str, Any], list[str]]:
    found, mapping = settings(*args, **options)
    changes = Changes()
    mapped = mapping.map(config, changes, found.implied(config))
    return mapped, [*changes.sentences(1), *found.notes]


def earlier(**values: Any) -> dict[str, Any]:
    return load_space(PLAIN, shape=BERT).space.default(family="lora") | values


@pytest.mark.parametrize(
    ("examples", "kept", "is_clipped"), [(60, 20, True), (200, 200, False), (9000, 3200, True)]
)
def test_the_examples_of_the_earlier_trials_are_theirs_and_not_the_default(
    examples: int, kept: int, is_clipped: bool
) -> None:
    mapped, said = carried(earlier(), examples=examples)
    assert mapped["train_samples"] == kept
    assert f"its trials used train_samples {examples}" in said
    assert (f"train_samples of 1 clipped to {kept}" in said) == is_clipped
    assert not any("defaults fill in train_samples" in each for each in said)


def test_unknown_examples_are_recognized_and_own_ones_stay() -> None:
    found, _ = settings(examples=None)
    assert found.lacks_examples(earlier())
    assert not found.lacks_examples(earlier(train_samples=20))
    assert not settings(examples=60)[0].lacks_examples(earlier())
    assert not settings(PLAIN, examples=None)[0].lacks_examples(earlier())
    mapped, said = carried(earlier(train_samples=200), examples=60)
    assert mapped["train_samples"] == 200
    assert said == []


def test_optimizer_and_sequence_length_are_those_of_a_space_without_them() -> None:
    spec = {
        "families": ["lora"],
        "parameters": {
            "optimizer": {"choices": ["adamw", "lion"], "default": "lion"},
            "sequence_length": [32, 64],
        },
    }
    mapped, said = carried(earlier(), spec)
    assert (mapped["optimizer"], mapped["sequence_length"]) == ("adamw", 64)
    assert "its trials used sequence_length 48, optimizer adamw" in said


@pytest.mark.parametrize(
    ("model", "own", "label"),
    [
        (ModelSpec(name="models/small"), CHOICES, "small"),
        (ModelSpec(name=str(Path("models/small").resolve())), CHOICES, "small"),
        (ModelSpec(name="elsewhere/small"), CHOICES, "small"),
        (ModelSpec(name="models/base"), CHOICES, "base"),
        (ModelSpec(name="models/base", layers="25%"), CHOICES, None),
        (ModelSpec(name="models/tiny"), CHOICES, None),
        (ModelSpec(name="models/base", layers="25%"), SHARES, "25%"),
        (ModelSpec(name="models/base"), SHARES, "100%"),
        (ModelSpec(name="models/base", layers="50%"), SHARES, None),
    ],
)
def test_the_choice_that_is_a_base_model(model: ModelSpec, own: ModelSpec, label: str | None) -> None:
    assert choice_of_model(model, own) == label


def test_a_trial_takes_the_choice_that_it_trained_or_else_the_home_model() -> None:
    mapped, said = carried(earlier(), PLAIN, ModelSpec(name="models/small"), CHOICES)
    assert mapped["model"] == "small"
    assert said == ["its trials used model small"]
    mapped, said = carried(earlier(), PLAIN, ModelSpec(name="models/tiny"), CHOICES)
    assert mapped["model"] == "base"
    assert "model base stands for its base model, models/tiny, which is none of the choices" in said
    three = ModelSpec(choices=("models/tiny", "models/small", "models/base"))  # type: ignore[call-arg]
    assert carried(earlier(model="small"), PLAIN, three, CHOICES)[0]["model"] == "small"
    with pytest.raises(NotCarriedError, match="trained tiny, which is none of the choices of model"):
        carried(earlier(model="tiny"), PLAIN, three, CHOICES)


@pytest.mark.parametrize(
    ("limit", "rows", "confirmed_on", "expected"),
    [
        (60, 8000, None, 60),
        (9000, 8000, None, 8000),
        (None, 8000, "search", 8000),
        (60, None, None, 60),
        (None, None, None, None),
        (60, 8000, "full", 8000),
    ],
)
def test_the_examples_that_scores_belong_to(
    limit: int | None, rows: int | None, confirmed_on: str | None, expected: int | None, monkeypatch: Any
) -> None:
    prints = None if rows is None else {"data": {"train": {"rows": rows}}}
    monkeypatch.setattr(
        source_settings, "FolderReader", lambda folder, sweep: SimpleNamespace(fingerprint=prints)
    )
    monkeypatch.setattr(source_settings, "is_as_search", lambda runs: confirmed_on != "full")
    runs = pd.DataFrame({"trial": [] if confirmed_on is None else [0]})
    sweep = SimpleNamespace(fidelity=SimpleNamespace(train_samples=limit))
    tables: Any = SimpleNamespace(folder=Path(), sweep=sweep, confirmations=runs)
    assert training_examples(tables) == expected
