"""The interface of a part of a composite adapter: its tensors on one module and its computation.

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
"""Tensors by name."""


@dataclass
class Part(ABC):
    """One part on one module.

    The tensors belong to the module's `CompositeLayer`, which passes them to the methods as `own`.

    Args:
        targets: a regular expression that matches whole module paths, or a list of paths.
    """

    kind: ClassVar[str]
    """The name of the kind of part in a configuration."""
    order: ClassVar[int] = 0
    """The order of parts that change the same output or weight; smaller numbers first."""
    mergeable: ClassVar[bool] = False
    """Whether the part can be merged into the module's weights."""
    replaces: ClassVar[bool] = False
    """Whether the module runs with the weights that `merge` returns."""

    targets: str | list[str]

    def matches(self, path: str) -> bool:
        """Return whether a module path is among the targets."""
        return matches(self.targets, path)

    @abstractmethod
    def tensors(self, base: nn.Module) -> Tensors:
        """Return new trainable tensors for a module with their initial values, in fp32, on any device.

        Raises:
            ValueError: The part does not support the module.
        """

    def shared(self, base: nn.Module) -> dict[str, Hashable]:
        """Return a key for each tensor, by name, that modules share; equal keys share one tensor."""
        return {}

    def read(self, own: Tensors, x: torch.Tensor) -> torch.Tensor:
        """Return the changed input of the module."""
        return x

    def rewrite(self, own: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the changed output of the module, given its input x and output y."""
        return y

    def add(self, own: Tensors, y: torch.Tensor) -> torch.Tensor | None:
        """Return a term to add to the output y, or None."""
        return None

    def merge(self, own: Tensors, weights: Tensors, conv1d: bool) -> Tensors:
        """Return new module parameters, by name, with the part merged into `weights`."""
        raise NotImplementedError(f"a part of kind {self.kind} cannot be merged")


KINDS: dict[str, type[Part]] = {}
"""All kinds of parts by name."""

P = TypeVar("P", bound=type[Part])


def kind(part: P) -> P:
    """Register a kind of part in `KINDS`; a class decorator."""
    KINDS[part.kind] = part
    return part


def build_part(settings: Mapping[str, Any]) -> Part:
    """Build a part from its entry in a configuration.

    Raises:
        ValueError: The kind is unknown or a setting has an invalid value.
        TypeError: A setting is missing or unknown.
    """
    name = settings.get("kind")
    if name not in KINDS:
        raise ValueError(f"kind: unknown kind {name!r}; use one of {', '.join(sorted(KINDS))}")
    return KINDS[name](**{key: value for key, value in settings.items() if key != "kind"})


def matches(targets: str | list[str], path: str) -> bool:
    """Return whether a module path is among the targets, a regular expression or a list of paths."""
    return bool(re.fullmatch(targets, path)) if isinstance(targets, str) else path in targets


def sizes(base: nn.Module) -> tuple[int, int]:
    """Return the inputs and outputs of a matrix, stored transposed or not.

    Raises:
        ValueError: The module is not a matrix.
    """
    if isinstance(base, nn.Linear):  # a quantized weight is packed, and its shape is not that of the matrix
        return base.in_features, base.out_features
    weight = getattr(base, "weight", None)
    if weight is None or weight.ndim != 2:
        raise ValueError(f"targets: a {type(base).__name__} is not a matrix; name linear layers")
    rows, columns = weight.shape
    return (rows, columns) if isinstance(base, Conv1D) else (columns, rows)


def output_size(base: nn.Module) -> int:
    """Return the outputs of a matrix, or the size of a normalization."""
    weight = getattr(base, "weight", None)
    if weight is not None and weight.ndim == 1:
        return int(weight.shape[0])
    return sizes(base)[1]


def check_positive(part: Part, *names: str) -> None:
    """Raise ValueError if a setting is not a positive whole number."""
    for name in names:
        value = getattr(part, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: {value!r} is not a positive whole number; give 1 or more")
