"""The padding id of a classifier is its tokenizer's, whatever the model's configuration says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from autotune.export.run_folder import export_run
from tests.support.exported_runs import script_of
from tests.support.sweeps import fake_run, small_sweep
from trials.base.model import load_base
from trials.data.task_data import load_task
from trials.reading.encoding import padded

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.mark.parametrize(("kind", "padding"), [("gpt2", None), ("llama", 3), ("t5", 6)])
def test_the_search_and_the_export_compute_the_same_function(
    kind, padding, tiny_model, reviews, tmp_path, monkeypatch
):
    """By itself and in a batch; token 3, the padding id of the configuration, ends every text."""
    model = Path(shutil.copytree(tiny_model(kind), tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "pad_token_id": padding}))
    sweep = small_sweep(model, reviews, "fp32", budget={"trials": 1}, confirm={"seeds": 0})
    data = load_task(sweep.task, sweep.model)
    searched = load_base(sweep.model, sweep.task, data).model.eval()
    run = export_run(fake_run(sweep, tmp_path / "out"), "0", [], tmp_path / "run")
    exported = script_of(run, monkeypatch).load_model().eval()
    exported.load_state_dict(searched.state_dict())
    examples = data.splits["test"][:8]

    def logits(network: Any, chosen: list[dict[str, Any]]) -> torch.Tensor:
        batch = padded(chosen, data.tokenizer)
        with torch.no_grad():
            return network(**batch).logits

    each = torch.cat([logits(searched, [example]) for example in examples])
    torch.testing.assert_close(logits(searched, examples), each, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(exported, examples), each, rtol=0, atol=1e-5)
