"""One memory for the tensors that a truncated base model has in common with the whole one."""

from __future__ import annotations

from torch import nn

from trials.base.frozen_linear import FrozenLinear
from trials.base.model import Base
from trials.tasks.specs import ModelSpec


def can_share(first: ModelSpec, second: ModelSpec) -> bool:
    """Return whether two base models are the same one, each with a share of its layers that may be all.

    Quantized matrices and those on several devices are left alone: their modules hold more than their tensors.
    """
    is_same = (first.name, first.revision) == (second.name, second.revision)
    return is_same and not first.quantized and first.device_map is None


def share_tensors(base: Base, loaded: Base) -> None:
    """Replace the parameters of a base model by those of a loaded one with the same names, which are equal.

    Both are frozen, and each trial copies the head's tensors, so neither changes the other. The head's own initial
    values may differ, and every trial draws them again.

    Args:
        base: The base model, whose memory is freed where it is shared.
        loaded: The same model with another share of its layers, in the same format on the same device.
    """
    others: dict[str, nn.Module] = dict(loaded.model.named_modules())
    module: nn.Module
    for path, module in base.model.named_modules():
        if type(others.get(path)) is type(module):
            _share(module, others[path])


def _share(module: nn.Module, other: nn.Module) -> None:
    theirs = dict(other.named_parameters(recurse=False))
    for name, own in list(module.named_parameters(recurse=False)):
        found = theirs.get(name)
        if found is not None and (found.shape, found.dtype, found.device) == (
            own.shape,
            own.dtype,
            own.device,
        ):
            setattr(module, name, found)
    if isinstance(module, FrozenLinear) and isinstance(other, FrozenLinear):
        module.own_form = other.own_form
