"""Spaces of adapter families without the initial values that only autotune's own trials compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import Family
from search_spaces.language.conditions import drop_impossible
from search_spaces.parameters.types import Categorical, Parameter, Value
from search_spaces.space import SearchSpace

_REASON = "computed from the training data or the weights, which peft's configuration does not do"


def without_preparations(space: SearchSpace) -> tuple[SearchSpace, tuple[str, ...]]:
    """Return a space without what `autotune.peft_config` cannot set: initial values and tokens from training data.

    Families whose every configuration needs them are left out, and choices that need them are dropped.

    Args:
        space: of adapter families, or of anything else, which is returned as it is.

    Returns:
        the space, and a note on each family and parameter that it lacks.

    Raises:
        InvalidInputError: no family is left.

    Example:
        >>> space, notes = without_preparations(load_space("lora").space)
        >>> space["lora.init"].choices
        ('kaiming', 'orthogonal', 'pissa', 'olora')
    """
    families = _families(space)
    if not families:
        return space, ()
    dropped = {p.name: values for p in space.parameters if (values := _prepared(p))}
    left_out = {name for name in families if _always(REGISTRY[name], space, dropped)}
    notes = [f"{name}: its tokens or initial values are {_REASON}" for name in families if name in left_out]
    notes += [
        f"{name}: {', '.join(map(str, values))} {'are' if len(values) > 1 else 'is'} {_REASON}"
        for name, values in dropped.items()
        if name.partition(".")[0] not in left_out
    ]
    if len(left_out) == len(families):
        fix = "Add another family or value, such as lora with lora.init: kaiming; a sweep (autotune run) has all."
        raise InvalidInputError(Problem("space", f"nothing is left ({'; '.join(notes)})", fix))
    if not notes:
        return space, ()
    excluded = {**dropped, "family": tuple(left_out)}
    kept = [_without(p, excluded.get(p.name, ())) for p in space.parameters if _owner(p) not in left_out]
    masks = tuple(mask for mask in space.masks if mask.partition(".")[0] not in left_out)
    return SearchSpace(tuple(drop_impossible(kept, {})), masks), tuple(notes)


def _families(space: SearchSpace) -> tuple[str, ...]:
    """Return the adapter families of a space; none if it has no choice of them."""
    family = next((p for p in space.parameters if p.name == "family"), None)
    names = tuple(map(str, family.choices)) if isinstance(family, Categorical) else ()
    return names if all(name in REGISTRY for name in names) else ()


def _owner(parameter: Parameter) -> str:
    """Return the family of a parameter, or the name of one that the families share."""
    return parameter.name.partition(".")[0]


def _prepared(parameter: Parameter) -> tuple[Value, ...]:
    """Return the choices of a parameter that need a preparation."""
    family, _, name = parameter.name.partition(".")
    if family not in REGISTRY or not isinstance(parameter, Categorical) or REGISTRY[family].preparation({}):
        return ()
    return tuple(choice for choice in parameter.choices if REGISTRY[family].preparation({name: choice}))


def _always(family: Family, space: SearchSpace, dropped: Mapping[str, Sequence[Value]]) -> bool:
    """Return whether every configuration of a family in a space needs a preparation."""
    if family.preparation({}) is not None:
        return True
    return any(
        isinstance(parameter, Categorical) and len(dropped.get(parameter.name, ())) == len(parameter.choices)
        for parameter in space.parameters
        if _owner(parameter) == family.name
    )


def _without(parameter: Parameter, excluded: Sequence[Value]) -> Parameter:
    """Return a parameter without some of its choices."""
    if not excluded or not isinstance(parameter, Categorical):
        return parameter
    choices = tuple(choice for choice in parameter.choices if choice not in excluded)
    default = parameter.default if parameter.default in choices else choices[0]
    return replace(parameter, choices=choices, default=default)
