"""What a part of a composite adapter is: its tensors on one module, and what it does there.

A module with several parts computes, for its input x:

    x ← read(x)                     parts that rescale the input
    y = module(x)                   with the weights that parts replace
    y ← rewrite(x, y)               parts that change the output, in their order
    y + Σ add(y)                    bottlenecks; each reads the same y
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

Tensors = dict[str, torch.Tensor]


@dataclass
class Part(ABC):
    """One part on one module. Tensors belong to the module's `CompositeLayer`, which hands them in.

    Args:
        targets: a regular expression for whole module paths, or a list of paths.
    """

    kind: ClassVar[str]
    order: ClassVar[int] = 0
    """Where several parts change one output or one weight: the smaller number goes first."""
    mergeable: ClassVar[bool] = False
    replaces: ClassVar[bool] = False
    """Whether the module itself runs on the weights that `merge` gives."""

    targets: str | list[str]

    def matches(self, path: str) -> bool:
        return matches(self.targets, path)

    @abstractmethod
    def tensors(self, base: nn.Module) -> Tensors:
        """New trainable tensors for a module, at their initial values, in fp32, on any device.

        Raises:
            ValueError: the module is not one that the part can stand on.
        """

    def shared(self, base: nn.Module) -> dict[str, Hashable]:
        """Tensors that modules have in common: by name, a key that is equal for all that share."""
        return {}

    def read(self, own: Tensors, x: torch.Tensor) -> torch.Tensor:
        return x

    def rewrite(self, own: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return y

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor | None:
        return None

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        """The module's parameters by name with the part folded in; new tensors, nothing is written into."""
        raise NotImplementedError(f"a part of kind {self.kind} cannot be merged")


KINDS: dict[str, type[Part]] = {}
"""Every kind of part by name."""

P = TypeVar("P", bound=type[Part])


def kind(part: P) -> P:
    """Class decorator that puts a kind of part into `KINDS`."""
    KINDS[part.kind] = part
    return part


def build_part(settings: Mapping[str, Any]) -> Part:
    """A part from its entry in a configuration; ValueError or TypeError where the entry is wrong."""
    name = settings.get("kind")
    if name not in KINDS:
        raise ValueError(f"kind: {name!r} is unknown; use one of {', '.join(sorted(KINDS))}")
    return KINDS[name](**{key: value for key, value in settings.items() if key != "kind"})


def matches(targets: str | list[str], path: str) -> bool:
    return bool(re.fullmatch(targets, path)) if isinstance(targets, str) else path in targets


def sizes(base: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a matrix, whichever way round it is stored.

    Raises:
        ValueError: the module is no matrix.
    """
    if isinstance(base, nn.Linear):  # a quantized weight is packed: its own shape says nothing
        return base.in_features, base.out_features
    weight = getattr(base, "weight", None)
    if weight is None or weight.ndim != 2:
        raise ValueError(f"targets: a {type(base).__name__} is no matrix; name linear layers")
    rows, columns = weight.shape
    return (rows, columns) if isinstance(base, Conv1D) else (columns, rows)


def output_size(base: nn.Module) -> int:
    """The outputs of a matrix, or the size of a normalization."""
    weight = getattr(base, "weight", None)
    if weight is not None and weight.ndim == 1:
        return int(weight.shape[0])
    return sizes(base)[1]


def check_positive(part: Part, *names: str) -> None:
    """ValueError where a setting is no positive whole number."""
    for name in names:
        value = getattr(part, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: {value!r} is no positive whole number")
