"""Learned keys and values in front of a layer's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .part import Part, Tensors, check_positive, kind

DEVIATION = 0.02
"""Of the initial keys and values; small keys give every query nearly the same share of the prefix."""


@kind
@dataclass
class Prefix(Part):
    """`size` keys and values that every query of the layer sees first (Li and Liang, 2021).

    They stand on the matrix that computes the keys, whose parent is the attention module; `attention.py`
    puts them in front. They pass no matrix and no rotation of positions.

    Args:
        size: virtual keys, and as many values.
        heads: heads of keys and values.
        width: the size of a head.
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
