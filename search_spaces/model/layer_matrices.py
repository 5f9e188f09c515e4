"""The matrices of a layer that an adapter can be put on, by their names and sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search_spaces.model.call_order import Calls
from search_spaces.model.frozen_parts import STATE_SPACE, active_count, expert_count
from search_spaces.model.matrices_by_use import matrices_by_use
from search_spaces.model.module_names import expert_role, is_expert, is_in_shared_expert, role_of
from search_spaces.model.parts import Matrix

if TYPE_CHECKING:
    from torch import nn


def adaptable_matrices(
    layer: nn.Module,
    stack: int,
    config: Any,
    mixers: Mapping[str, nn.Module],
    tied: set[int],
    calls: Calls,
) -> list[Matrix]:
    """Return the matrices of a layer that an adapter can be put on: one of each role, apart for cross-attention."""
    found: dict[tuple[str, bool], Matrix] = {}
    for name, module in layer.named_modules():
        if len(own_parameters(module).get("weight", ())) != 2 or is_lookup(module):
            continue
        if is_shared(name) or is_tied(module, tied):
            continue
        matrix = _matrix(name, module, stack)
        if is_state_space(mixer_of(name, mixers)) and config.model_type not in STATE_SPACE:
            matrix = _mixer_matrix(name, module)
        if matrix is not None and _is_plausible(matrix, int(config.hidden_size)):
            found.setdefault((matrix.role, matrix.cross), matrix)
    width, names = int(config.hidden_size), [matrix.name for matrix in found.values()]
    for matrix in matrices_by_use(layer, calls, width, names, stack):
        if not is_tied(layer.get_submodule(matrix.name), tied) and mixer_of(matrix.name, mixers) is None:
            found.setdefault((matrix.role, False), matrix)
    matrices = list(found.values())
    if config.model_type in STATE_SPACE:
        matrices = [matrix for matrix in matrices if matrix.role != "down"]
    if _renames_experts(config.model_type):
        matrices = [replace(m, is_renamed=m.name.endswith(_RENAMED)) for m in matrices]
    return matrices


_RENAMED = (".gate_proj", ".up_proj", ".down_proj", ".w1", ".w2", ".w3")
"""The ends of names that peft's LoRA takes for those of routed experts."""


def expert_matrices(layer: nn.Module, stack: int, config: Any) -> list[Matrix]:
    """Return the matrices of a layer's routed experts that are stacked in one parameter of shape [experts, …, …]."""
    experts, active = expert_count(config), active_count(config)
    found = []
    for name, module in layer.named_modules():
        for parameter, sizes in own_parameters(module).items():
            path = f"{name}.{parameter}"
            role = expert_role(path)
            if is_expert(name) and role and active and len(sizes) == 3 and sizes[0] == experts:
                outputs, inputs = sizes[1:]
                if getattr(module, "is_transposed", False):
                    inputs, outputs = outputs, inputs
                found.append(
                    Matrix(role, path, inputs, outputs, False, stack=stack, experts=experts, active=active)
                )
    return found


def _mixer_matrix(name: str, module: Any) -> Matrix | None:
    """Return the matrix that reads the input of a state-space mixer."""
    if not name.endswith("in_proj"):
        return None
    bias = "bias" in own_parameters(module)
    return Matrix("mixer", name, module.in_features, module.out_features, bias)


def _matrix(name: str, module: nn.Module, stack: int) -> Matrix | None:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    role, cross = role_of(name)
    conv1d = isinstance(module, Conv1D)
    if role is None or not (conv1d or isinstance(module, nn.Linear)):
        return None
    rows, columns = own_parameters(module)["weight"]
    inputs, outputs = (rows, columns) if conv1d else (columns, rows)
    bias = "bias" in own_parameters(module)
    shared = is_in_shared_expert(name)
    return Matrix(
        role, name, inputs, outputs, bias, conv1d=conv1d, stack=stack, cross=cross, is_shared=shared
    )


def _is_plausible(matrix: Matrix, width: int) -> bool:
    """Return whether a matrix has the sizes of its role: it reads the hidden states, or writes to them."""
    if matrix.role in ("o", "down"):
        return matrix.outputs == width
    return matrix.inputs == width or matrix.name.endswith("_b_proj")


def _renames_experts(model_type: str) -> bool:
    """Return whether peft takes the names of feed-forward matrices of a model for those of its experts."""
    from transformers.conversion_mapping import _MODEL_TO_CONVERSION_PATTERN as PATTERNS

    return model_type == "mixtral" or PATTERNS.get(model_type) in ("mixtral", "qwen2_moe")


def mixers_of(layer: nn.Module) -> dict[str, nn.Module]:
    """Return the modules with a recurrence or a convolution over the tokens, by name below the layer."""
    return {
        name: module
        for name, module in layer.named_modules()
        if "A_log" in own_parameters(module) or _is_gated_convolution(module)
    }


def _is_gated_convolution(module: nn.Module) -> bool:
    """Return whether a module is a depthwise convolution between two matrices, as in LFM2."""
    from torch import nn

    children = dict(module.named_children())
    convolved = any(isinstance(child, nn.Conv1d) and child.groups > 1 for child in children.values())
    return convolved and {"in_proj", "out_proj"} <= children.keys()


def mixer_of(name: str, mixers: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the mixer that a module is or is in."""
    return next((m for path, m in mixers.items() if name == path or name.startswith(f"{path}.")), None)


def is_state_space(mixer: nn.Module | None) -> bool:
    """Return whether a mixer is that of Mamba, or a convolution without a recurrence (LFM2).

    Fused kernels of Mamba read the weights of all matrices but the first, past any adapter.
    """
    return mixer is not None and ("D" in own_parameters(mixer) or "A_log" not in own_parameters(mixer))


def has_attention(matrices: Iterable[Matrix], mixers: Mapping[str, nn.Module]) -> bool:
    """Return whether a layer has attention beside its mixers."""
    readers = ("q", "k", "v", "qkv", "kv")
    return any(m.role in readers and mixer_of(m.name, mixers) is None for m in matrices)


def tied_parameters(layers: list[nn.Module]) -> set[int]:
    """Return the ids of the parameters that several layers share."""
    owners: dict[int, int] = {}
    for layer in layers:
        for parameter in layer.parameters():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {key for key, count in owners.items() if count > 1}


def is_shared(name: str) -> bool:
    """Return whether a module is in a block that several layers share and that runs before the rest (Zamba)."""
    return bool(_SHARED.search(name))


_SHARED = re.compile(r"(^|\.)shared_transf")


def is_tied(module: nn.Module, tied: set[int]) -> bool:
    return any(id(parameter) in tied for parameter in module.parameters(recurse=False))


def is_lookup(module: nn.Module) -> bool:
    from torch import nn

    return isinstance(module, nn.Embedding)


def own_parameters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a module's own parameters, by name."""
    return {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
