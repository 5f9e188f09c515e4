"""LoRA as a part of a composite adapter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .part import Part, Tensors, check_positive, kind, sizes


@kind
@dataclass
class LowRank(Part):
    """A low-rank update, y + scale · B A x on a matrix with input x (Hu et al., 2021).

    A has shape [size, inputs], and B has shape [outputs, size].

    Args:
        size: the rank.
        scale: the factor on B A.
    """

    kind: ClassVar[str] = "low_rank"
    order: ClassVar[int] = 2
    mergeable: ClassVar[bool] = True

    size: int = 8
    scale: float = 2.0

    def __post_init__(self) -> None:
        check_positive(self, "size")

    def tensors(self, base: nn.Module) -> Tensors:
        inputs, outputs = sizes(base)
        down = torch.empty(self.size, inputs)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        return {"A": down, "B": torch.zeros(outputs, self.size)}

    def rewrite(self, own: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        update = nn.functional.linear(nn.functional.linear(x.to(own["A"].dtype), own["A"]), own["B"])
        return y + (self.scale * update).to(y.dtype)

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        update = self.scale * own["B"] @ own["A"]
        weight = weights["weight"]
        return {**weights, "weight": weight + (update.T if conv1d else update).to(weight.dtype)}
