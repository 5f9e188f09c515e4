"""The exported script trains what a family asks for beyond its peft configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from autotune.engine.sweep_run import run_sweep
from autotune.export.run_folder import export_run, train_run
from autotune.results.sweep_tables import SweepTables
from tests.support.sweeps import small_sweep

COMMON = {"epochs": 5, "batch_size": 16, "weight_decay": 0.0, "warmup": 0.1, "schedule": "linear"}


@pytest.fixture
def trained(tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path) -> Callable[..., Any]:
    """`trained(family, **knobs)` searches one configuration, exports it and trains the export."""

    def run(family: str, **knobs: Any) -> tuple[SweepTables, Path, dict[str, dict[str, float]]]:
        space = {
            "families": [family],
            "parameters": {**COMMON, **{f"{family}.{name}": value for name, value in knobs.items()}},
        }
        sweep = small_sweep(
            tiny_model("bert"),
            reviews,
            space=space,
            budget={"trials": 1},
            fidelity={"evaluations": 1},
            confirm={"seeds": 0},
        )
        results = run_sweep(sweep, tmp_path / "out")
        folder = export_run(results, "0", [], tmp_path / "run")
        return results, folder, train_run(folder)

    return run


@pytest.mark.slow
def test_a_frozen_a_and_a_ratio_of_learning_rates(trained: Callable[..., Any]) -> None:
    """PiSSA on top: its start and its residual weights come from the base alone, so a frozen A is known."""
    results, folder, scores = trained(
        "lora", rank=4, targets="q+v", init="pissa", freeze_a=True, lr_ratio=4.0, learning_rate=2e-3
    )
    run = json.loads((folder / "run.json").read_text())
    assert run["learning_rate_factors"] == {"lora_A": 0.0, "lora_B": 4.0}
    assert scores["validation"]["accuracy"] == pytest.approx(float(results.trials["accuracy"][0]), abs=0.13)
    saved = load_file(str(folder / "adapter" / "adapter_model.safetensors"))
    rows = [tensor for name, tensor in saved.items() if "lora_A" in name]
    assert rows
    for a in rows:  # as PiSSA starts: orthogonal rows
        product = a @ a.T
        assert float((product - product.diag().diag()).abs().max()) < 1e-4 * float(product.max())


@pytest.mark.slow
def test_adalora_moves_its_ranks(trained: Callable[..., Any]) -> None:
    results, folder, scores = trained("adalora", rank=2, targets="all", learning_rate=5e-3)
    saved = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert saved["total_step"] == 5 * 15
    kept = [sum(pattern) for pattern in saved["rank_pattern"].values()]
    assert len(set(kept)) > 1
    assert sum(kept) == 2 * len(kept)
    assert scores["validation"]["accuracy"] == pytest.approx(float(results.trials["accuracy"][0]), abs=0.2)
    assert scores["validation"]["eval_loss"] == pytest.approx(
        float(results.trials["metric.eval_loss"][0]), abs=0.4
    )


@pytest.mark.slow
def test_a_mixture_balances_its_experts(trained: Callable[..., Any]) -> None:
    """The exported run has the balance in its training loss, and reports the loss of the task."""
    results, folder, scores = trained(
        "molora", rank=2, experts=3, router="top-k", balance=0.1, targets="q+v", learning_rate=2e-3
    )
    saved = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert {part["balance"] for part in saved["parts"]} == {0.1}
    assert (folder / "tuners" / "routing.py").is_file()
    assert scores["validation"]["accuracy"] == pytest.approx(float(results.trials["accuracy"][0]), abs=0.13)
    assert scores["validation"]["eval_loss"] == pytest.approx(
        float(results.trials["metric.eval_loss"][0]), abs=0.3
    )
