"""The parameters of preference losses in sweeps."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from autotune.sweep.schema import Sweep
from search_spaces.language.loader import load_space


def sweep(parameters: dict[str, Any] | None = None, **task: Any) -> Sweep:
    columns = {"train": "t.jsonl", "prompt": "p", "chosen": "c", "rejected": "r"}
    return Sweep(
        name="pairs",
        model="model",
        task={"type": "preference", **columns, **task},
        space={"families": ["lora"], "parameters": parameters or {}},
        budget={"trials": 3},
    )


def test_a_loss_brings_its_parameters() -> None:
    ranges = {}
    for loss in (None, "simpo"):
        space = load_space(sweep(loss=loss).space).space
        ranges[loss] = (space["beta"].low, space["beta"].default, "margin" in space)
    assert ranges == {None: (0.01, 0.1, False), "simpo": (1.0, 2.0, True)}


def test_a_parameter_can_be_fixed_and_the_score_is_the_reward_accuracy() -> None:
    found = sweep({"beta": 0.3})
    assert load_space(found.space).space["beta"].choices == (0.3,)
    assert [objective.name for objective in found.objectives] == ["reward_accuracy", "trainable_params"]
    again = Sweep.model_validate(found.model_dump())
    assert again.space == found.space


@pytest.mark.parametrize(
    ("parameters", "task"),
    [
        ({"margin": 1.0}, {"loss": "dpo"}),
        ({"beta": 0.1}, {"type": "causal-lm"}),
    ],
)
def test_a_parameter_of_another_task_is_refused(parameters: dict[str, Any], task: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"space.parameters.{next(iter(parameters))}: .* preference"):
        sweep(parameters, **task)
