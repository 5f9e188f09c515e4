"""The order in which a network calls its modules, from a pass on torch's meta device, where nothing is computed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def call_order(network: nn.Module) -> dict[str, int]:
    """Return the position of each module's first call, by module path; modules that are not called are absent.

    A network that reads the value of a tensor cannot run to its end on the meta device; then the calls up to there
    are returned.

    Args:
        network: a network on the meta device that takes token ids.
    """
    import torch

    found: dict[str, int] = {}
    handles = []
    for name, module in network.named_modules():

        def record(module: nn.Module, inputs: Any, name: str = name) -> None:
            found.setdefault(name, len(found))

        handles.append(module.register_forward_pre_hook(record))
    texts = torch.ones((2, 3), dtype=torch.long, device="meta")
    # Some networks read the values of the mask, and others look for padding where there is none. Where a pass ends
    # early, its error says nothing about the model.
    for mask in ({}, {"attention_mask": texts}):
        with contextlib.suppress(Exception), torch.no_grad():
            network(input_ids=texts, **mask)
    for handle in handles:
        handle.remove()
    return found
