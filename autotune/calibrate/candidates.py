"""What a sweep leaves open about how its base model computes, and the candidates for it, the simplest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autotune.sweep.schema import Sweep
from trials.tasks.specs import AUTO, ModelSpec, Precision

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Candidate:
    """A way in which the base model can compute.

    Args:
        precision: as in `ModelSpec`, but never `auto`.
        attention: `attn_implementation` of `ModelSpec`; `auto` is the default of the architecture.
    """

    precision: Precision
    attention: str = AUTO

    def __str__(self) -> str:
        return self.precision

    def of(self, model: ModelSpec) -> ModelSpec:
        """Return a base model that computes in this way."""
        return model.model_copy(update={"precision": self.precision, "attn_implementation": self.attention})


def is_open(model: ModelSpec) -> bool:
    """Return whether the precision of a base model is still to be chosen."""
    return model.precision == AUTO


def candidates(sweep: Sweep) -> list[Candidate]:
    """Return the candidates that this machine can compute and the sweep allows, the simplest first.

    Quantized weights, and weights in bf16, fix the precision. The base models of a ladder all compute in the same
    way, and a smaller one may have no linear layers, so int8 is no candidate beside them.
    """
    from trials.base.model import choose_device

    model = sweep.model
    if model.precision != AUTO or model.weights != "fp32":
        return [by_rule(model)]
    device = choose_device(model.device)
    has_bases = bool(sweep.model.choices) or (sweep.ladder is not None and bool(sweep.ladder.bases))
    found: list[Precision] = ["fp32"]
    found += ["bf16"] if _multiplies_bf16(device) else []
    found += ["int8"] if _multiplies_int8(device) and not has_bases else []
    if model.attn_implementation.startswith("flash_attention") and "bf16" in found:
        found = ["bf16"]  # it computes in half precision only
    return [Candidate(precision, model.attn_implementation) for precision in found]


def other_attention(candidate: Candidate, model: ModelSpec) -> Candidate | None:
    """Return the same with attention in separate products; None if the sweep or the device leaves no choice.

    Results are the same up to rounding. Only on CPUs, and for short texts, it can be faster.
    """
    from trials.base.model import choose_device

    if model.attn_implementation != AUTO or choose_device(model.device).type != "cpu":
        return None
    return replace(candidate, attention="eager")


def by_rule(model: ModelSpec) -> Candidate:
    """Return what the device's instruction sets suggest where nothing is measured."""
    import torch

    from trials.base.model import choose_device, choose_dtype

    attention = model.attn_implementation
    if model.precision != AUTO:
        return Candidate(model.precision, attention)
    if model.weights == "bf16":
        return Candidate("bf16", attention)
    is_half = choose_dtype(AUTO, choose_device(model.device)) == torch.bfloat16
    return Candidate("bf16" if is_half else "fp32", attention)


def _multiplies_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for products in bf16; without any, they are emulated and slow."""
    import torch

    from trials.base import processor

    if device.type == "cpu":
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor.instructions())
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _multiplies_int8(device: torch.device) -> bool:
    from search_spaces.errors import InvalidInputError
    from trials.base.int8_linear import check_int8

    try:
        check_int8(device)
    except InvalidInputError:
        return False
    return True
