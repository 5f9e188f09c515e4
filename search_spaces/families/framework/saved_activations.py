"""The activations that autograd keeps for the backward pass of an adapter, beside those of the base model.

All configurations of a batch share the base model's tensors, so an adapter names those it keeps: one that several
adapters keep is kept once. Numbers of the adapter's own tensors are added up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.model.parts import Matrix

NORMS = "norms"
"""The name of the inputs of a layer's normalizations."""
MATRIX_INPUTS = {
    "q": "in:attention",
    "k": "in:attention",
    "v": "in:attention",
    "qkv": "in:attention",
    "kv": "in:attention",
    "o": "mixed",
    "mixer": "in:attention",
    "gate": "in:feed-forward",
    "up": "in:feed-forward",
    "gate_up": "in:feed-forward",
    "down": "hidden",
}
"""The name of the tensor that a matrix reads, by the matrix's role: the input of attention or of the feed-forward
block, the output of attention before its last matrix, and the feed-forward block's activations."""


@dataclass(frozen=True)
class SavedActivations:
    """What one adapter keeps in one layer for its backward pass.

    Args:
        shared: The names of the base model's tensors, as `input_of` and `output_of` return them, or `NORMS`.
        per_token: Numbers of the adapter's own tensors per token.
        constant: Numbers that do not depend on the batch, such as those of the matrix that the adapter adds.
    """

    shared: frozenset[str] = frozenset()
    per_token: float = 0.0
    constant: float = 0.0


def input_of(matrix: Matrix) -> str:
    """Return the name of the tensor that a matrix reads."""
    return MATRIX_INPUTS[matrix.role]


def output_of(matrix: Matrix) -> str:
    """Return the name of the tensor that a matrix computes."""
    return f"out:{matrix.site}"


def combine(parts: Iterable[SavedActivations]) -> SavedActivations:
    """Return what several adapters of one configuration keep together in one layer."""
    parts = list(parts)
    return SavedActivations(
        frozenset[str]().union(*[part.shared for part in parts]),
        sum(part.per_token for part in parts),
        sum(part.constant for part in parts),
    )
