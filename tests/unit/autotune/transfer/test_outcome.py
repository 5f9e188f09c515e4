"""What a source has said, in words, and which of its points are trained again."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autotune.objectives import Objective
from autotune.rank_statistics import Correlation, correlations
from autotune.sampler.sources import SourceTrust
from autotune.transfer.carried_source import CarriedSource
from autotune.transfer.old_front import chosen_points
from autotune.transfer.outcome import SourceOutcome, TransferredPoint
from autotune.transfer.source_folders import read_source, source_names
from autotune.transfer.text import point_columns, point_rows, sentences
from search_spaces.errors import InvalidInputError

ACCURACY = Objective(name="accuracy")


def outcome(points: int, regret: float = 0.02, trust: SourceTrust | None = None) -> SourceOutcome:
    found = tuple(
        TransferredPoint(
            trial=i,
            earlier_trial=10 + i,
            config={"family": "<b>", "lora.rank": i + 1},
            earlier_score=0.9 - 0.1 * i,
            score=0.8,
            earlier_rank=i + 1,
            rank=1,
            costs={"trainable_params": 1000.0},
            was_on_front=i < 2,
            is_on_front=i == 0,
        )
        for i in range(points)
    )
    unknown = Correlation(math.nan, math.nan, math.nan)
    known = Correlation(0.5, 0.1, 0.8) if points >= 6 else unknown
    return SourceOutcome(
        name="sst2",
        folder="/sweeps/sst2",
        note="sst2: 3 of 4 trials carried over",
        objective=ACCURACY,
        points=found,
        failed=1,
        waiting=0,
        spearman=known,
        kendall=known,
        regret=regret,
        on_final_front=1,
        trust=trust,
    )


def test_too_few_or_equal_points_have_no_correlation() -> None:
    assert outcome(2).summary == "2 points of sst2 have a score here; a rank correlation needs 3"
    assert "all 4 points have equal scores" in outcome(4).summary
    assert outcome(6).summary == "Spearman 0.50 (0.10 to 0.80) and Kendall 0.50 (0.10 to 0.80) over 6 points"


def test_the_sentences_name_front_regret_and_failures() -> None:
    text = "\n".join(sentences(outcome(6)))
    assert "front: 1 of 2 points of the earlier front stay" in text
    assert "regret: the point that was best in sst2 (trial 0) is 2.0\u00a0% worse in accuracy" in text
    assert "1 point failed here" in text
    assert "is the best here, too" in "\n".join(sentences(outcome(6, regret=0.0)))


def test_every_row_of_the_table_has_the_columns() -> None:
    found = outcome(3)
    rows = point_rows(found)
    assert [len(row) for row in rows] == [len(point_columns(found))] * 3
    assert [row[-1] for row in rows] == ["stays", "leaves", ""]


@pytest.mark.parametrize(
    ("dropped", "words"),
    [
        ([], "weight 30 % in the sampler, rank agreement 0.40 over 12 trials"),
        (["sst2"], "dropped by the sampler, rank agreement 0.40 over 12 trials"),
    ],
)
def test_the_weight_in_the_sampler(dropped: list[str], words: str) -> None:
    trust = SourceTrust(n=12, own=0.7, weights={"sst2": 0.3}, agreement={"sst2": 0.4}, dropped=dropped)
    found = outcome(3, trust=trust)
    assert found.trust_words == words
    assert found.as_mapping()["sampler"] == {
        "weight": 0.3, "rank_agreement": 0.4, "n": 12, "dropped": bool(dropped)
    }  # fmt: skip
    assert outcome(3).trust_words == ""


def test_correlations_of_pairs() -> None:
    losses = np.arange(8.0)
    for sign in (1.0, -1.0):
        spearman, kendall = correlations(losses, sign * losses)
        assert (spearman.value, kendall.value) == (sign, sign)
        assert (spearman.low, spearman.high) == (sign, sign)
    few, _ = correlations(losses[:2], losses[:2])
    assert math.isnan(few.value)
    short, _ = correlations(losses[:4], losses[:4])
    assert short.value == 1.0
    assert math.isnan(short.low)


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(None, [0, 1, 2, 3, 5, 9]), (2, [0, 3]), (3, [0, 1, 3]), (5, [0, 1, 2, 3, 9]), (50, list(range(10)))],
)
def test_the_front_and_others_over_the_ranking(count: int | None, chosen: list[int]) -> None:
    """Ten configurations with rising cost; the first four are the front, and the others are worse and worse."""
    scores = [0.5, 0.6, 0.7, 0.9, *(0.4 - 0.01 * i for i in range(6))]
    source = CarriedSource(
        name="sst2",
        folder="",
        trials=tuple(range(10)),
        configs=tuple({"rank": i} for i in range(10)),
        values=np.array(scores)[:, None],
        is_on_front=tuple(i < 4 for i in range(10)),
        note="",
    )
    prepared: Any = SimpleNamespace(
        costs=lambda config: SimpleNamespace(train_flops=float(config["rank"])),
        sweep=SimpleNamespace(objectives=(ACCURACY,)),
    )
    trials, note = chosen_points(source, prepared, count)
    found = [trial.config["rank"] for trial in trials]
    assert len(found) == len(chosen)
    assert {0, 3} <= set(found)
    assert found == sorted(found)
    assert sum(rank < 4 for rank in found) == min(len(found), 4)
    assert "points of the front of sst2" in note


def test_names_of_sources_are_unique() -> None:
    assert source_names(["sweeps/sst2", "a/cr", "b/cr"]) == ["sst2", "a/cr", "b/cr"]
    assert source_names(["x/a/cr", "y/a/cr"]) == ["x/a/cr", "y/a/cr"]


def test_a_folder_without_a_sweep_is_named_by_the_field_alone(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^start_from: '[^']*' holds no sweep\.yaml\. Give"):
        read_source(tmp_path, "a", "start_from")
