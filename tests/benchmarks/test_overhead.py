"""The benchmark of the cost of a suggestion: its cells, processes, cache and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import overhead
from benchmarks.overhead import (
    Cell,
    Measured,
    load,
    main,
    make_space,
    measure,
    measure_apart,
    run_all,
    tables,
)


def _cell(arm: str = "pareto", trials: int = 9, **fields: object) -> Cell:
    given = {"space": "flat", "parameters": 5, "objectives": 2, "label": arm} | fields
    return Cell(arm=arm, trials=trials, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["flat", "conditional"])
def test_a_space_has_the_number_of_parameters(kind: str):
    space = make_space(kind, 12)
    assert len(space) == 12
    assert any(parameter.when for parameter in space.parameters) == (kind == "conditional")


@pytest.mark.parametrize("arm", overhead.ARMS)
@pytest.mark.parametrize("objectives", [2, 3])
def test_a_cell(arm: str, objectives: int):
    measured = measure(_cell(arm, space="conditional", objectives=objectives), 3)
    assert len(measured.seconds) == 3
    assert all(seconds > 0 for seconds in [*measured.seconds, measured.first_s])
    assert measured.peak_mib >= measured.before_mib > 10


def test_a_process_of_its_own_uses_less_memory_than_this_one():
    import torch

    here = measure(_cell("tpe"), 1)
    apart = measure_apart(_cell("tpe"), 1, limit_s=30.0)
    assert torch.__version__
    assert 10 < apart.peak_mib < here.peak_mib
    assert apart.cell == here.cell


def test_a_failure_shows_its_message():
    with pytest.raises(RuntimeError, match="n_startup"):
        measure_apart(_cell(options={"n_startup": 0}), 1, limit_s=30.0)


def test_slow_arms_are_not_measured_at_larger_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str, int]] = []

    def fake(cell: Cell, suggestions: int, limit_s: float) -> Measured:
        asked.append((cell.arm, cell.trials))
        return Measured(cell, [0.1 * cell.trials * (cell.arm == "gp")] * suggestions, 0.0, 50.0, 40.0)

    monkeypatch.setattr(overhead, "measure_apart", fake)
    cells = [_cell(arm, n) for n in (400, 100, 20) for arm in ("gp", "tpe")]
    run_all(cells, tmp_path / "cells.jsonl", limit_s=5.0)
    assert asked == [("gp", 20), ("tpe", 20), ("gp", 100), ("tpe", 100), ("tpe", 400)]
    run_all(cells, tmp_path / "cells.jsonl", limit_s=5.0)
    assert len(asked) == 5
    found = load([tmp_path / "cells.jsonl"])
    shown = tables(found)
    assert shown["seconds"].rows == (
        ("gp", "flat", "5", "2", "2 / 2", "10 / 10", "–"),
        ("tpe", "flat", "5", "2", "0 / 0", "0 / 0", "0 / 0"),
    )
    assert shown["memory"].rows[0][-1] == "–"
    assert shown["memory"].rows[1][-1] == "50 (40)"


def test_a_stopped_process_is_too_slow():
    stopped = measure_apart(_cell("tpe", 5), 1, limit_s=1.0 - overhead._MARGIN_S)
    assert stopped.seconds == []
    assert overhead.is_slow(stopped, 30.0)
    assert overhead.seconds_cell(stopped) == "stopped"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cache = tmp_path / "cells.jsonl"
    sizes = ["--trials", "8", "--parameters", "3", "--objectives", "2", "--suggestions", "2"]
    main(["--cache", str(cache), "--arms", "pareto", "--label", "new", *sizes])
    main(["--report", str(cache)])
    assert capsys.readouterr().out.count("| pareto@new | flat | 3 | 2 |") == 4
    with pytest.raises(SystemExit, match="--cache"):
        main([])
