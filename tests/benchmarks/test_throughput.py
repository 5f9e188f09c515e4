"""The benchmark of packs: its ratios and its table, on figures made by hand."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.result_files import Setup, load, store
from benchmarks.throughput import configurations, result_tables, summary
from benchmarks.trainer_and_packs import Measured, Variant
from trials.records import Fidelity, TrialSpec


def rows() -> list[dict]:
    specs = [TrialSpec(config, 0, Fidelity(100, 50)) for config in configurations("top layers", 3, 6)]
    variant = Variant(8, 2, "int8")
    slow = [Measured(30.0, 60.0, 50.0, (0.5, 0.6, 0.7)), Measured(60.0, 90.0, 100.0, (0.5, 0.6, 0.7))]
    fast = [
        {variant: Measured(10.0, 15.0, 25.0, (0.4, 0.6, 0.8))},
        {variant: Measured(10.0, 30.0, 25.0, (0.4, 0.6, 0.8))},
    ]
    pairs = list(zip(slow, fast, strict=True))
    return [summary("top layers", variant, specs, pairs, flops=1e9, peak=1e9)]


def test_rates_are_medians_and_ratios_are_taken_in_pairs():
    (row,) = rows()
    assert row["trainer_samples_per_second"] == pytest.approx((300 / 30 + 300 / 60) / 2)
    assert row["ours_samples_per_second"] == pytest.approx(30)
    assert row["ours_trials_per_hour"] == pytest.approx((720 + 360) / 2)
    assert row["training_ratio"] == pytest.approx(4.5)
    assert row["training_ratio_range"] == [3.0, 6.0]
    assert row["trials_ratio_range"] == [3.0, 4.0]
    assert row["cpu_ratio"] == pytest.approx(3.0)
    assert row["trainer_eval_loss"] == pytest.approx(row["ours_eval_loss"])
    assert row["ours_utilization"] == pytest.approx(0.1)


def test_the_tables_have_a_column_for_each_figure(tmp_path: Path):
    arguments = argparse.Namespace(samples=100, eval_samples=50)
    where = {"device": "cpu", "threads": 1, "load": 1.0}
    tables = result_tables(rows(), where, arguments)
    training, whole = tables["top-layers"], tables["top-layers-trials"]
    assert "trials of 100 + 50 sentences" in training.caption
    assert training.rows[-1][:6] == ("8", "2", "int8", "8", "30", "4.50 (3.00 to 6.00)")
    assert whole.rows[-1][5] == "3.50 (3.00 to 4.00)"
    setup = Setup("python -m benchmarks.throughput", "a machine", "abc", "2026-01-01")
    store("throughput", {"top-layers": training}, setup, tmp_path)
    store("throughput", {"all-layers": training}, setup, tmp_path)
    assert load("throughput", tmp_path) == {"top-layers": (training, setup), "all-layers": (training, setup)}


def test_a_mix_begins_alike_whatever_its_length():
    assert configurations("all layers", 2, 6) == configurations("all layers", 5, 6)[:2]
    assert {config["lora.layers"] for config in configurations("all layers", 9, 6)} == {6}
    assert {config["lora.layers"] for config in configurations("top layers", 60, 6)} == set(range(1, 7))
