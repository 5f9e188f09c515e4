"""The benchmark of scale: best values of grids, comparisons of arms, and its tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale import runs, tables
from benchmarks.scale.cases import BATCHES, CASES, RATES
from benchmarks.scale.grids import best_on_grid, grid_plans
from benchmarks.scale.statistics import compared, measured_best


def bowl(rate: float, best: float = 2e-3) -> float:
    return 0.4 + 0.01 * float(np.log(rate / best)) ** 2


def test_the_best_value_is_the_vertex_of_the_bowl_with_the_values_within_noise() -> None:
    noise = (-0.001, 0.001)
    seen = [(rate, bowl(rate) + each) for rate in RATES for each in noise]
    found = measured_best([rate for rate, _ in seen], [0] * len(seen), [loss for _, loss in seen])
    assert found.value == pytest.approx(2e-3)
    assert not found.is_at_end
    # A deviation of 0.001 · √2 between two seeds: means within 2 · √2 · 0.001 of the best are on the plateau.
    limit = min(map(bowl, RATES)) + 2 * np.sqrt(2) * 0.001
    assert found.error == pytest.approx(0.001)
    near = [rate for rate in RATES if bowl(rate) <= limit]
    assert (found.low, found.high) == (min(near), max(near))


def test_the_best_value_is_that_of_the_best_other_settings() -> None:
    losses = {
        (8, "low"): 0.5,
        (16, "low"): 0.4,
        (32, "low"): 0.6,
        (8, "high"): 0.3,
        (16, "high"): 0.7,
        (32, "high"): 0.9,
    }
    found = measured_best(
        [value for value, _ in losses], [other for _, other in losses], list(losses.values())
    )
    assert found.losses == {8: 0.3, 16: 0.4, 32: 0.6}
    assert (found.value, found.is_at_end) == (8, True)
    assert np.isnan(found.error)
    with pytest.raises(ValueError, match="three grid values, not 2"):
        measured_best([8, 16], [0, 0], [0.1, 0.2])


@pytest.mark.parametrize(
    ("gains", "no_worse", "better"),
    [
        ([0.010, 0.012, 0.011], True, True),
        ([0.010, -0.012, 0.001], True, False),
        ([-0.010, -0.012, -0.011], False, False),
        (
            [-0.010, -0.002, -0.006, 0.001],
            False,
            False,
        ),  # the interval holds 0, but the mean is too far below
        ([0.0, 0.0, 0.0], True, False),
    ],
)
def test_what_is_no_worse_and_what_is_better(gains: list[float], no_worse: bool, better: bool) -> None:
    found = compared(gains)
    assert (found.is_no_worse, found.is_better) == (no_worse, better)
    assert found.low <= found.mean <= found.high


def test_a_grid_holds_every_rate_with_every_batch_size_and_more_seeds_in_its_middle() -> None:
    plans = grid_plans(CASES["cr"])
    assert len({plan.key for plan in plans}) == len(plans) == len(RATES) * (len(BATCHES) + 1)
    assert {plan.examples for plan in plans} == {2500}
    finished = [
        runs.FinishedRun(
            plan.arm,
            plan.config,
            plan.examples,
            plan.seed,
            {
                "eval_loss": bowl(float(plan.config["lora.learning_rate"]))
                + 0.001 * float(plan.config["batch_size"])
            },
        )
        for plan in plans
    ]
    assert best_on_grid(finished, "lora.learning_rate").value == pytest.approx(2e-3)
    batch = best_on_grid(finished, "batch_size")
    assert (batch.value, batch.is_at_end) == (8, True)


def test_runs_of_a_file_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(plans: list[runs.RunPlan], *_: object) -> list[runs.FinishedRun]:
        trained.extend(plan.arm for plan in plans)
        return [
            runs.FinishedRun(plan.arm, plan.config, plan.examples, plan.seed, {"eval_loss": 0.5})
            for plan in plans
        ]

    monkeypatch.setattr(runs, "_trained", train)
    case, path = CASES["cr"], tmp_path / "runs.jsonl"
    plans = [runs.RunPlan(arm, {"family": "lora"}, 10, 0) for arm in ("a", "b")]
    spec = runs.ModelSpec(name="unused")
    task = runs.TaskSpec(text=("text",), label="label")
    runs.train_missing(path, plans[:1], spec, task)
    finished = runs.train_missing(path, plans, spec, task)
    assert trained == ["a", "b"]
    assert [run.arm for run in finished] == ["a", "b"]
    assert case.name == "CR, MiniLM"


def test_the_tables_count_what_was_reached() -> None:
    best = measured_best([1, 2, 4, 8], [0] * 4, [0.5, 0.4, 0.45, 0.6])
    laws = [
        tables.LawCheck("a", tables.RATE, 20, 10.0, value, low, high, best)
        for value, low, high in ((2.0, 1.0, 4.0), (8.0, 6.0, 9.0))
    ]
    gain = compared([0.01, 0.012])
    exports = [tables.ExportCheck("a", 40, (1e-3, 8), (5e-4, 8), (0.5, 0.49), (0.8, 0.81), "accuracy", gain)]
    points = [tables.FrontPoint("33%", 200, 1e-3, 8, 4, flops, 0.5) for flops in (1e11, 2e13)]
    required = tables.required_table(points, laws, exports)
    assert [row[3] for row in required.rows] == ["yes", "yes", "**no**", "**no**", "**no**"]
    assert required.rows[0][2] == "2.30"
    assert required.rows[2][2] == "1 of 2"
    assert laws[1].regret == pytest.approx(0.2)
    assert [row[7] for row in tables.law_table(laws).rows] == ["yes", "**no**"]
    assert tables.export_table(exports).rows[0][3] == "0.0005, 8"
