"""The laws on published measurements: the benchmark's figures, held to what they have reached."""

from __future__ import annotations

import pytest

from benchmarks import laws, laws_tables
from benchmarks.result_files import load

try:
    laws.data_folder()
except FileNotFoundError as missing:
    pytest.skip(str(missing), allow_module_level=True)


def test_chinchilla_is_replicated_from_any_start() -> None:
    found = laws.chinchilla(starts=5)
    assert found["worst_coefficient"] < 0.005
    assert found["starts_worst_coefficient"] < 0.005
    assert max(abs(off) for off in found["starts_sum_off"]) < 1e-4


def test_settings_of_larger_cells_follow_from_smaller_ones() -> None:
    found = laws.steplaw()
    assert found["in_sample"]["mean"] <= 0.10
    assert found["leave_one_cell_out"]["mean"] <= 0.15
    assert found["largest_three"]["mean"] <= 0.20


def test_fine_tuning_curves_are_continued_better_than_by_their_slope() -> None:
    found = laws.finetuning(alone=False)
    limits = {8: 0.025, 32: 0.055, 128: 0.14}
    for row in (*found["mean"], *(row for row in found["rows"] if row["table"] == "gigaword")):
        assert row["law"] <= limits[row["times"]]
    assert all(row["law"] <= row["slope"] + 1e-12 for row in found["rows"])
    assert 0.72 <= found["coverage"]["all"] <= 0.88


def test_early_curves_beat_both_rules() -> None:
    for row in laws.taskset()["rows"]:
        assert row["log_law"] < min(row["log_slope"], row["log_last"])
        assert row["law"] < min(row["slope"], row["last"])
        assert 0.72 <= row["coverage"] <= 0.88


def test_learning_rate_of_an_unseen_model() -> None:
    found = laws.lora()
    assert found["largest_rank"]["law"] <= 0.25
    assert found["largest_rank"]["law"] < found["largest_rank"]["fixed"]
    assert found["all_ranks"]["law"] <= 0.25


def test_the_committed_tables_are_of_these_figures() -> None:
    """The committed table has a row for every required figure of a part, with its limit and whether it is reached."""
    table, _ = load("scaling-laws")["required"]
    committed = {what: (limit, reached) for what, limit, _, reached in table.rows}
    for figure in laws_tables.required({"steplaw": laws.steplaw(), "lora": laws.lora()}):
        assert committed[figure.what] == (figure.required, "yes" if figure.reached else "**no**")
