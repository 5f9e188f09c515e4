"""Several processes that train one trial: each runs a part of every batch, and their gradients add up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from trials.reading.encoding import Encoded

T = TypeVar("T")


class Group:
    """The processes of a trial, in each of which the adapter has the same values after every step.

    The base model is whole in each of them, and only gradients of trained parameters are exchanged. The process group
    of torch must exist.
    """

    def __init__(self) -> None:
        self.rank, self.size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def share(self, examples: Sequence[Encoded]) -> Sequence[Encoded]:
        """Return this process's part of a batch, which may be empty; neighbors, of similar length, are divided."""
        return examples[self.rank :: self.size]

    def add_up(self, parameters: Sequence[Tensor], loss: float) -> float:
        """Replace the gradients by their sums over all processes, and return the sum of the losses."""
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in parameters
        ]
        device = gradients[0].device
        whole = torch.cat(
            [*(gradient.float().ravel() for gradient in gradients), torch.tensor([loss]).to(device)]
        )
        torch.distributed.all_reduce(whole)
        sizes = [gradient.numel() for gradient in gradients]
        *parts, total = whole.split([*sizes, 1])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        return float(total)

    def from_first(self, compute: Callable[[], T]) -> T:
        """Return what the first process computes, so that all of them decide alike."""
        found: list[Any] = [compute() if self.rank == 0 else None]
        torch.distributed.broadcast_object_list(found)
        result: T = found[0]
        return result
