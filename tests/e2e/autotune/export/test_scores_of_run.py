"""An exported run scores the same predictions as the search: f1 of the same class, errors in the same units."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoConfig

from autotune.export.run_folder import export_run
from autotune.ledger.ledger import read_sweep
from autotune.report.headline import summary
from autotune.results.sweep_tables import SweepTables, read_tables
from search_spaces.errors import InvalidInputError
from tests.support.exported_runs import arguments_of, script_of
from tests.support.sweeps import fake_run, small_sweep
from trials.data.task_data import TaskData, load_task
from trials.tasks.metrics import metrics_for
from trials.training.evaluation import evaluate

COMPARED = {"sequence-classification": "f1", "regression": "mse"}


def text_of(number: int) -> str:
    """Return another text of known words for each number below 216, so that the outputs of a model differ."""
    words = ["good", "film", "the", "was", "a", "story"]
    return " ".join(words[number // place % 6] for place in (36, 6, 1))


def exported(
    model: Path, folder: Path, data: Path, type: str, **task: object
) -> tuple[SweepTables, TaskData, Path]:
    """Return the tables of a sweep that trained nothing, its data, and its first trial as an exported run."""
    sweep = small_sweep(
        model,
        folder,
        task={"type": type, "train": str(data), "text": "text", "label": "label", "max_length": 16, **task},
        objectives=[COMPARED[type], "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    fake_run(sweep, folder / "out")
    results = read_tables(folder / "out")
    run = export_run(results, "0", [], folder / "run")
    return results, load_task(results.sweep.task, results.sweep.model), run


def both_scores(
    run: Path, data: TaskData, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the scores of one model on validation, by the search and by the exported run."""
    script = script_of(run, monkeypatch)
    torch.manual_seed(0)
    model = get_peft_model(script.load_model(), PeftConfig.from_pretrained(str(run)))
    for (
        parameter
    ) in model.parameters():  # larger weights than at first, so that outputs differ by more than rounding
        torch.nn.init.normal_(parameter, std=0.5)
    settings = {**json.loads((run / "training_args.json").read_text()), "bf16": False, "use_cpu": True}
    trainer = script.make_trainer(model, arguments_of(script, settings), {"train": [], "validation": []})
    split = script.load_split("validation")
    assert split == data.splits["validation"]
    held_out, task_type = data.splits["validation"], script.TASK["type"]
    device = torch.device("cpu")
    searched = evaluate(model, data, held_out, task_type=task_type, device=device, generates=True)
    return searched.metrics, script.score_split(trainer, split)


def test_f1_is_that_of_the_rarer_class(tiny_model, write_jsonl, tmp_path, monkeypatch):
    rows = [{"text": f"film no. {i}", "label": "fraud" if i % 5 == 0 else "legit"} for i in range(200)]
    results, data, run = exported(
        tiny_model("bert"), tmp_path, write_jsonl("f.jsonl", rows), "sequence-classification"
    )
    assert read_sweep(tmp_path / "out").task.positive == "fraud"
    assert json.loads((run / "run.json").read_text())["task"]["positive"] == "fraud"
    assert summary(results).endswith("F1 is that of class 'fraud'.")
    assert "`f1` is that of class fraud." in (run / "README.md").read_text()
    searched, scored = both_scores(run, data, monkeypatch)
    assert scored == pytest.approx(searched, abs=1e-6)
    assert set(searched) == set(metrics_for("sequence-classification"))


def test_an_unknown_positive_class_ends_the_start_of_a_sweep(tiny_model, write_jsonl, tmp_path):
    rows = [{"text": f"film no. {i}", "label": "fraud" if i % 5 == 0 else "legit"} for i in range(100)]
    with pytest.raises(InvalidInputError, match="Did you mean 'fraud'"):
        exported(
            tiny_model("bert"),
            tmp_path,
            write_jsonl("f.jsonl", rows),
            "sequence-classification",
            positive="fruad",
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("positive", [1, "2"])
def test_a_named_class_of_three_is_scored_against_the_rest(
    positive, tiny_model, write_jsonl, tmp_path, monkeypatch
):
    rows = [{"text": f"film no. {i}", "label": i % 3} for i in range(150)]
    path = write_jsonl("f.jsonl", rows)
    _, data, run = exported(tiny_model("bert"), tmp_path, path, "sequence-classification", positive=positive)
    assert data.positive == int(positive)
    searched, scored = both_scores(run, data, monkeypatch)
    assert scored == pytest.approx(searched, abs=1e-6)


def test_a_regression_is_scored_in_the_units_of_its_targets(tiny_model, write_jsonl, tmp_path, monkeypatch):
    rows = [{"text": text_of(i), "label": 3000 * (40 + i)} for i in range(200)]
    results, data, run = exported(tiny_model("bert"), tmp_path, write_jsonl("p.jsonl", rows), "regression")
    searched, scored = both_scores(run, data, monkeypatch)
    assert scored == pytest.approx(searched, rel=1e-5)
    assert searched["mse"] == pytest.approx(
        searched["eval_loss"] * np.var(data.raw["train"]["label"]), rel=1e-5
    )
    assert searched["mse"] > 1e9
    reference = results.objectives[0].reference
    assert reference == pytest.approx(np.var(data.raw["validation"]["label"]), rel=0.5)
    assert "label = " in (run / "README.md").read_text()


def test_the_adapter_of_a_regression_says_how_to_restore_its_output(
    tiny_model, write_jsonl, tmp_path, monkeypatch
):
    rows = [{"text": text_of(i), "label": 3000 * (40 + i)} for i in range(60)]
    _, data, run = exported(tiny_model("bert"), tmp_path, write_jsonl("p.jsonl", rows), "regression")
    script, folder = script_of(run, monkeypatch), tmp_path / "adapter"
    model = get_peft_model(script.load_model(), PeftConfig.from_pretrained(str(run)))
    model.save_pretrained(str(folder))
    script.describe_head(model, folder)
    assert data.target_scale is not None
    scale = AutoConfig.from_pretrained(str(folder)).target_scale
    assert scale == {"mean": data.target_scale.mean, "deviation": data.target_scale.deviation}
    card = (folder / "README.md").read_text()
    assert f"label = {scale['deviation']!r} * output + {scale['mean']!r}" in card


def test_a_folder_of_the_first_version_is_exported_as_it_was_searched(
    tiny_model: Callable[[str], Path], write_jsonl, tmp_path, monkeypatch
):
    rows = [{"text": text_of(i), "label": float(i % 7)} for i in range(60)]
    path = write_jsonl("p.jsonl", rows)
    _, data, run = exported(tiny_model("bert"), tmp_path, path, "regression", data_version=1)
    assert data.target_scale is None
    searched, scored = both_scores(run, data, monkeypatch)
    assert scored == pytest.approx(searched, rel=1e-5)
    assert searched["mse"] == pytest.approx(searched["eval_loss"], rel=1e-5)


def test_generated_text_is_scored_alike(tiny_model, write_jsonl, tmp_path, monkeypatch):
    words = ["good", "film", "the", "was", "a", "story"]
    rows = [{"prompt": text_of(i), "completion": words[i % 6]} for i in range(120)]
    sweep = small_sweep(
        tiny_model("gpt2"),
        tmp_path,
        task={
            "type": "causal-lm",
            "train": str(write_jsonl("c.jsonl", rows)),
            "prompt": "prompt",
            "completion": "completion",
            "metric": "rougeL",
            "max_length": 24,
            "generation": {"max_new_tokens": 4, "samples": "all", "metrics": ["chrf"]},
        },
        objectives=["rougeL", "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    fake_run(sweep, tmp_path / "out")
    results = read_tables(tmp_path / "out")
    run = export_run(results, "0", [], tmp_path / "run")
    data = load_task(results.sweep.task, results.sweep.model)
    searched, scored = both_scores(run, data, monkeypatch)
    assert scored == pytest.approx(searched, abs=1e-6)
    assert searched["chrf"] > 0
    assert {"rougeL", "chrf", "teacher_forced_exact_match"} <= set(scored)
