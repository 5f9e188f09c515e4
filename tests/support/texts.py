"""Short reviews of films, made from a few words, whose sentiment a tiny model can learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

GOOD = ["good", "great", "lovely", "fine", "happy", "bright", "warm", "clever"]
BAD = ["bad", "awful", "dull", "poor", "sad", "dark", "cold", "stupid"]
FILLER = ["the", "film", "was", "a", "story", "with", "some", "people", "in", "it", "and", "an", "end", "one"]
FILLER += ["that", "saw"]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "user", "assistant", ":", "|"]


def sentence(rng: np.random.Generator, label: int) -> str:
    """Three to fourteen words, a quarter of them telling."""
    words = rng.choice(FILLER, size=int(rng.integers(2, 11))).tolist()
    telling = rng.choice(GOOD if label else BAD, size=1 + len(words) // 4).tolist()
    mixed = [*words, *telling]
    rng.shuffle(mixed)
    return " ".join(mixed)


def reviews_frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    return pd.DataFrame({"sentence": [sentence(rng, label) for label in labels], "label": labels})


def same_splits(path: Path) -> dict[str, str]:
    """Return the fields of a task whose splits are one file: few different texts leave none to set aside."""
    return dict.fromkeys(("train", "validation", "test"), str(path))
