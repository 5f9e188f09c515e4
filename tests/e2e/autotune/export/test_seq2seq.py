"""Encoder-decoders from a sweep to an exported run, whose adapter scores the same in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from autotune.results.sweep_tables import read_tables
from tests.support.sweeps import light_sweeps, small_sweep
from tests.support.task_samples import task_sample

SCORE = """
import json, sys
import train
from peft import PeftModel
from search_trainer import divided

settings = divided(json.loads((train.HERE / "training_args.json").read_text()), 1)
arguments = train.TrainingArguments(output_dir="unused", **{**settings, "use_cpu": True})
model = PeftModel.from_pretrained(train.load_model(), sys.argv[1])
splits = {name: train.load_split(name) for name in ("train", "validation", "test")}
trainer = train.make_trainer(model, arguments, splits)
print(json.dumps({name: train.score_split(trainer, splits[name], name) for name in ("validation", "test")}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_an_exported_adapter_scores_the_same_in_a_new_process(
    architecture: str, tiny_model: Any, tmp_path: Path
) -> None:
    _, task = task_sample("seq2seq", tmp_path, tiny_model)
    generation = {"max_new_tokens": 4, "samples": 8}
    sweep = small_sweep(
        tiny_model(architecture),
        tmp_path,
        "fp32",
        task={**task.model_dump(exclude_unset=True), "generation": generation, "metric": "chrf"},
        space={
            "families": ["lora"],
            "parameters": {"epochs": 1, "batch_size": 16, "lora.rank": 2, "lora.learning_rate": 0.02},
        },
        objectives=["chrf", "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    with light_sweeps():
        run_sweep(sweep, tmp_path / "out")
    results = read_tables(tmp_path / "out")
    assert results.trials["status"].tolist() == ["complete"], results.trials["error"].tolist()
    run = export_run(results, "0", [], tmp_path / "run")
    scores = train_run(run)
    assert {"chrf", "eval_loss", "exact_match"} <= set(scores["test"])
    command = [sys.executable, "-c", SCORE, str(run / "adapter")]
    found = subprocess.run(command, cwd=run, check=True, capture_output=True, text=True)
    again = json.loads(found.stdout.strip().splitlines()[-1])
    assert again["validation"] == pytest.approx(scores["validation"], abs=1e-6)
    assert again["test"] == pytest.approx(scores["test"], abs=1e-6)
