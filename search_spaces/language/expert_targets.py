"""Targets that name experts: which families can adapt them, and with which values of their other parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from search_spaces.errors import Problem
from search_spaces.families import REGISTRY
from search_spaces.families.framework.matrix_family import MatrixFamily
from search_spaces.families.framework.stacked_weights import WITHOUT_MODULE
from search_spaces.model.parts import SELECTABLE, Matrix
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Categorical, Parameter, Value


def selected_by_family(parameter: str, targets: str, shape: ModelShape) -> tuple[Matrix, ...]:
    """Return the matrices that targets select for the family of a parameter.

    Args:
        parameter: full name of the parameter, such as `lora.targets`.
        targets: one of its values.
        shape: shape of the model.

    Raises:
        ValueError: None is selected, or the family cannot adapt what is.
    """
    name = parameter.partition(".")[0]
    family = REGISTRY.get(name)
    if isinstance(family, MatrixFamily):
        return family.selected(shape, targets)
    found = shape.select(targets)
    if any(matrix.experts for matrix in found):
        raise ValueError(f"targets: {targets!r} names routed experts, which {name} cannot adapt")
    return found


def roles_of_family(parameter: str, shape: ModelShape) -> tuple[str, ...]:
    """Return the roles, and those within fused matrices, that the family of a parameter can adapt in a model."""
    found = []
    for role in SELECTABLE:
        with suppress(ValueError):
            selected_by_family(parameter, role, shape)
            found.append(role)
    return tuple(found)


def expert_problems(parameters: Iterable[Parameter], shape: ModelShape) -> list[Problem]:
    """Return what is wrong where targets name weights that are no modules, beside values that need a module."""
    by_name = {parameter.name: parameter for parameter in parameters}
    problems = []
    for name, parameter in by_name.items():
        family, _, local_name = name.rpartition(".")
        if local_name != "targets" or not isinstance(parameter, Categorical):
            continue
        if not isinstance(REGISTRY.get(family), MatrixFamily):
            continue
        apart = [choice for choice in parameter.choices if _is_without_module(name, str(choice), shape)]
        for other, allowed in WITHOUT_MODULE.items() if apart else ():
            there = by_name.get(f"{family}.{other}")
            if there is None or _values(there) <= {*allowed} or _is_elsewhere(there, name, apart):
                continue
            what = f"is not possible with the targets {apart[0]}, to which peft adds LoRA as a parameter"
            fix = f"Write {str(allowed[0]).lower()}, or leave {apart[0]} out of {name}."
            problems.append(Problem(f"parameters.{there.name}", what, fix))
    return problems


def _is_without_module(parameter: str, targets: str, shape: ModelShape) -> bool:
    return any(matrix.by_parameter for matrix in selected_by_family(parameter, targets, shape))


def _values(parameter: Parameter) -> set[Value]:
    """Return the choices of a parameter, or the bounds of its range."""
    if isinstance(parameter, Categorical):
        return set(parameter.choices)
    return {getattr(parameter, "low", None), getattr(parameter, "high", None)}  # type: ignore[arg-type]


def _is_elsewhere(parameter: Parameter, targets: str, apart: Iterable[Value]) -> bool:
    """Return whether a parameter is inactive with those targets."""
    when: Mapping[str, tuple[Value, ...]] = parameter.when or {}
    return targets in when and not set(when[targets]) & set(apart)
