"""Entities in sequences of tags, as seqeval counts them without a strict scheme.

A tag is `O`, or a prefix (`B`, `I`, `E` or `S`), a hyphen and the type of an entity, such as `B-person`. A tag of
another form counts as inside of an entity of its own type.

This file needs only numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Entities = set[tuple[int, int, int]]
"""(type, first word, last word) of each entity of a sentence."""

OUTSIDE = "O"
"""The tag of a word that belongs to no entity."""
_PREFIXES = "BIES"


def as_text(value: object) -> str:
    """Return a list of words as a text, with a space between them, and any other value as its text."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def has_prefix(tag: str) -> bool:
    """Return whether a tag says where in an entity its word is.

    Example:
        >>> has_prefix("B-person"), has_prefix("O"), has_prefix("NOUN")
        (True, False, False)
    """
    return len(tag) > 2 and tag[0] in _PREFIXES and tag[1] == "-"


class TagScheme:
    """The prefixes and the types of entities of numbered tags.

    Args:
        names: The tag of each number.

    Example:
        >>> scheme = TagScheme(["B-loc", "I-loc", "O"])
        >>> sorted(scheme.entities([0, 1, 2, 1]))  # an entity may begin without B
        [(0, 0, 1), (0, 3, 3)]
    """

    def __init__(self, names: Sequence[str]) -> None:
        kinds = dict.fromkeys(name[2:] if has_prefix(name) else name for name in names if name != OUTSIDE)
        number = {kind: index for index, kind in enumerate(kinds)}
        self._prefixes = [
            name[0] if has_prefix(name) else OUTSIDE if name == OUTSIDE else "I" for name in names
        ]
        self._types = [
            -1 if name == OUTSIDE else number[name[2:] if has_prefix(name) else name] for name in names
        ]
        self.outside = list(names).index(OUTSIDE) if OUTSIDE in names else -1
        """The number of the tag outside of entities; -1 if there is none."""

    def entities(self, tags: Sequence[int]) -> Entities:
        """Return the entities of a sentence, given the number of each word's tag, or -1 for a word outside of all."""
        found: Entities = set()
        start, before, kind = 0, OUTSIDE, -1
        for place, tag in enumerate([*tags, -1]):
            prefix, own = (OUTSIDE, -1) if tag < 0 else (self._prefixes[tag], self._types[tag])
            is_new = prefix in (OUTSIDE, "B", "S") or before in (OUTSIDE, "E", "S") or own != kind
            if is_new:
                if before != OUTSIDE:
                    found.add((kind, start, place - 1))
                start = place
            before, kind = prefix, own
        return found


def entity_counts(predicted: Entities, known: Entities) -> tuple[int, int, int]:
    """Return how many entities there are, are predicted, and are predicted with the right type and extent."""
    return len(known), len(predicted), len(predicted & known)


def entity_scores(known: float, predicted: float, right: float) -> dict[str, float]:
    """Return precision, recall and their harmonic mean over all entities; 0 where there are none, as in seqeval."""
    return {
        "entity_f1": 2 * right / (known + predicted) if known + predicted else 0.0,
        "entity_precision": right / predicted if predicted else 0.0,
        "entity_recall": right / known if known else 0.0,
    }
