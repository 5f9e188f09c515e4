"""An exported run ends by the patience of the search and keeps the adapter of its best evaluation."""

from __future__ import annotations

import json

import torch
from peft import PeftConfig, get_peft_model
from transformers import TrainingArguments

from autotune.export.run_folder import export_run
from autotune.results.sweep_tables import read_tables
from tests.support.exported_runs import script_of
from tests.support.sweeps import fake_run, small_sweep

ACCURACIES = (0.5, 0.7, 0.6, 0.7, 0.9)
"""After the fourth, two evaluations in a row are no better than the second."""


def test_the_run_ends_by_its_patience_with_the_best_adapter(tiny_model, reviews, tmp_path, monkeypatch):
    sweep = small_sweep(
        tiny_model("bert"),
        reviews,
        fidelity={"evaluations": 5, "patience": 2, "score": "best"},
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    fake_run(sweep, tmp_path / "out")
    run = export_run(read_tables(tmp_path / "out"), "0", [], tmp_path / "run")
    assert "It ends after 2 in a row without a better value. The adapter of the best" in " ".join(
        (run / "README.md").read_text().split()
    )
    script = script_of(run, monkeypatch)
    model = get_peft_model(script.load_model(), PeftConfig.from_pretrained(str(run)))
    settings = {**json.loads((run / "training_args.json").read_text()), "use_cpu": True, "bf16": False}
    settings |= {"max_steps": 10, "warmup_steps": 0}
    splits = {name: script.load_split(name)[:20] for name in ("train", "validation")}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    seen: list[list[torch.Tensor]] = []

    def scored(*_: object, **__: object) -> dict[str, float]:
        seen.append([parameter.detach().clone() for parameter in trained])
        return {"accuracy": ACCURACIES[len(seen) - 1]}

    monkeypatch.setattr(script, "score_split", scored)
    trainer = script.make_trainer(model, TrainingArguments(str(tmp_path), **settings), splits)
    trainer.train()
    assert len(seen) == 4
    assert trainer.state.global_step == 8
    assert all(torch.equal(now, best) for now, best in zip(trained, seen[1], strict=True))
    assert not all(torch.equal(now, last) for now, last in zip(trained, seen[3], strict=True))
