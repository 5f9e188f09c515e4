"""Exported runs on preference pairs: loss and reference of the search, and a saved adapter with its scores."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from autotune.export.run_folder import export_run, train_run
from autotune.results.sweep_tables import read_tables
from tests.support.exported_runs import arguments_of, script_of
from tests.support.sweeps import fake_run, small_sweep
from tests.support.task_samples import task_sample
from trials.execution.runner import Runner
from trials.kinds.kind import REFERENCE
from trials.records import TrialSpec
from trials.training.evaluation import evaluate
from trials.training.references import with_references
from trials.training.run import Run, train_batch


@pytest.fixture(scope="module")
def exported(
    tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Runner, Path]]:
    """Return what exports the first trial of a sweep, which trained nothing, with a loss."""

    def export(loss: str) -> tuple[Runner, Path]:
        folder = tmp_path_factory.mktemp(loss)
        model, task = task_sample("preference", folder, tiny_model)
        sweep = small_sweep(
            Path(model.name),
            folder,
            task={**task.model_dump(exclude_unset=True), "loss": loss},
            space={
                "families": ["lora"],
                "parameters": {
                    "epochs": 2,
                    "batch_size": 8,
                    "beta": 0.7,
                    "lora.dropout": 0.0,
                    "lora.learning_rate": 0.02,
                    "lora.rank": 4,
                    "warmup": 0.1,
                    "schedule": "linear",
                },
            },
            objectives=["reward_accuracy", "trainable_params"],
            budget={"trials": 1},
            confirm={"seeds": 0},
        )
        fake_run(sweep, folder / "out")
        run = export_run(read_tables(folder / "out"), "0", [], folder / "run")
        return Runner(sweep.model, sweep.task), run

    return export


@pytest.mark.slow
def test_a_trained_adapter_has_its_scores_when_it_is_loaded(exported: Any) -> None:
    runner, run = exported("dpo")
    scores = train_run(run)
    name = json.loads((run / "run.json").read_text())["model"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), str(run / "adapter"))
    for split, expected in scores.items():
        examples = with_references(runner.base, runner.data, runner.data.splits[split])
        found = evaluate(
            model, runner.data, examples, task_type="preference", device=torch.device("cpu")
        ).metrics
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert found["reward_accuracy"] > 0.7


@pytest.mark.parametrize("loss", ["dpo", "kto", "simpo"])
def test_the_loss_of_a_step_is_that_of_a_trial(
    loss: str, exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, run = exported(loss)
    config = json.loads((run / "run.json").read_text())["configuration"]
    trial = Run(runner.base, runner.data, TrialSpec(config, 0))
    script = script_of(run, monkeypatch)
    settings = {**json.loads((run / "training_args.json").read_text()), "bf16": False, "use_cpu": True}
    arguments, split = arguments_of(script, settings), script.load_split("train")
    base = script.load_model()
    if loss != "simpo":
        script.add_reference(base, arguments, split)
    torch.manual_seed(0)
    model, _ = script.adapt(base, settings, split)
    for parameter, same in zip(model.parameters(), trial.model.parameters(), strict=True):
        if same.requires_grad:  # far from the base model, so that the losses differ from their first values
            torch.nn.init.normal_(parameter, std=0.3)
            same.data.copy_(parameter)
    trainer = script.make_trainer(model, arguments, {"train": split, "validation": []})
    examples = split[:8]
    found = float(trainer.compute_loss(model.eval(), trainer.data_collator(examples)))
    expected = with_references(runner.base, runner.data, runner.data.splits["train"][:8])
    assert [e.get(REFERENCE) for e in examples] == [
        None if loss == "simpo" else pytest.approx(e[REFERENCE], abs=1e-4) for e in expected
    ]
    assert found == pytest.approx(train_batch(trial, expected)[0], rel=1e-4)
    assert abs(found - math.log(2)) > 0.01
