"""The measurement of a GPU: its table of cards, its time, its isolation of parts and its tables; tiny on a CPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import parts
from benchmarks.gpu.card import bf16_peak, describe, measured_peaks
from benchmarks.gpu.cases import CASES, PROFILED
from benchmarks.gpu.comparison import TRAINER, configurations, expected_seconds
from benchmarks.gpu.models import TINY, encoder, sentences
from benchmarks.gpu.operations import summary
from benchmarks.gpu.parts import PARTS, Outcome, Part, allowed_seconds, counts_of_tests, run_part
from benchmarks.gpu.report import Report, read
from benchmarks.gpu.tables import page, tables_of


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
    ],
)
def test_a_card_has_the_peak_of_its_data_sheet(name: str, teraflops: int) -> None:
    assert bf16_peak(name) == teraflops * 1e12


def test_an_unknown_card_has_no_peak() -> None:
    assert bf16_peak("NVIDIA L400") is None
    assert describe(torch.device("cpu"))["nominal_peak"] is None
    assert set(measured_peaks(torch.device("cpu"), 16)) == {"bf16", "fp32"}


def test_the_remaining_time_is_divided_by_the_plans() -> None:
    waiting = [Part("a", 30), Part("b", 60), Part("c", 10)]
    assert allowed_seconds(waiting, 200) == pytest.approx(60)
    assert allowed_seconds(waiting[1:], 140) == pytest.approx(120)
    assert allowed_seconds(waiting, 30) is None
    assert allowed_seconds(waiting[2:], 5) == pytest.approx(5)
    assert allowed_seconds(waiting[2:], -1) is None


def test_the_plan_fits_into_nine_minutes_with_room_to_spare() -> None:
    assert sum(part.seconds for part in PARTS) <= 1.1 * 9 * 60
    assert {*CASES, *PROFILED, "card", "tests", "quickstart"} == {part.name for part in PARTS}


def test_an_arm_takes_as_long_as_before_or_as_the_smaller_pack_predicts() -> None:
    counts = {TRAINER: 1, "K = 1": 2, "K = 8": 8}
    assert expected_seconds(TRAINER, counts, []) == expected_seconds("K = 1", counts, []) == 0
    rows = [{"arm": TRAINER, "whole": 9, "train": 3}, {"arm": "K = 1", "whole": 8, "train": 6}]
    assert expected_seconds("K = 8", counts, rows) == pytest.approx(2 + 6 * 4)
    assert expected_seconds(TRAINER, counts, rows) == 9


def test_trials_begin_alike_whatever_their_number() -> None:
    assert configurations(2, 6, 8) == configurations(9, 6, 8)[:2]
    assert len({config["lora.rank"] for config in configurations(32, 6, 8)}) == 4


def test_a_report_keeps_what_was_measured_before_an_error(tmp_path: Path) -> None:
    report = Report(tmp_path / "a.json", seconds=1000)
    report.row("speed", {"arm": "K = 1"})
    with report.noting("round 2"):
        raise RuntimeError("CUDA error: an illegal memory access\nand more")
    assert report.has_time(1, "round 3")
    assert not report.has_time(2000, "round 4")
    found = read(tmp_path / "a.json")
    assert found["rows"] == {"speed": [{"arm": "K = 1"}]}
    (error,) = found["errors"]
    assert (error["what"], error["error"]) == (
        "round 2",
        "RuntimeError: CUDA error: an illegal memory access",
    )
    assert "test_gpu.py" in error["traceback"]
    assert found["notes"][0].startswith("round 4: left out, 2000 s do not fit into")
    assert read(tmp_path / "missing.json")["rows"] == {}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A program that stands for the process of each part; it writes a report first."""
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    package = tmp_path / "benchmarks"
    (package / "gpu").mkdir(parents=True)
    program = """
import json, os, sys, time
name, path = sys.argv[sys.argv.index("--run-part") + 1], sys.argv[sys.argv.index("--report") + 1]
errors = [{"what": "warm-up", "error": "E: no"}] if name == "noted" else []
json.dump({"rows": {"speed": [1]}, "notes": [], "errors": errors}, open(path, "w"))
print("output of", name)
if name == "crash": os.abort()
if name == "hang": time.sleep(600)
"""
    (package / "gpu" / "__init__.py").touch()  # a package with it precedes one without
    (package / "gpu" / "__main__.py").write_text(program)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("good", "done", ""),
        ("noted", "incomplete", "warm-up: E: no"),
        ("crash", "failed", "its process ended with -6; see log"),
        ("hang", "failed", "killed after 5 s"),
    ],
)
def test_a_part_that_fails_leaves_what_it_measured(
    scripted: Path, name: str, state: str, message: str
) -> None:
    started = time.monotonic()
    outcome = run_part(Part(name, 1), 5 if name == "hang" else 60, [], scripted, scripted / "log")
    assert (outcome.state, outcome.message) == (state, message)
    assert outcome.data["rows"] == {"speed": [1]}
    assert f"output of {name}" in (scripted / "log").read_text()
    assert time.monotonic() - started < 50


def test_outcomes_of_tests_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "tests.xml"
    path.write_text(
        '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure message="1 != 2"/></testcase>'
        '<testcase name="c"><skipped message="needs a CUDA device"/></testcase>'
        '<testcase name="d"><error message="no"/></testcase></testsuite></testsuites>'
    )
    found = counts_of_tests(path)
    assert [found[name] for name in ("tests", "passed", "failed", "skipped")] == [4, 1, 2, 1]
    assert found["failures"] == ["b: 1 != 2", "d: no"]
    assert found["reasons"] == ["needs a CUDA device"]


def test_operations_are_counted() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        torch.ones(2) + torch.ones(2)
    found = summary(profiled.events())
    assert found["operations"] >= 3
    assert found["most"]["aten::ones"] == 2
    assert (found["kernels"], found["waits"]) == (0, 0)


def outcomes() -> list[Outcome]:
    """A card, one comparison of two rounds, and a part without anything."""

    def row(arm: str, turn: int, rate: float) -> dict:
        return {
            "arm": arm,
            "round": turn,
            "trials": 1,
            "examples_per_second": rate,
            "trials_per_hour": 10 * rate,
            "flops_per_second": 1e12 * rate,
            "peak_memory": 2e9,
            "loss": 0.5,
        }

    card = {"card": "NVIDIA H200", "memory": 150e9, "driver": "580", "cuda": "13.0", "torch": "2.11"}
    card |= {"processor": "a processor", "nominal_peak": 989e12}
    rates = [(TRAINER, 0, 100), ("K = 8", 0, 300), (TRAINER, 1, 100), ("K = 8", 1, 500)]
    case = {"tokens": 256, "weights": "nf4", "precision": "bf16"}
    memory = {"k": 8, "length": 256, "tokens": 512, "base_predicted": 1e9, "base_measured": 1e9}
    memory |= {"predicted": 3e9, "measured": 2e9}
    data = {"case": case, "model": "decoder", "errors": [], "notes": []}
    data["rows"] = {"speed": [row(*rate) for rate in rates], "memory": [memory]}
    return [
        Outcome("card", "done", 9, "", {"card": card, "peaks": {"bf16": 800e12}}),
        Outcome("decoder-256-nf4", "done", 70, "", data),
        Outcome("tests", "skipped", 0, "only 3 s were left"),
    ]


def test_tables_have_ratios_within_rounds_and_both_utilizations() -> None:
    tables = tables_of(outcomes())
    assert list(tables) == ["speed", "memory"]
    trainer, eight = (
        dict(zip(tables["speed"].columns[5:], row[5:], strict=True)) for row in tables["speed"].rows
    )
    assert trainer["examples/s"] == "100.0"
    assert tables["speed"].rows[1][6] == "4.00 (3.00 to 5.00)"
    assert eight["utilization of the nominal peak"] == f"{400 / 989:.1%}"
    assert eight["of the measured peak"] == "50.0%"
    assert tables["memory"].rows[0][-2:] == ("1.50", "1.33")


def test_the_page_names_the_card_and_the_skipped_parts() -> None:
    run = {"command": ["python", "-m", "benchmarks.gpu"], "seconds": 79, "commit": "abc", "tiny": False}
    text = page(run, outcomes())
    assert text.startswith("# NVIDIA H200 (150 GB), driver 580, CUDA 13.0, torch 2.11, a processor\n")
    assert "| tests | skipped | 0 | only 3 s were left |" in text
    assert "Tiny" not in text
    assert "**Tiny models" in page({**run, "tiny": True}, outcomes())


def test_without_a_gpu_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="Install the driver and a CUDA build of torch"):
        command.require_device("cuda")
    command.require_device("cpu")


def test_the_stand_in_for_minilm_has_sentences_of_its_words(tmp_path: Path) -> None:
    from trials.data.task_data import load_task
    from trials.tasks.specs import ModelSpec

    name, what = encoder(tmp_path, TINY)
    data = load_task(sentences(tmp_path, 20, 8), ModelSpec(name=name))
    assert what == "BERT of 2 layers of 32 with random weights"
    assert data.classes == ("negative", "positive")
    assert all(1 not in example["input_ids"] for example in data.splits["train"])  # no unknown word


def test_parts_run_tiny_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["benchmarks.gpu", "--out", str(tmp_path), "--device", "cpu", "--tiny", "--parts"]
    monkeypatch.setattr(sys, "argv", [*argv, "decoder-256-bf16", "operations-minilm"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert ended.value.code == 0, found["parts"]
    assert [part["state"] for part in found["parts"]] == ["done"] * 3
    text = (tmp_path / "gpu.md").read_text()
    for line in (f"| {TRAINER} |", "| K = 1 |", "| K = 4 |", "## Operations", "## Memory"):
        assert line in text
