"""The amount of training data, from which the FLOPs of a configuration follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces.model.task_types import TargetShares


@dataclass(frozen=True)
class Workload:
    """The amount of training data, which determines the FLOPs of a configuration.

    Args:
        tokens: mean number of tokens of a training sample, padding included; for images, the patches and the
            class token.
        tokens_square: mean of the squared number of tokens, padding included; attention is proportional to it.
        train_samples: number of samples in one epoch.
        batch_size: samples per forward pass for configurations without `batch_size`.
        target_tokens: mean number of tokens of the text that the decoder of an encoder-decoder processes; by default
            as many as the encoder.
        target_square: mean of their square.
        inference_tokens: mean number of tokens of a sample at inference; by default that of training.
        rows: number of sequences of a sample; the numbers of tokens are those of one of them. A preference pair has
            two, one with each answer.
        has_reference: whether the base model's forward pass over every sample, once per training run, is part of the
            costs, for losses that compare the trained model with it.
        cuts: the workload of the truncated data by maximum number of tokens, for configurations with
            `sequence_length`.
    """

    tokens: float
    tokens_square: float
    train_samples: int
    batch_size: int = 32
    target_tokens: float | None = None
    target_square: float | None = None
    inference_tokens: float | None = None
    rows: int = 1
    has_reference: bool = False
    cuts: Mapping[int, Workload] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tokens", "train_samples", "batch_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not positive; give a number above 0")
        if self.tokens_square < self.tokens**2 * (1 - 1e-9):
            raise ValueError(
                f"tokens_square: {self.tokens_square} is below the square of the mean length, "
                f"{self.tokens**2}; give the mean of the squares"
            )

    @property
    def target_shares(self) -> TargetShares:
        """What the decoder processes per token of the encoder."""
        if self.target_tokens is None:
            return TargetShares()
        square = self.target_tokens**2 if self.target_square is None else self.target_square
        return TargetShares(
            token=self.target_tokens / self.tokens,
            pair=square / self.tokens_square,
            cross=self.tokens * self.target_tokens / self.tokens_square,
        )
