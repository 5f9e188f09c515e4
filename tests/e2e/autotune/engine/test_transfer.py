"""`autotune transfer` trains an earlier front alone, says how far its order held, and leaves a sweep to search on."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autotune.cli.status import overview_json
from autotune.engine.sweep_run import run_sweep
from autotune.ledger.ledger import read_sweep
from autotune.report.page import earlier_sweeps
from autotune.results.sweep_tables import read_tables
from autotune.sweep.schema import Sweep
from autotune.transfer.old_front import OldFront
from autotune.transfer.outcome import source_outcomes
from autotune.transfer.text import transfer_overview
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import fake_run, small_sweep

pytestmark = pytest.mark.usefixtures("light_sweeps")


def by_rank(sign: int) -> Callable[..., dict[str, float]]:
    """Scores that rise, or fall, with the rank of a LoRA and its rate; other families are worse."""

    def metrics(config: Any, seed: int, share: float) -> dict[str, float]:
        size = float(config.get("lora.rank", 0)) + float(config.get("lora.learning_rate", 0.0))
        return {"accuracy": 0.5 + sign * 0.02 * size}

    return metrics


@pytest.fixture(scope="module")
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Sweep]:
    def make(**changes: Any) -> Sweep:
        return small_sweep(tiny_model("bert"), reviews, **{"confirm": {"seeds": 0}, **changes})

    return make


@pytest.fixture(scope="module")
def source(sweep: Callable[..., Sweep], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer") / "earlier"
    fake_run(sweep(budget={"trials": 12}), folder, None, FakeExecutor(metrics=by_rank(1)))
    return folder


def transfer(sweep: Sweep, source: Path, out: Path, points: int | None = None, sign: int = 1) -> Any:
    executor = FakeExecutor(metrics=by_rank(sign))
    results = run_sweep(sweep, out, None, executor, old_front=OldFront(source, points))
    return results, executor


@pytest.mark.parametrize("sign", [1, -1])
def test_the_front_and_controls_are_trained_and_nothing_else(
    sign: int, sweep: Any, source: Path, tmp_path: Path
) -> None:
    results, _ = transfer(sweep(ladder=True, budget={"trials": 9}), source, tmp_path / "out", 7, sign)
    assert list(results.trials["status"]) == ["complete"] * 7
    [outcome] = source_outcomes(results)
    assert len(outcome.points) == 7
    before = read_tables(source)
    on_front = set(before.front["trial"])
    assert {p.earlier_trial for p in outcome.points if p.was_on_front} == on_front
    for point in outcome.points:
        assert point.config == before.config(point.earlier_trial) == results.config(point.trial)
        assert point.earlier_score == pytest.approx(by_rank(1)(point.config, 0, 1.0)["accuracy"])
    assert outcome.spearman.value == pytest.approx(sign)
    assert outcome.kendall.value == pytest.approx(sign)
    scores = [point.score for point in outcome.points]
    assert (outcome.regret == 0) == (sign == 1)
    assert outcome.regret == pytest.approx(max(scores) - (scores[0] if sign == 1 else min(scores)))
    assert [point.rank for point in outcome.points] == sorted(point.rank for point in outcome.points)
    assert outcome.as_mapping()["spearman"]["value"] == pytest.approx(sign)
    [section] = earlier_sweeps(results)
    assert (section["name"], len(section["rows"])) == ("earlier", 7)
    [said] = overview_json(results)["start_from"]
    assert (said["n"], said["on_final_front"]) == (7, len(results.front))


def test_the_folder_is_that_of_the_whole_sweep_and_searches_on(
    sweep: Any, source: Path, tmp_path: Path
) -> None:
    whole = sweep(budget={"trials": 8}, confirm={"seeds": 2, "points": 2})
    transfer(whole, source, tmp_path / "out", 3)
    kept = read_sweep(tmp_path / "out")
    assert (kept.budget, kept.confirm) == (whole.budget, whole.confirm)
    _, again = transfer(whole, source, tmp_path / "out", 3)
    assert again.specs == []
    results = fake_run(whole, tmp_path / "out", None, FakeExecutor(metrics=by_rank(1)))
    assert (results.trials["status"] == "complete").sum() == 8
    assert not results.confirmations.empty
    [outcome] = source_outcomes(results)
    assert len(outcome.points) == 3
    _, after = transfer(whole, source, tmp_path / "out", 3)
    assert after.specs == []
    assert (read_tables(tmp_path / "out").trials["status"] == "complete").sum() == 8


def test_few_points_and_other_sources_are_said(sweep: Any, source: Path, tmp_path: Path) -> None:
    results, _ = transfer(sweep(), source, tmp_path / "out", 2)
    [outcome] = source_outcomes(results)
    assert outcome.summary == "2 points of earlier have a score here; a rank correlation needs 3"
    console = Console(width=160, file=io.StringIO())
    console.print(transfer_overview([outcome], "autotune run x.yaml"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2 points of earlier have a score here" in text
    assert "stays" in text
    with pytest.raises(InvalidInputError, match="names other sweeps than the one to transfer"):
        transfer(sweep(start_from=[str(tmp_path)]), source, tmp_path / "other")
    with pytest.raises(InvalidInputError, match="is the folder of the earlier sweep"):
        transfer(sweep(budget={"trials": 12}), source, source)
