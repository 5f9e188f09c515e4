"""The tasks that a head can do, and the amount of text that each stack reads for them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from search_spaces.model.parts import Matrix

TaskType = Literal[
    "sequence-classification",
    "token-classification",
    "regression",
    "causal-lm",
    "seq2seq",
    "image-classification",
]


class TargetShares(NamedTuple):
    """What the decoder of an encoder-decoder processes where its texts are not those of the encoder.

    Args:
        token: tokens of the decoder per token of the encoder.
        pair: pairs of tokens of the decoder per pair of the encoder.
        cross: pairs of a token of the decoder and one of the encoder, per pair of the encoder.
    """

    token: float = 1.0
    pair: float = 1.0
    cross: float = 1.0

    def of_stack(self, stack: int) -> float:
        """Return the tokens that a stack processes per token of the encoder."""
        return self.token if stack else 1.0

    def of_matrix(self, matrix: Matrix) -> float:
        """Return the same for a matrix: the keys and values of cross-attention are those of the encoder's output."""
        return 1.0 if matrix.cross and matrix.role in ("k", "v", "kv") else self.of_stack(matrix.stack)

    def in_layer(self, matrix: Matrix) -> float:
        """Return the tokens that a matrix processes per token of its own stack."""
        return self.of_matrix(matrix) / self.of_stack(matrix.stack)
