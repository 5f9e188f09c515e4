"""Small data of every kind of task, on which the contract suite trains."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from trials.kinds.registry import KINDS
from trials.tasks.specs import ModelSpec, TaskSpec

_WORDS = ("good", "film", "the", "was", "a", "story")
"""Words that the tokenizer of the small models knows."""


@dataclass(frozen=True)
class TaskSample:
    """Data of a kind of task, and a small model for it.

    Args:
        model: The kind of `tests.support.base_models.write_model`.
        row: Returns the row of a number, with a random generator of its own.
        fields: The fields of the task's spec, without type and files.
        space: The parameters of the space beside those of the family.
    """

    model: str
    row: Callable[[int, np.random.Generator], dict[str, Any]]
    fields: dict[str, Any]
    space: dict[str, Any] = field(default_factory=dict)


def words(rng: np.random.Generator, least: int = 3, most: int = 9) -> list[str]:
    """Return some known words."""
    return [str(word) for word in rng.choice(_WORDS, rng.integers(least, most))]


def tagged(tokens: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """Return words with random tags."""
    return {
        "tokens": tokens,
        "tags": [str(tag) for tag in rng.choice(["B-x", "I-x", "B-y", "O"], len(tokens))],
    }


def inline_image(rng: np.random.Generator, brightness: int) -> str:
    """Return the content of a small random image in PNG, as text."""
    from PIL import Image

    pixels, file = rng.integers(0, 60, (12, 10, 3)) + 60 * brightness, BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return "data:application/octet-stream;base64," + b64encode(file.getvalue()).decode("ascii")


SAMPLES: dict[str, TaskSample] = {
    "sequence-classification": TaskSample(
        "bert",
        lambda i, rng: {"text": " ".join(words(rng)), "label": "abc"[i % 3]},
        {"text": "text", "label": "label"},
    ),
    "token-classification": TaskSample(
        "bert",
        lambda i, rng: tagged(words(rng), rng),
        {"text": "tokens", "label": "tags"},
    ),
    "multi-label-classification": TaskSample(
        "bert",
        lambda i, rng: {
            "text": " ".join(words(rng)),
            "labels": [name for name in "abc" if rng.random() < 0.4],
        },
        {"text": "text", "label": "labels"},
    ),
    "image-classification": TaskSample(
        "vit",
        lambda i, rng: {"image": inline_image(rng, i % 3), "label": "abc"[i % 3]},
        {"image": "image", "label": "label"},
    ),
    "regression": TaskSample(
        "bert",
        lambda i, rng: {"text": " ".join(words(rng)), "label": float(rng.normal())},
        {"text": "text", "label": "label"},
    ),
    "seq2seq": TaskSample(
        "t5",
        lambda i, rng: {"question": " ".join(words(rng)), "answer": " ".join(words(rng, 1, 5))},
        {"prompt": "question", "completion": "answer"},
    ),
    "causal-lm": TaskSample(
        "gpt2",
        lambda i, rng: {"question": " ".join(words(rng)), "answer": " ".join(words(rng, 1, 5))},
        {"prompt": "question", "completion": "answer", "chat_template": "none"},
    ),
    "preference": TaskSample(
        "gpt2",
        lambda i, rng: {
            "question": " ".join(words(rng)),
            "better": " ".join(words(rng, 2, 5)) + " good",
            "worse": " ".join(words(rng, 1, 6)),
        },
        {"prompt": "question", "chosen": "better", "rejected": "worse", "chat_template": "none"},
        {"beta": 0.3},
    ),
}


def task_sample(name: str, folder: Path, tiny_model: Callable[[str], Path]) -> tuple[ModelSpec, TaskSpec]:
    """Write the data of a kind of task into a folder, and return the model and the task."""
    assert set(SAMPLES) == set(KINDS), "each kind of task has a sample"
    sample, files = SAMPLES[name], {}
    for split, (count, seed) in {"train": (64, 1), "validation": (24, 2), "test": (24, 3)}.items():
        rng = np.random.default_rng(seed)
        rows = [sample.row(i, rng) for i in range(count)]
        files[split] = str(folder / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = ModelSpec(name=str(tiny_model(sample.model)), precision="fp32")
    return model, TaskSpec(type=name, **files, **sample.fields)
