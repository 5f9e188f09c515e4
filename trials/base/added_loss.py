"""What adapters add to the loss of a batch that the model does not compute itself: the same in exported runs.

This file needs only torch.
"""

from __future__ import annotations

from typing import Any

import torch


def added_loss(model: Any) -> torch.Tensor | float:
    """Return what the adapter of a peft model adds to the loss after a forward pass, 0 if it adds nothing.

    An adapter of the project states it itself, such as a balance of experts. peft adds AdaLoRA's penalty only to a
    loss that the model computes: the mean distance of P Pᵀ and Qᵀ Q from the identity times its weight (Zhang et al.,
    2023, arXiv 2303.10512, equation 4).
    """
    take = getattr(model.base_model, "take_loss", None)
    found: torch.Tensor | None = take() if take is not None else None
    if found is not None:
        return found
    config = getattr(model, "active_peft_config", None)  # not of a model before its adapter
    if config is None or config.peft_type != "ADALORA" or not config.orth_reg_weight:
        return 0.0
    distances = []
    for name, parameter in model.named_parameters():
        if parameter.numel() and parameter.requires_grad and (".lora_A." in name or ".lora_B." in name):
            product = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
            distances.append(torch.linalg.norm(product - torch.eye(len(product)).to(product)))
    return float(config.orth_reg_weight) * torch.stack(distances).mean()
