"""The user's own scores in a sweep: from a file of the command line to the exported run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from peft import PeftConfig, get_peft_model

from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from autotune.ledger.ledger import read_sweep
from autotune.prepare.own_scores import code_digests, with_code
from autotune.report.detail_tables import details
from autotune.report.page import report_html
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.search.failures import SearchFailedError
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError
from tests.support.exported_runs import arguments_of, script_of
from tests.support.sweeps import small_sweep

CODE = """
import torch

def by_length(texts, predictions, references):
    assert set(predictions) <= {"0", "1"}, predictions
    right = [len(t) for t, p, r in zip(texts, predictions, references) if p == r]
    return sum(right) / sum(map(len, texts))

by_length.direction, by_length.best, by_length.worst = "maximize", 1.0, 0.0

def sizes(model, tokenizer, rows):
    assert not model.training and not torch.is_grad_enabled()
    batch = tokenizer([row["sentence"] for row in rows], padding=True, return_tensors="pt")
    logits = model(**batch).logits.float()
    return {"rows": float(len(rows)), "spread": float(logits.std())}

sizes.direction = {"rows": "maximize"}
"""


@pytest.fixture(autouse=True)
def _no_own_modules() -> Iterator[None]:
    yield
    sys.modules.pop("own_scores", None)
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "module", None) != "own_scores"]


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("code") / "own_scores.py"
    file.write_text(CODE)
    return file


def own_sweep(tiny_model: Callable[[str], Path], reviews: Path, **changes: object) -> Sweep:
    task = small_sweep(tiny_model("bert"), reviews).task.model_dump(exclude={"scores"})
    own = {"metric": "own_scores:by_length", "evaluate": "own_scores:sizes", "groups": "label"}
    given = {
        "task": {**task, **own},
        "objectives": [
            "own_scores:by_length",
            {"name": "spread", "direction": "minimize"},
            "trainable_params",
        ],
        "budget": {"trials": 2},
        "confirm": {"seeds": 1, "points": 1},
        "executor": "packed",
        **changes,
    }
    return small_sweep(tiny_model("bert"), reviews, **given)


@pytest.fixture(scope="module")
def finished(
    tiny_model: Callable[[str], Path], reviews: Path, code: Path, tmp_path_factory: pytest.TempPathFactory
) -> SweepTables:
    folder = tmp_path_factory.mktemp("own") / "sweep"
    return run_sweep(with_code(own_sweep(tiny_model, reviews), [code]), folder)


def test_trials_and_confirmation_have_the_scores(finished: SweepTables) -> None:
    trials, runs = finished.trials, finished.confirmations
    assert trials["own_scores:by_length"].between(0, 1).all()
    assert (trials["metric.rows"] == 40).all()
    assert trials["spread"].gt(0).all()
    assert runs["test.own_scores:by_length"].between(0, 1).all()
    assert (runs["test.rows"] == 120).all()
    first, second, _ = finished.objectives
    assert (first.direction, first.ideal, second.direction, second.ideal) == (
        "maximize",
        1.0,
        "minimize",
        None,
    )
    assert "majority class" in finished.baselines


def test_the_report_shows_one_point_by_class_and_by_group(finished: SweepTables) -> None:
    trial, (classes, groups, further) = details(finished)
    assert trial in set(finished.front["trial"])
    assert [row[0] for row in classes.rows] == ["0", "1"]
    assert sum(int(row[-1]) for row in classes.rows) == 40
    # A group per label: its accuracy is the recall of the class.
    assert [row[1] for row in groups.rows] == [row[2] for row in classes.rows]
    assert [row[0].endswith(" (worst)") for row in groups.rows].count(True) == 1
    assert {"Worst group accuracy", "Rows", "Spread"} <= {row[0] for row in further.rows} | {"Rows", "Spread"}
    page = report_html(replace(finished, class_names=("<b>bad</b>", "good")))
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "<b>bad</b>" not in page


def test_the_worst_group_is_a_score(finished: SweepTables) -> None:
    assert (finished.trials["metric.worst_group_accuracy"] <= finished.trials["metric.accuracy"]).all()


def test_reading_a_folder_runs_no_code(finished: SweepTables) -> None:
    sys.modules.pop("own_scores", None)
    results = read_tables(finished.folder)
    assert "own_scores:by_length" in report_html(results)
    assert "own_scores" not in sys.modules
    assert read_sweep(finished.folder).task.code == ()


def test_a_resumed_sweep_needs_the_same_code(finished: SweepTables, code: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"--code own_scores\.py"):
        run_sweep(read_sweep(finished.folder), finished.folder)
    changed = tmp_path / "own_scores.py"
    changed.write_text(CODE + "# another version\n")
    with pytest.raises(InvalidInputError, match="its code changed since the sweep began"):
        run_sweep(with_code(read_sweep(finished.folder), [changed]), finished.folder)
    again = run_sweep(with_code(read_sweep(finished.folder), [code]), finished.folder)
    assert len(again.trials) == len(finished.trials)


def test_an_exported_run_has_the_scores(
    finished: SweepTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = export_run(finished, "best", [], tmp_path / "run")
    assert (run / "code" / "own_scores.py").read_text() == CODE
    assert json.loads((run / "run.json").read_text())["evaluate"] == "own_scores:sizes"
    script = script_of(run, monkeypatch)
    adapted = get_peft_model(script.load_model(), PeftConfig.from_pretrained(str(run)))
    settings = {**json.loads((run / "training_args.json").read_text()), "bf16": False, "use_cpu": True}
    trainer = script.make_trainer(adapted, arguments_of(script, settings), {"train": [], "validation": []})
    scores = script.score_split(trainer, script.load_split("test"), "test")
    assert {"own_scores:by_length", "spread", "rows", "accuracy"} <= set(scores)


@pytest.mark.slow
def test_a_trained_run_has_the_scores(finished: SweepTables, tmp_path: Path) -> None:
    scores = train_run(export_run(finished, "best", [], tmp_path / "run"))
    assert {"own_scores:by_length", "spread", "rows", "accuracy"} <= set(scores["test"])


def test_a_sweep_file_alone_runs_no_code(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    sweep = own_sweep(tiny_model, reviews)
    with pytest.raises(InvalidInputError, match="'own_scores' is not an installed package"):
        run_sweep(sweep, tmp_path / "sweep")
    task = {**sweep.task.model_dump(), "code": [{"path": "x.py", "text": ""}]}
    with pytest.raises(InvalidInputError, match="a sweep file names no code"):
        parse_sweep({"name": "x", "model": "builtin:pocket", "task": task, "budget": {"trials": 1}})


def test_a_failing_function_is_found_before_any_training(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own_scores.py"
    file.write_text(CODE.replace("return sum(right) /", "return undefined /"))
    with pytest.raises(InvalidInputError, match="own_scores:by_length raised NameError"):
        run_sweep(with_code(own_sweep(tiny_model, reviews), [file]), tmp_path / "sweep")
    file.write_text(CODE.replace('"spread": float(logits.std())', '"other": 1.0'))
    with pytest.raises(InvalidInputError, match="no function returned the score 'spread'"):
        run_sweep(with_code(own_sweep(tiny_model, reviews), [file]), tmp_path / "sweep")
    file.write_text(CODE.replace('return {"rows"', 'return {"rows": float("nan"), "x"'))
    with pytest.raises(SearchFailedError, match="own_scores:sizes returned nan as 'rows'"):
        run_sweep(with_code(own_sweep(tiny_model, reviews), [file]), tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_an_unknown_direction_is_refused(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    file = tmp_path / "own_scores.py"
    file.write_text(CODE.replace("by_length.direction,", "by_length.other,"))
    with pytest.raises(InvalidInputError, match="maximized or minimized is not known"):
        run_sweep(with_code(own_sweep(tiny_model, reviews), [file]), tmp_path / "sweep")


def test_a_file_that_no_score_names_helps_the_others(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    file, helper = tmp_path / "own_scores.py", tmp_path / "own_helper.py"
    file.write_text(CODE)
    helper.write_text("VALUE = 1\n")
    sweep = with_code(own_sweep(tiny_model, reviews), [file, helper])
    assert [each.module for each in sweep.task.code] == ["own_scores", "own_helper"]
    assert {"own_helper.py"} == {name for name in code_digests(sweep) if name.endswith(".py")}
    with pytest.raises(InvalidInputError, match="the sweep has no score of 'own_helper'"):
        with_code(own_sweep(tiny_model, reviews), [helper])
