"""An exported run encodes the examples of every kind of labels, and scores predictions, as the search does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftConfig, get_peft_model

from autotune.export.run_folder import export_run
from autotune.results.sweep_tables import read_tables
from tests.support.exported_runs import arguments_of, script_of
from tests.support.sweeps import fake_run, small_sweep
from tests.support.task_samples import task_sample
from trials.data.task_data import load_task
from trials.training.evaluation import evaluate


@pytest.mark.parametrize(
    "kind", ["token-classification", "multi-label-classification", "image-classification"]
)
def test_an_exported_run_scores_like_the_search(
    kind: str, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task = task_sample(kind, tmp_path, tiny_model)
    fields = {
        "type": kind,
        "train": task.train,  # of which validation and test are carved, so that the run holds copies
        **{name: value for name in ("text", "image", "label") if (value := getattr(task, name))},
    }
    sweep = small_sweep(
        Path(model.name),
        tmp_path,
        task=fields,
        objectives=[task.metric, "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    fake_run(sweep, tmp_path / "out")
    results = read_tables(tmp_path / "out")
    run = export_run(results, "0", [], tmp_path / "run")
    readme = (run / "README.md").read_text(encoding="utf-8")
    assert ("sigmoid" in readme) == kind.startswith("multi")
    assert ("Pillow" in readme) == kind.startswith("image")
    data = load_task(results.sweep.task, results.sweep.model)
    script = script_of(run, monkeypatch)
    assert script.data_changes() == []
    assert script.base_changes() == []
    torch.manual_seed(0)
    adapted = get_peft_model(script.load_model(), PeftConfig.from_pretrained(str(run)))
    for parameter in adapted.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    assert adapted.get_base_model().config.id2label == dict(enumerate(data.class_names or ()))
    settings = {**json.loads((run / "training_args.json").read_text()), "bf16": False, "use_cpu": True}
    trainer = script.make_trainer(adapted, arguments_of(script, settings), {"train": [], "validation": []})
    split, known = script.load_split("validation"), data.splits["validation"]
    for mine, theirs in zip(split, known, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    found = evaluate(adapted, data, known, task_type=kind, device=torch.device("cpu"))
    assert script.score_split(trainer, split) == pytest.approx(found.metrics, abs=1e-6)
    assert any(0 < value < 1 for value in found.metrics.values())
