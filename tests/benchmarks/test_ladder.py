"""The benchmark of the ladder: its bookkeeping on a table made by hand, and one real table where it is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotune.ladder.rungs import Ladder
from benchmarks.ladder import DATA, METHODS, Curves, Run, on_the_ladder, read_tables, summary
from benchmarks.multi_fidelity import ARMS, BOXES, left_behind, predict, search


def made_up(n: int = 60) -> Curves:
    """Curves that never cross; one in ten diverges."""
    rng = np.random.default_rng(0)
    losses = rng.random((n, 1)) + 1 / np.arange(1, 10)[None, :]
    losses[::10, 4:] = np.nan
    return Curves("made up", losses, Ladder(1, 9, random_share=0.1))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_its_books(method: str) -> None:
    table = made_up().drawn(60, seed=1)
    run = METHODS[method](table, 1)
    finite = np.isfinite(table.losses).all(axis=1)
    whole = 9 * finite.sum() + 5 * (~finite).sum()
    assert 9 <= run.used <= whole
    assert (run.used == whole) == (method == "full evaluation")
    assert [used for used, _ in run.finished] == sorted(used for used, _ in run.finished)
    assert {loss for _, loss in run.finished} <= set(table.final[finite])
    measured = run.measure(table)
    assert measured["share"] == run.used / 540
    assert measured["regret"] == pytest.approx(0.0, abs=0.05)


def test_regret_by_hand() -> None:
    table = Curves("t", np.array([[2.0, 1.0], [2.0, 1.5], [1.0, 3.0]]), Ladder(1, 2))
    measured = Run([(0.5, 1.5), (4.0, 1.0)], 4.0).measure(table)
    assert measured == pytest.approx({"share": 4 / 6, "regret": 0.0, "regret at 15 %": 0.5})
    assert summary([{"a": 1.0}, {"a": 3.0}]) == {"a": (2.0, pytest.approx(2**0.5))}


@pytest.mark.skipif(
    not (DATA / "taskset").is_dir(), reason="needs the tables of learning curves, see benchmarks/ladder.py"
)
def test_on_a_real_table_it_comes_near_the_best_for_little() -> None:
    table = next(table for table in read_tables() if "LSTM" in table.name).drawn(250, seed=0)
    measured = on_the_ladder(table, 0).measure(table)
    assert measured["regret"] <= 0.01
    assert measured["share"] <= 0.25


def test_the_rungs_of_a_table_predict_the_top() -> None:
    """Curves that never cross and share their gain: law and median predict it, no correction does not."""
    rng = np.random.default_rng(0)
    table = Curves("made up", rng.random((60, 1)) + 1 / np.arange(1, 10)[None, :], Ladder(1, 9))
    seen, whole, rows = left_behind(table, seed=0)
    assert seen.shape == whole.shape == (60, 3)
    np.testing.assert_array_equal(seen[np.isfinite(seen)], whole[np.isfinite(seen)])
    assert np.isnan(seen).any()
    np.testing.assert_array_equal(whole[:, -1], table.losses[rows, -1])
    low, middle = predict(table, seeds=2, configs=60)
    assert (low["rung"], middle["rung"]) == (1 / 9, 3 / 9)
    assert float(low["median"]) < 0.01
    assert float(low["chosen"]) < 0.05
    assert 0 <= float(low["held"]) <= 1


@pytest.mark.parametrize("arm", ARMS)
def test_a_short_search_of_every_arm(arm: str) -> None:
    quality, each = search(replace(BOXES["adapters"](), training=4.0), arm, seed=0)
    assert 0 < quality < 1.05
    assert each > 0
