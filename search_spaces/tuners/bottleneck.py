"""Bottlenecks: down to a small width, an activation, and up again.

The up-projection starts at zero, so that a new adapter changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from transformers.activations import ACT2FN

from .part import Part, Tensors, check_positive, kind, sizes


@dataclass
class _Bottleneck(Part):
    size: int = 16
    activation: str = "relu"

    def __post_init__(self) -> None:
        check_positive(self, "size")
        if self.activation not in ACT2FN:
            raise ValueError(f"activation: {self.activation!r} is none of transformers.activations.ACT2FN")

    def _new(self, inputs: int, outputs: int) -> Tensors:
        down = torch.empty(self.size, inputs)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))  # as nn.Linear does
        return {
            "down": down,
            "down_bias": torch.zeros(self.size),
            "up": torch.zeros(outputs, self.size),
            "up_bias": torch.zeros(outputs),
        }

    def _through(self, own: Tensors, x: torch.Tensor) -> torch.Tensor:
        hidden = ACT2FN[self.activation](
            nn.functional.linear(x.to(own["down"].dtype), own["down"], own["down_bias"])
        )
        return nn.functional.linear(hidden, own["up"], own["up_bias"])


@kind
@dataclass
class Serial(_Bottleneck):
    """y + up(act(down(y))) on a matrix's output y (Houlsby et al., 2019; Pfeiffer et al., 2021).

    Args:
        size: the width b of the bottleneck; 2db + b + d parameters on d outputs.
        activation: a name in transformers.activations.ACT2FN.
    """

    kind: ClassVar[str] = "serial"

    def tensors(self, base: nn.Module) -> Tensors:
        outputs = sizes(base)[1]
        return self._new(outputs, outputs)

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor:
        return self._through(own, y)


@dataclass
class Capture(Part):
    """Keeps what its module reads, until the module that asked for it has taken it."""

    kind: ClassVar[str] = "capture"
    value: torch.Tensor | None = None

    def tensors(self, base: nn.Module) -> Tensors:
        return {}

    def read(self, own: Tensors, x: torch.Tensor) -> torch.Tensor:
        self.value = x
        return x

    def take(self) -> torch.Tensor:
        if self.value is None:
            raise RuntimeError("a parallel bottleneck ran before the module whose input it reads")
        value, self.value = self.value, None
        return value


@kind
@dataclass
class Parallel(_Bottleneck):
    """y + s · up(act(down(x))), with x the input of another module (He et al., 2022, arXiv 2110.04366).

    Args:
        reads: the modules whose input is x, as `targets` is written; as many as there are targets, and in
            the same order.
        scale: s.
    """

    kind: ClassVar[str] = "parallel"
    reads: str | list[str] = ""
    scale: float = 4.0
    source: Capture | None = field(default=None, repr=False)
    inputs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reads:
            raise ValueError("reads: empty; name the modules whose input the bottleneck reads")

    def tensors(self, base: nn.Module) -> Tensors:
        return self._new(self.inputs, sizes(base)[1])

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor:
        assert self.source is not None
        return self.scale * self._through(own, self.source.take())
