"""Construction of the optimizers of `search_spaces.parameters.training`, each from its library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def build_optimizer(name: str, groups: Sequence[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Build an optimizer.

    Weight decay is decoupled in all of them: each step subtracts the rate times the decay times the weight.

    * AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), torch's.
    * Lion (Chen et al., 2023, arXiv 2302.06675), lion-pytorch's: one moment instead of two.
    * Adafactor (Shazeer and Stern, 2018, arXiv 1804.04235), transformers': the second moment of a matrix by
      its rows and columns. Its own schedule and the scaling by the parameter's size are off, because they would
      keep a LoRA factor that starts at zero at zero. torch's Adafactor always scales.

    Args:
        name: The name of the optimizer: adamw, lion or adafactor.
        groups: The parameter groups.
        rate: The peak learning rate.

    Raises:
        ValueError: There is no such optimizer.
        ImportError: Its library is not installed; a space with this optimizer is rejected when it is loaded.
    """
    match name:
        case "adamw":
            fused = all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])
            return torch.optim.AdamW(groups, lr=rate, fused=fused)
        case "lion":
            from lion_pytorch import Lion

            return Lion(groups, lr=rate)
        case "adafactor":
            from transformers.optimization import Adafactor

            return Adafactor(groups, lr=rate, scale_parameter=False, relative_step=False)
        case _:
            raise ValueError(f"optimizer: {name!r} is unknown; use adamw, lion or adafactor")
