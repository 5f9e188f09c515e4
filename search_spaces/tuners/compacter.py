"""Compacter: a bottleneck whose projections are sums of Kronecker products."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .bottleneck import Serial
from .part import Tensors, check_positive, kind, sizes


@kind
@dataclass
class Compacter(Serial):
    """A serial bottleneck with W = Σᵢ Aᵢ ⊗ (sᵢ tᵢ) (Mahabadi et al., 2021, arXiv 2106.04647, eq. 3 and 5).

    All projections of the model share the n matrices Aᵢ of shape n × n. Each projection of i inputs and o outputs has
    its own n columns sᵢ of i/n numbers and n rows tᵢ of o/n numbers, i + o numbers in total.

    Args:
        terms: number n of terms; it divides both the outputs of the matrix and `size`.
    """

    kind: ClassVar[str] = "compacter"

    terms: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "terms")
        if self.size % self.terms:
            raise ValueError(
                f"size: {self.size} is not a multiple of terms, {self.terms}; change one of them"
            )

    def tensors(self, base: nn.Module) -> Tensors:
        """Return new tensors with which W has a variance of one over the inputs, and the up-projection is zero."""
        n, width = self.terms, sizes(base)[1]
        if width % n:
            raise ValueError(f"terms: {n} does not divide the {width} outputs; use a divisor")
        spread = width**-0.25
        return {
            "rules": torch.randn(n, n, n) / n**0.5,
            "down_columns": spread * torch.randn(n, width // n),
            "down_rows": spread * torch.randn(n, self.size // n),
            "down_bias": torch.zeros(self.size),
            "up_columns": spread * torch.randn(n, self.size // n),
            "up_rows": torch.zeros(n, width // n),
            "up_bias": torch.zeros(width),
        }

    def shared(self, base: nn.Module) -> dict[str, Hashable]:
        return {"rules": ("compacter", self.terms)}

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor:
        weights = {
            name: _projection(own["rules"], own[f"{name}_columns"], own[f"{name}_rows"]).T
            for name in ("down", "up")
        }
        return self._through({**own, **weights}, y)


def _projection(rules: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return Σᵢ Aᵢ ⊗ (sᵢ tᵢ), shape [inputs, outputs], from shapes [n, n, n], [n, inputs/n], [n, outputs/n].

    It is computed elementwise, because a matrix product is not faster at rank one.
    """
    blocks = rules[:, :, None, :, None] * columns[:, None, :, None, None] * rows[:, None, None, None, :]
    return blocks.sum(0).flatten(2, 3).flatten(0, 1)
