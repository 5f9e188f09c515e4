"""Trained keys and values before those of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .part import Part, Tensors, check_positive, kind

DEVIATION = 0.02
"""Standard deviation of the initial keys and values, small, so that queries attend to the prefix almost equally."""


@kind
@dataclass
class Prefix(Part):
    """A prefix of `size` trained keys and values that every query of the layer attends to (Li and Liang, 2021).

    The part belongs to the matrix that computes the keys, whose parent is the attention module; `attention.py`
    prepends the prefix. No matrix and no rotary embedding is applied to it.

    Args:
        size: number of virtual keys, and of values.
        heads: number of heads of keys and values.
        width: features per head.
    """

    kind: ClassVar[str] = "prefix"

    size: int = 8
    heads: int = 0
    width: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "size", "heads", "width")

    def tensors(self, base: nn.Module) -> Tensors:
        shape = (self.heads, self.size, self.width)
        return {name: torch.empty(shape).normal_(std=DEVIATION) for name in ("keys", "values")}
