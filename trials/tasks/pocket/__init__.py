"""A small task and a small base model that are part of the package and work offline."""

from __future__ import annotations

from pathlib import Path

from trials.tasks.pocket.corpus import Corpus, load_corpus

__all__ = ["Corpus", "base_folder", "load_corpus"]


def base_folder() -> Path:
    """Return the folder of the pre-trained base model, in the format of `from_pretrained`."""
    return Path(__file__).parent / "base"
