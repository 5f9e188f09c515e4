"""Parts that rescale or shift activations: (IA)³ and SSF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .part import Part, Tensors, kind, output_size, sizes


@kind
@dataclass
class Rescale(Part):
    """A trained scale of a matrix's output or input, one at the start ((IA)³, Liu et al., 2022).

    Args:
        side: whether the "output" or the "input" is rescaled.
    """

    kind: ClassVar[str] = "rescale"
    order: ClassVar[int] = 3
    mergeable: ClassVar[bool] = True

    side: str = "output"

    def __post_init__(self) -> None:
        if self.side not in ("input", "output"):
            raise ValueError(f"side: {self.side!r} is neither input nor output; use one of them")

    def tensors(self, base: nn.Module) -> Tensors:
        return {"scale": torch.ones(sizes(base)[self.side == "output"])}

    def read(self, own: Tensors, x: torch.Tensor) -> torch.Tensor:
        return x * own["scale"].to(x.dtype) if self.side == "input" else x

    def rewrite(self, own: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y * own["scale"].to(y.dtype) if self.side == "output" else y

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        if self.side == "output":
            return scaled(weights, own["scale"], conv1d)
        scale = own["scale"][:, None] if conv1d else own["scale"]
        return {**weights, "weight": weights["weight"] * scale.to(weights["weight"].dtype)}


@kind
@dataclass
class ScaleShift(Part):
    """A scale and a shift, γ · y + β, of a matrix's or normalization's output (SSF, Lian et al., 2022).

    γ is one and β zero at the start. Merging adds a bias to a matrix that has none.
    """

    kind: ClassVar[str] = "scale_shift"
    order: ClassVar[int] = 4
    mergeable: ClassVar[bool] = True

    def tensors(self, base: nn.Module) -> Tensors:
        if base.weight.ndim == 1 and getattr(base, "bias", None) is None:
            raise ValueError(
                "targets: a normalization without a bias cannot take the shift when it is merged"
            )
        size = output_size(base)
        return {"scale": torch.ones(size), "shift": torch.zeros(size)}

    def rewrite(self, own: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y * own["scale"].to(y.dtype) + own["shift"].to(y.dtype)

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        weights = scaled(weights, own["scale"], conv1d)
        shift = own["shift"].to(weights["weight"].dtype)
        return {**weights, "bias": weights["bias"] + shift if "bias" in weights else shift}


def scaled(weights: Tensors, scale: torch.Tensor, conv1d: bool) -> Tensors:
    """Return the weight and bias of a matrix or normalization with each output multiplied by its scale."""
    changed = dict(weights)
    for name, tensor in weights.items():
        across = scale if conv1d or tensor.ndim == 1 else scale[:, None]
        changed[name] = tensor * across.to(tensor.dtype)
    return changed
