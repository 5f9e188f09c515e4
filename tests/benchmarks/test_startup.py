"""The benchmark of start-up times."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.startup import Cost, command_cost, has_trial, table


def test_a_command_is_measured() -> None:
    cost = command_cost(["--version"])
    assert 0 < cost.processor < 30
    assert cost.wall > 0


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="autotune status nowhere failed"):
        command_cost(["status", "nowhere"])


def test_a_trial_has_begun_once_its_start_is_stored(tmp_path: Path) -> None:
    study = tmp_path / "study.db"
    assert not has_trial(study)
    with sqlite3.connect(study) as database:
        assert not has_trial(study)
        database.execute("CREATE TABLE trials (datetime_start TEXT)")
        database.execute("INSERT INTO trials VALUES (NULL)")
        database.commit()
        assert not has_trial(study)
        database.execute("UPDATE trials SET datetime_start = '2026-01-01'")
    assert has_trial(study)


def test_the_table_has_medians_and_ranges() -> None:
    found = table({"autotune status": [Cost(1.0, 0.5), Cost(3.0, 0.7), Cost(1.5, 0.6)]}, load=0.4)
    assert found.rows == (("`autotune status`", "1.50 (1.00 to 3.00)", "0.60 (0.50 to 0.70)"),)
    assert "load of the machine 0.4" in found.caption
