"""Scaling of all hyperparameters along the laws of a sweep: ratios, shrinkage, limits and reasons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from autotune.export.law_scaling import CostChange, along_laws
from autotune.laws.sweep_laws import POOLED_RATE, SweepLaws
from search_spaces.parameters.types import Categorical, Configuration
from surrogates.laws import NoLaw, SearchLaw
from surrogates.laws.moving_bowl import MovingBowl
from surrogates.laws.search_laws import ValueScale

CONFIG: Configuration = {
    "family": "lora", "lora.learning_rate": 1e-3, "lora.rank": 8, "lora.dropout": 0.1, "batch_size": 16, "epochs": 2,
}  # fmt: skip
TENFOLD = CostChange(1e12, 1e13)


def law(
    name: str, exponent: float, tried: tuple[float, float], scale: ValueScale = "log", **bowl: Any
) -> SearchLaw:
    """A law whose best value is in the middle of the tried range at a cost of 1e12."""
    half = (np.log(tried[1]) - np.log(tried[0])) / 2 if scale == "log" else (tried[1] - tried[0]) / 2
    slopes = np.array([exponent - 0.01, exponent, exponent + 0.01]) / half
    known = MovingBowl(np.zeros(3), slopes, np.array([0.25, 0.5, 0.25]), 0.3, 1.0, 1.0, float(np.log(1e12)))
    return SearchLaw(name, scale, 60, (1e10, 1e12), tried, replace(known, **bowl))


def laws(*found: SearchLaw | NoLaw) -> SweepLaws:
    return SweepLaws("train_flops", "chosen", (1e10, 1e12), found, 60, 0)


def along(
    *found: SearchLaw | NoLaw, cost: CostChange = TENFOLD, **options: Any
) -> tuple[Configuration, dict[str, str]]:
    config, changes = along_laws(CONFIG, laws(*found), cost, options.pop("parameters", {}), **options)
    return config, {change.name: change.why for change in changes}


def test_values_are_multiplied_by_the_ratio_of_their_laws() -> None:
    config, why = along(
        law("lora.learning_rate", -0.3, (1e-4, 1e-2)),
        law("lora.rank", 0.4, (1, 64)),
        law("batch_size", 0.5, (1, 256)),
    )
    assert config["lora.learning_rate"] == pytest.approx(1e-3 * 10**-0.3, rel=1e-3)
    assert config["lora.rank"] == 20
    assert config["batch_size"] == 48
    assert config["epochs"] == 2
    assert "∝ cost^-0.30 (-0.31 to -0.29)" in why["lora.learning_rate"]
    assert "from 60 trials" in why["lora.rank"]


def test_a_value_far_from_a_certain_law_comes_most_of_the_way() -> None:
    config, _ = along(law("lora.rank", 0.0, (4, 1024)))
    assert config["lora.rank"] == round(64 * (8 / 64) ** 0.1)


def test_an_improbable_change_moves_little() -> None:
    config, why = along(law("lora.learning_rate", -0.3, (1e-4, 1e-2), changes=0.1))
    assert config["lora.learning_rate"] == pytest.approx(1e-3 * 10**-0.03, rel=1e-3)
    assert "a probability of 10 %" in why["lora.learning_rate"]


def test_the_same_cost_changes_nothing() -> None:
    config, why = along(law("lora.rank", 0.4, (1, 64)), cost=CostChange(1e12, 1e12))
    assert config == CONFIG
    assert why["lora.rank"].startswith("kept: ")


def test_a_flat_hyperparameter_and_one_without_a_law_are_kept_with_the_reason() -> None:
    config, why = along(
        law("lora.rank", 0.4, (1, 64), curved=0.1), NoLaw("lora.dropout", 3, "3 finished trials"),
        law("batch_size", 0.0, (1, 256)),
    )  # fmt: skip
    assert config == CONFIG
    assert why["lora.rank"] == "kept: any value from 1 to 64 does as well in the search"
    assert why["lora.dropout"] == "kept: there is no law for it (3 finished trials)"
    assert why["batch_size"].startswith("kept: ")


def test_a_flat_law_of_all_families_speaks_of_multiples() -> None:
    flat = law(POOLED_RATE, -0.2, (0.1, 10.0), curved=0.1)
    config, why = along(NoLaw("lora.learning_rate", 3, "3 trials"), flat)
    assert config == CONFIG
    assert "0.1 to 10 times the mean of their family" in why["lora.learning_rate"]


def test_values_end_at_the_tried_range_and_say_so() -> None:
    config, why = along(law("lora.dropout", -0.1, (0.0, 0.2), "linear"))
    assert config["lora.dropout"] == 0.0
    assert "-0.13 is outside the tried range, so it ends at 0" in why["lora.dropout"]
    config, why = along(law("lora.rank", 3.0, (1, 64)))
    assert config["lora.rank"] == 64
    assert "outside the tried range" in why["lora.rank"]
    config, why = along(law("lora.learning_rate", 2.0, (1e-4, 1e-2)))
    assert config["lora.learning_rate"] == pytest.approx(0.1, rel=1e-3)
    assert "outside" not in why["lora.learning_rate"]


def test_a_choice_stays_one_of_the_choices() -> None:
    rank = Categorical(name="lora.rank", choices=(2, 8, 16, 64), ordered=True)
    config, _ = along(law("lora.rank", 0.4, (2, 64)), parameters={"lora.rank": rank})
    assert config["lora.rank"] == 16


def test_what_another_law_scaled_is_left() -> None:
    found = law("lora.learning_rate", -0.3, (1e-4, 1e-2))
    config, why = along(found, skip={"lora.learning_rate"})
    assert config == CONFIG
    assert why == {}


def test_the_pooled_law_serves_a_family_with_few_trials() -> None:
    config, why = along(NoLaw("lora.learning_rate", 3, "3 trials"), law(POOLED_RATE, -0.2, (0.1, 10.0)))
    assert config["lora.learning_rate"] == pytest.approx(1e-3 * 10**-0.2, rel=1e-3)
    assert "from the rates of all families" in why["lora.learning_rate"]


def test_a_sweep_without_laws_says_why_once() -> None:
    config, why = along(NoLaw("lora.rank", 60, "flat"))
    assert config == CONFIG
    assert list(why) == ["other hyperparameters"]
    assert why["other hyperparameters"].startswith("kept: ")
