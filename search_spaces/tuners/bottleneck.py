"""Bottlenecks: a down-projection to a small width, an activation, and an up-projection.

The up-projection is zero at the start, so that a new adapter does not change the output.
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
            raise ValueError(
                f"activation: {self.activation!r} is not in transformers.activations.ACT2FN; use relu, gelu or silu"
            )

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
    """A serial bottleneck, y + up(act(down(y))) on the output y (Houlsby et al., 2019; Pfeiffer et al., 2021).

    Args:
        size: inner dimension b of the bottleneck; it has 2db + b + d parameters on d outputs.
        activation: name of an activation in transformers.activations.ACT2FN.
    """

    kind: ClassVar[str] = "serial"

    def tensors(self, base: nn.Module) -> Tensors:
        outputs = sizes(base)[1]
        return self._new(outputs, outputs)

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor:
        return self._through(own, y)


@dataclass
class Capture(Part):
    """Stores the input of its module until the bottleneck that reads it takes it."""

    kind: ClassVar[str] = "capture"
    value: torch.Tensor | None = None

    def tensors(self, base: nn.Module) -> Tensors:
        return {}

    def read(self, own: Tensors, x: torch.Tensor) -> torch.Tensor:
        self.value = x
        return x

    def take(self) -> torch.Tensor:
        """Return the stored input and forget it.

        Raises:
            RuntimeError: The module has not run since the last call.
        """
        if self.value is None:
            raise RuntimeError("a parallel bottleneck ran before the module whose input it reads")
        value, self.value = self.value, None
        return value


@kind
@dataclass
class Parallel(_Bottleneck):
    """A parallel bottleneck, y + s · up(act(down(x))), on another module's input x (He et al., 2022).

    Args:
        reads: the modules whose input is x, in the notation of `targets`; as many as targets and in the same order.
        scale: the factor s.
        source: the capture of the module whose input is x; set by the model.
        inputs: number of features of x; set by the model.
    """

    kind: ClassVar[str] = "parallel"
    reads: str | list[str] = ""
    scale: float = 4.0
    source: Capture | None = field(default=None, repr=False)
    inputs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reads:
            raise ValueError("reads: it is empty; name the modules whose input the bottleneck reads")

    def tensors(self, base: nn.Module) -> Tensors:
        return self._new(self.inputs, sizes(base)[1])

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor:
        assert self.source is not None
        return self.scale * self._through(own, self.source.take())
