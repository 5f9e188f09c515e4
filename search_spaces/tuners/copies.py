"""Parts that train the parameters of a module: all of them, or only the bias."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from .part import Part, Tensors, kind


@kind
@dataclass
class Copy(Part):
    """A trained copy of every parameter of a module: full fine-tuning of that module.

    Among the paths that `targets` matches, only modules with their own parameters count, and a module's copy includes
    everything below it. Parameters that modules share, such as tied embeddings, are copied once and remain shared.
    """

    kind: ClassVar[str] = "copy"
    order: ClassVar[int] = 0
    mergeable: ClassVar[bool] = True
    replaces: ClassVar[bool] = True

    def tensors(self, base: nn.Module) -> Tensors:
        return {_flat(name): p.detach().float().clone() for name, p in base.named_parameters()}

    def shared(self, base: nn.Module) -> dict[str, Hashable]:
        return {_flat(name): ("copy", id(p)) for name, p in base.named_parameters()}

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        return {name: own[_flat(name)].to(weight.dtype) for name, weight in weights.items()}


@kind
@dataclass
class Bias(Part):
    """A trained change of a module's bias, zero at the start (BitFit, Ben Zaken et al., 2022)."""

    kind: ClassVar[str] = "bias"
    order: ClassVar[int] = 1
    mergeable: ClassVar[bool] = True
    replaces: ClassVar[bool] = True

    def tensors(self, base: nn.Module) -> Tensors:
        bias = getattr(base, "bias", None)
        if bias is None:
            raise ValueError("targets: the module has no bias; remove it from the targets")
        return {"change": torch.zeros(bias.shape)}

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        bias = weights["bias"]
        return {**weights, "bias": bias + own["change"].to(bias.dtype)}


def _flat(name: str) -> str:
    """Return a parameter's path without dots, which separate attributes in a state dict."""
    return name.replace(".", "__")
