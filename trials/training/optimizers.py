"""The optimizers of `search_spaces.parameters.training`, each from its library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def build_optimizer(name: str, groups: Sequence[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """The optimizer called `name` on parameter groups, with the peak learning rate `rate`.

    Weight decay is decoupled in all of them: each step takes off the rate times the decay times the weight.

    * AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), torch's.
    * Lion (Chen et al., 2023, arXiv 2302.06675), lion-pytorch's: one moment instead of two.
    * Adafactor (Shazeer and Stern, 2018, arXiv 1804.04235), transformers': the second moment of a matrix by
      its rows and columns. Its own schedule and the scaling by the parameter's size are off: they would
      hold a LoRA factor that starts at zero where it is. torch's Adafactor always scales.

    Raises:
        ValueError: there is no such optimizer.
        ImportError: its library is not installed; a space that asks for it is refused when it is read.
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
            raise ValueError(f"optimizer: {name!r} is not known here; use adamw, lion or adafactor")
