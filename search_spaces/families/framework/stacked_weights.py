"""LoRA on weights that peft reaches as parameters: stacked matrices of routed experts, and shared experts.

peft adds the update to the weight in each forward pass, W + m · B A, in place of a second product with the input. All
experts are updated in every step, and each token multiplies the updated weights of those that it passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search_spaces.families.framework.matrix_family import MatrixCost
from search_spaces.model.parts import SHARED_EXPERTS, Matrix
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Value

WITHOUT_MODULE: Mapping[str, tuple[Value, ...]] = {"dora": (False,), "dropout": (0.0,), "init": ("kaiming",)}
"""The values, by local parameter name, with which peft's LoRA adapts a parameter that is no module."""


def update_cost(matrix: Matrix, rank: int, trained_a: bool) -> MatrixCost:
    """Return the cost of an update of the weights of all experts.

    There are E r(i+o) parameters for E experts. The update costs E·2rio FLOPs, twice in each forward pass of stacked
    weights, because torch computes a parametrization once when it is registered, and as many for the gradient of each
    factor. The gradient of the updated weight costs 2io per token and active expert.
    """
    experts = max(matrix.experts, 1)
    product = 2.0 * experts * rank * matrix.inputs * matrix.outputs
    forward = product * (2 if matrix.experts else 1)
    return MatrixCost(
        parameters=experts * rank * (trained_a * matrix.inputs + matrix.outputs),
        backward=2.0 * matrix.active * matrix.inputs * matrix.outputs,
        step=forward + product * (1 + trained_a),
        forward_step=forward,
    )


def saved_numbers(matrix: Matrix) -> tuple[float, float]:
    """Return the numbers kept for the backward pass: the inputs of a token's experts, and all updated weights."""
    copies = matrix.active if matrix.experts else 0
    return float(copies * matrix.inputs), float(max(matrix.experts, 1) * matrix.inputs * matrix.outputs)


def without_renamed(shape: ModelShape, found: tuple[Matrix, ...], targets: str) -> tuple[Matrix, ...]:
    """Return the matrices without those whose names peft takes for routed experts, unless targets name them apart.

    Raises:
        ValueError: None is left.
    """
    asked = SHARED_EXPERTS in targets
    kept = tuple(matrix for matrix in found if not matrix.is_renamed or (asked and matrix.is_shared))
    if not kept:
        raise ValueError(
            f"targets: {targets!r} selects matrices of {shape.model_type} whose names peft's LoRA takes for those of "
            f"its routed experts; write {SHARED_EXPERTS} for those of shared experts"
        )
    return kept


def target_arguments(
    arguments: Mapping[str, Any], shape: ModelShape, layers: Sequence[int], matrices: Sequence[Matrix]
) -> dict[str, Any]:
    """Return the arguments of peft's LoRA with `target_parameters` for those matrices that are no modules for it."""
    apart = [matrix for matrix in matrices if matrix.by_parameter]
    if not apart:
        return dict(arguments)
    modules = [matrix for matrix in matrices if not matrix.by_parameter]
    names = shape.targets(layers, modules) if modules else []
    return {**arguments, "target_modules": names, "target_parameters": shape.parameters(layers, apart)}
