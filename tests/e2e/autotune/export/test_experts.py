"""An exported run with LoRA on routed experts: its adapter loads on the plain base model, with the same score."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from tests.support.base_models import write_tokenizer
from tests.support.sweeps import light_sweeps, small_sweep
from tests.support.texts import reviews_frame
from tests.support.tiny_configs import CONFIGS

PARAMETERS = {
    "epochs": 1,
    "batch_size": 16,
    "lora.rank": 3,
    "lora.layers": 2,
    "lora.targets": "attention,experts",
    "lora.dora": False,
    "lora.dropout": 0.0,
    "lora.init": "kaiming",
    "lora.learning_rate": 2e-3,
}
LOADED = """
import json, sys, torch, train
from types import SimpleNamespace
from peft import AutoPeftModelForCausalLM

model = AutoPeftModelForCausalLM.from_pretrained("adapter")
examples = train.load_split("test")
arguments = SimpleNamespace(per_device_eval_batch_size=8, device=torch.device("cpu"))
columns = train.KIND.finish(train.columns_of(model, arguments, examples), examples, train.SCORING)
targets = json.load(open("adapter/adapter_config.json"))["target_parameters"]
print(json.dumps([train.KIND.scores(columns, train.SCORING)["eval_loss"], targets]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_an_adapter_of_experts_has_its_score_in_a_new_process(kind: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIGS[kind]()).save_pretrained(model)
    write_tokenizer(model)
    for split, rows, seed in (("train", 48, 1), ("validation", 24, 2), ("test", 24, 3)):
        texts = reviews_frame(rows, seed)
        texts.to_csv(tmp_path / f"{split}.tsv", sep="\t", index=False)
    splits = {split: str(tmp_path / f"{split}.tsv") for split in ("train", "validation", "test")}
    sweep = small_sweep(
        model,
        tmp_path,
        task={"type": "causal-lm", **splits, "text": "sentence"},
        space={"families": ["lora"], "parameters": PARAMETERS},
        objectives=["eval_loss", "trainable_params"],
        budget={"trials": 1},
        confirm={"seeds": 0},
    )
    with light_sweeps():
        run = export_run(run_sweep(sweep, tmp_path / "out"), "best", [], tmp_path / "run")
    scores = train_run(run)
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADED], cwd=run, capture_output=True, text=True, check=True
    )
    loss, targets = json.loads(shown.stdout.splitlines()[-1])
    assert len(targets) == 4
    assert loss == pytest.approx(scores["test"]["eval_loss"], rel=1e-5)
