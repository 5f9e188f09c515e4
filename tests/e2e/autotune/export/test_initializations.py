"""An exported run initializes its adapter as the search does, and saves one that loads on the plain base model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel
from transformers import AutoTokenizer

from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from tests.support.exported_runs import script_of
from tests.support.sweeps import light_sweeps, small_sweep


def exported(init: str, model: Path, reviews: Path, folder: Path) -> Path:
    space = {
        "families": ["lora"],
        "parameters": {
            "epochs": 1,
            "batch_size": 16,
            "lora.init": init,
            "lora.rslora": True,
            "lora.dora": True,
        },
    }
    sweep = small_sweep(model, reviews, space=space, budget={"trials": 1}, confirm={"seeds": 0})
    with light_sweeps():
        return export_run(run_sweep(sweep, folder / "out"), "best", [], folder / "run")


def test_a_weight_that_was_replaced_comes_back_in_the_saved_adapter(
    tiny_model, reviews, tmp_path, monkeypatch
):
    run = exported("corda", tiny_model("bert"), reviews, tmp_path)
    script = script_of(run, monkeypatch)
    assert script.RUN["preparation"]["method"] == "corda"
    settings = {"seed": 0, "per_device_train_batch_size": 16, "use_cpu": True, "bf16": False}
    train = script.load_split("train")
    model, initial = script.adapt(script.load_model(), settings, train)
    again, _ = script.adapt(script.load_model(), settings, train)
    path, one = next((n, m) for n, m in model.get_base_model().named_modules() if hasattr(m, "lora_B"))
    other = again.get_base_model().get_submodule(path)
    assert torch.equal(one.lora_B["default"].weight, other.lora_B["default"].weight)
    plain = script.load_model().eval()
    assert not torch.equal(one.base_layer.weight, plain.get_submodule(path).weight)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    script.save_adapter(model, tmp_path / "adapter", initial)
    loaded = PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    ids = torch.tensor([[2, 9, 10, 30, 3]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("init", ["olora", "eva", "corda", "lora_ga"])
def test_a_run_trains_and_its_adapter_predicts_alike_in_a_new_model(init, tiny_model, reviews, tmp_path):
    run = exported(init, tiny_model("bert"), reviews, tmp_path)
    scores = train_run(run)
    adapter = str(run / "adapter")
    model = AutoPeftModelForSequenceClassification.from_pretrained(adapter, num_labels=2).eval()
    rows = pd.read_csv(reviews / "test.tsv", sep="\t")
    texts = AutoTokenizer.from_pretrained(adapter)(
        rows["sentence"].tolist(), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        found = model(**texts).logits.argmax(-1).numpy()
    assert (found == rows["label"]).mean() == pytest.approx(scores["test"]["accuracy"], abs=1e-6)
