"""The order in which a network calls its modules, from a pass on torch's meta device, where nothing is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Calls:
    """The first calls of modules, by module path; modules that are not called are absent.

    Args:
        order: the position of the call among all calls.
        reads: a number of the tensor that the module reads; modules that read the same tensor have the same number.
    """

    order: Mapping[str, int] = field(default_factory=dict)
    reads: Mapping[str, int] = field(default_factory=dict)

    def inside(self, path: str) -> Calls:
        """Return the calls of the modules below a module, by path below it."""
        prefix = f"{path}."
        return Calls(
            {name.removeprefix(prefix): at for name, at in self.order.items() if name.startswith(prefix)},
            {name.removeprefix(prefix): at for name, at in self.reads.items() if name.startswith(prefix)},
        )


def record_calls(network: nn.Module) -> Calls:
    """Return the first calls of a network's modules.

    A network that reads the value of a tensor cannot run to its end on the meta device; then the calls up to there
    are returned.

    Args:
        network: a network on the meta device that takes token ids.
    """
    import torch

    order: dict[str, int] = {}
    reads: dict[str, int] = {}
    tensors: list[torch.Tensor] = []  # kept, so that no two of them have the same identity
    handles = []
    for name, module in network.named_modules():

        def record(module: nn.Module, inputs: Any, named: Any, name: str = name) -> None:
            order.setdefault(name, len(order))
            given = next((x for x in (*inputs, *named.values()) if isinstance(x, torch.Tensor)), None)
            if given is not None:
                tensors.append(given)
                reads.setdefault(name, id(given))

        handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
    texts = torch.ones((2, 3), dtype=torch.long, device="meta")
    # Some networks read the values of the mask, and others look for padding where there is none. Where a pass ends
    # early, its error says nothing about the model.
    for others in ({}, {"attention_mask": texts}, {"decoder_input_ids": texts}):
        with contextlib.suppress(Exception), torch.no_grad():
            network(input_ids=texts, **others)
    for handle in handles:
        handle.remove()
    return Calls(order, reads)
