"""Forms of an override beyond a range or a list, and the inverse: the entry that describes a parameter.

Each function takes the `Entry`, which collects the problems, and returns the changed parameter, or the unchanged one
if there is a problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from search_spaces.errors import did_you_mean
from search_spaces.language.amounts import amount_fields
from search_spaces.language.entry import ROLES, Entry, is_role_set
from search_spaces.model.parts import SIDES, TARGETS
from search_spaces.parameters.amounts import TrainSamples
from search_spaces.parameters.centered import KINDS, Centered, Kind, to_entry
from search_spaces.parameters.structured import RankProfile, Sides, TargetSubset
from search_spaces.parameters.types import (
    Categorical,
    Float,
    Int,
    LayerMask,
    LayerRange,
    Parameter,
    Structured,
    TopLayers,
)


def layers(entry: Entry, parameter: TopLayers, raw: Mapping[str, object]) -> Parameter:
    """Override a layer parameter: a number of top layers, a range of that number, a layer range, or a mask."""
    switched = {"mask": isinstance(parameter, LayerMask), "range": isinstance(parameter, LayerRange)}
    for field in ("mask", "range"):
        value = raw.get(field, switched[field])
        if not isinstance(value, bool):
            entry.report(f".{field}", f"{value!r} is not true or false", f"Write {field}: true.")
            return parameter
        switched[field] = value
    if switched["mask"] and switched["range"]:
        entry.report(".range", "it cannot be combined with a mask", "Keep one of the two.")
        return parameter
    numbers = {}
    for field in ("low", "high", "default"):
        if raw.get(field) is not None:
            number = entry.number(raw[field], f".{field}", whole=True)
            if number is None or not entry.is_possible(parameter, number, f".{field}"):
                return parameter
            numbers[field] = int(number)
    if switched["mask"] or switched["range"]:
        kept = ("default",) if switched["range"] else ()
        extra = next((field for field in numbers if field not in kept), None)
        if extra is not None:
            form = "mask has switches" if switched["mask"] else "range has a start and a count"
            entry.report(f".{extra}", f"a {form}, not a range of numbers", "Drop it, or drop the form.")
            return parameter
        if switched["mask"]:
            return LayerMask(name=parameter.name, when=parameter.when)
        return LayerRange(
            name=parameter.name, when=parameter.when, default=numbers.get("default", parameter.default)
        )
    return _number_of_layers(entry, parameter, numbers)


def _number_of_layers(entry: Entry, parameter: TopLayers, numbers: Mapping[str, int]) -> Parameter:
    if "high" in numbers:
        low, high = numbers.get("low", 1), numbers["high"]
        if low > high:
            entry.report(".low", f"low {low} is above high {high}", "Swap them.")
            return parameter
        default = numbers.get("default", high)
        return Int(name=parameter.name, when=parameter.when, low=low, high=high, default=default)
    if "low" in numbers:
        entry.report(".low", "a range of layers needs its high end too", "Add high: the number of layers.")
        return parameter
    default = numbers.get("default", parameter.default)
    return TopLayers(name=parameter.name, when=parameter.when, default=default)


def subset(entry: Entry, parameter: Categorical, raw: Mapping[str, object]) -> Parameter:
    """Override targets by one switch per role: `subset: true`, or a list of the roles to choose from."""
    wanted = raw["subset"]
    if wanted is False:
        return parameter
    roles = () if wanted is True else wanted
    if not isinstance(roles, list | tuple) or (not roles and wanted is not True):
        entry.report(
            ".subset", f"{wanted!r} is not true or a list", "Write true, or roles such as [q, v, o]."
        )
        return parameter
    for role in roles:
        if role not in ROLES:
            entry.report(".subset", f"unknown role {role!r}", did_you_mean(str(role), ROLES))
            return parameter
    default = raw.get("default", parameter.default)
    if not is_role_set(default):
        fix = f"Write {', '.join(TARGETS)}, or roles joined by '+': those that are on."
        entry.report(".default", f"{default!r} names no roles", fix)
        return parameter
    return TargetSubset(name=parameter.name, when=parameter.when, roles=tuple(roles), default=default)


def centered(
    entry: Entry, parameter: Float | Int, raw: Mapping[str, object], limits: tuple[float, float]
) -> Parameter:
    """Override a number by a center and a scale, bounded by the valid values of the parameter."""
    whole = isinstance(parameter, Int)
    for field in ("log", "step"):
        if field in raw:
            fix = "Write kind: log." if field == "log" else "Drop step."
            entry.report(f".{field}", "belongs to a range, not to a center and a scale", fix)
            return parameter
    numbers: dict[str, Any] = {}
    for field in ("center", "scale", "low", "high", "default"):
        if raw.get(field) is not None:
            number = entry.number(raw[field], f".{field}", whole=whole and field not in ("center", "scale"))
            if number is None:
                return parameter
            numbers[field] = number
    for field, example in (("center", "the expected value"), ("scale", "a standard deviation, such as 1.0")):
        if field not in numbers:
            entry.report(f".{field}", "missing", f"Give {example}.")
            return parameter
    kind = raw.get("kind", "log" if parameter.log else "linear")
    if kind not in KINDS:
        entry.report(".kind", f"unknown kind {kind!r}", did_you_mean(str(kind), KINDS))
        return parameter
    if any(
        not entry.is_possible(parameter, numbers[field], f".{field}")
        for field in ("center", "low", "high")
        if field in numbers
    ):
        return parameter
    # A parameter whose own range has no negative values is never negative.
    natural = (1 if whole and parameter.low >= 1 else 0) if parameter.low >= 0 else -float("inf")
    return Centered(
        name=parameter.name,
        when=parameter.when,
        center=float(numbers["center"]),
        scale=float(numbers["scale"]),
        kind=cast("Kind", kind),
        low=max(numbers.get("low", natural), limits[0]),
        high=min(numbers.get("high", float("inf")), limits[1]),
        whole=whole,
        default=numbers.get("default"),
    )


def override_entry(parameter: Parameter, original: Parameter) -> dict[str, object]:
    """Return the complete entry that turns `original` into `parameter`, conditions included."""
    fields = _spell_form(parameter, original)
    when = {name: list(values) for name, values in parameter.when.items() if name not in original.when}
    return {**fields, "when": when} if when else fields


def _spell_form(parameter: Parameter, original: Parameter) -> dict[str, object]:
    match parameter:
        case Sides():
            return {"sides": {side: _spell_form(parameter.on(side), original) for side in SIDES}}
        case LayerMask():
            return {"mask": True}
        case LayerRange():
            return {"range": True} | ({} if parameter.default is None else {"default": parameter.default})
        case TopLayers():
            return {"mask": False} | ({} if parameter.default is None else {"default": parameter.default})
        case TrainSamples():
            return amount_fields(parameter)
        case TargetSubset():
            return {"subset": list(parameter.roles) or True, "default": parameter.default}
        case RankProfile():
            bounds = {"low": parameter.low, "high": parameter.high, "default": parameter.default}
            return {"profile": True} | bounds
        case Centered():
            return to_entry(parameter)
        case Categorical():
            return {"choices": list(parameter.choices), "default": parameter.default}
        case Float() | Int():
            fields: dict[str, object] = {"low": parameter.low, "high": parameter.high}
            if isinstance(original, Structured):
                return fields | {"default": parameter.default}
            fields["log"] = parameter.log
            if not parameter.log and parameter.step is not None:
                fields["step"] = parameter.step
            return fields | {"default": parameter.default}
        case _:
            raise ValueError(
                f"{parameter.name}: a {type(parameter).__name__} cannot be written in a space file"
            )
