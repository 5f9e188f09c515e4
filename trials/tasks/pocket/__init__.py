"""A task and a base model that fit in a pocket: they work offline, wherever the project is installed."""

from __future__ import annotations

from pathlib import Path

from trials.tasks.pocket.corpus import Corpus, load_corpus

__all__ = ["Corpus", "base_folder", "load_corpus"]


def base_folder() -> Path:
    """The folder of the pre-trained base: configuration, tokenizer and weights, as `from_pretrained` takes it."""
    return Path(__file__).parent / "base"
