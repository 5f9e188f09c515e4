"""Layers, targets and ranks of a configuration as users write them, as the concrete parameters of a bound space.

    lora.layers: 4                  the uppermost layers; also all, [8, 9, 10, 11] or "8-11"
    lora.layers: {count: 4, start: 8}
    lora.targets: q+v               also [q, v], attention, feed-forward, all
    lora.rank: 8                    a rank profile that is the same in every layer
    lora.layers: {encoder: 2, decoder: 4}    one value stands for both sides

The names of concrete parameters, as results print them (`lora.layers.3`, `lora.targets.q`, `lora.rank.level`), are
accepted too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autotune.formatting.units import ranges
from search_spaces.errors import AutotuneError
from search_spaces.model.parts import SIDES
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.structured import RankProfile, Sides, TargetSubset
from search_spaces.parameters.types import (
    Categorical,
    Int,
    LayerMask,
    LayerRange,
    Parameter,
    TopLayers,
    layer_switches,
)

_RANGE = re.compile(r"(\d{1,9})(?:\s*[-–]\s*(\d{1,9}))?")


class FormError(AutotuneError, ValueError):
    """A value is in no form that the parameter has.

    Args:
        what: the cause.
        fix: the edit that resolves it.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


@dataclass(frozen=True)
class _Place:
    """A parameter of the unbound space, or one side of it.

    Args:
        parameter: the parameter.
        depth: layers of the model, or of that side.
        side: `encoder.` or `decoder.`, the prefix of targets there; empty for the whole model.
    """

    parameter: Parameter
    depth: int
    side: str = ""


class WrittenForms:
    """Turns written values into values of concrete parameters.

    Args:
        parameters: of the unbound space.
        shape: of the model that the space is bound to.
    """

    def __init__(self, parameters: Sequence[Parameter], shape: ModelShape) -> None:
        self._shape = shape
        self._places = dict(_places(parameters, shape))

    @property
    def stems(self) -> tuple[str, ...]:
        """The names that have forms: of parameters, and of their sides in an encoder-decoder."""
        return tuple(self._places)

    def concrete(self, name: str, value: object) -> dict[str, Any]:
        """Return the concrete parameters that a written value stands for, by name.

        A value that is concrete already, or that no form describes, is returned under its own name.

        Raises:
            FormError: the parameter has no such form.
        """
        place = self._places.get(name)
        if place is None:
            return {name: value}
        parameter = place.parameter
        if isinstance(parameter, Sides):
            return {k: v for side in SIDES for k, v in self.concrete(f"{name}.{side}", value).items()}
        if isinstance(parameter, RankProfile):
            return {f"{name}.level": value, f"{name}.slope": 0.0, f"{name}.bump": 0.0}
        if name.rpartition(".")[2] == "rank":
            return {name: value}
        if isinstance(parameter, TargetSubset):
            return self._switches(name, value, place)
        if isinstance(parameter, Categorical) and name.rpartition(".")[2] != "layers":
            return {name: self._targets(parameter, value, place.side)}
        return _layers(name, value, place)

    def _switches(self, name: str, value: object, place: _Place) -> dict[str, Any]:
        parameter = place.parameter
        bound = parameter.bind(place.depth, [m.role for m in self._shape.matrices])  # type: ignore[attr-defined]
        switches = [switch.name.rpartition(".")[2] for switch in bound]
        try:
            chosen = {matrix.role for matrix in self._shape.select(place.side + _joined(value))}
        except ValueError as error:
            raise FormError(str(error), f"Write some of {', '.join(switches)}, joined by '+'.") from None
        if missing := sorted(chosen - set(switches)):
            what = f"{value!r} selects {', '.join(missing)}, which the space does not offer"
            raise FormError(what, f"Write some of {', '.join(switches)}, joined by '+'.")
        return {f"{name}.{role}": role in chosen for role in switches}

    def _targets(self, parameter: Categorical, value: object, side: str) -> object:
        """Return the choice that selects the same matrices as the value, else the value itself."""
        if value in parameter.choices:
            return value
        text = _joined(value)
        try:
            matrices = self._shape.select(side + text)
            same = [c for c in parameter.choices if _selects(self._shape, f"{side}{c}", matrices)]
        except ValueError:
            same = []
        return same[0] if same else text


def _places(parameters: Sequence[Parameter], shape: ModelShape) -> Iterator[tuple[str, _Place]]:
    """Yield the parameters that have forms, by name; each side of an encoder-decoder by its own."""
    for parameter in parameters:
        if not isinstance(parameter, Sides):
            if _has_forms(parameter):
                yield parameter.name, _Place(parameter, shape.depth)
        elif not shape.decoder_depth:
            if _has_forms(parameter.encoder):
                yield parameter.name, _Place(parameter.encoder, shape.depth)
        else:
            yield parameter.name, _Place(parameter, shape.depth)
            depths = shape.depth - shape.decoder_depth, shape.decoder_depth
            for side, depth in zip(SIDES, depths, strict=True):
                if _has_forms(parameter.on(side)):
                    yield f"{parameter.name}.{side}", _Place(parameter.on(side), depth, f"{side}.")


def _has_forms(parameter: Parameter) -> bool:
    if isinstance(parameter, TopLayers | TargetSubset | RankProfile):
        return True
    local = parameter.name.rpartition(".")[2]
    return (local in ("layers", "rank") and isinstance(parameter, Int | Categorical)) or (
        local == "targets" and isinstance(parameter, Categorical)
    )


def _joined(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _selects(shape: ModelShape, choice: str, matrices: object) -> bool:
    try:
        return shape.select(choice) == matrices
    except ValueError:
        return False


def _layers(name: str, value: object, place: _Place) -> dict[str, Any]:
    """Return the concrete parameters of layers that are written as a number, a list or ranges."""
    parameter, depth = place.parameter, place.depth
    is_counted = not isinstance(parameter, LayerMask | LayerRange)
    if isinstance(value, bool) or (is_counted and isinstance(value, int | float)):
        return {name: value}  # the parameter's own range decides
    chosen = _chosen_layers(value, depth)
    if isinstance(parameter, LayerMask):
        return {switch: i in chosen for i, switch in enumerate(layer_switches(name, depth))}
    count = len(chosen)
    low = min(chosen, default=0)
    if set(chosen) != set(range(low, low + count)):
        fix = f"Write layers without a gap, or search a mask: space.parameters.{name}: {{mask: true}}."
        raise FormError(f"layers {ranges(chosen)} have gaps, which the space does not search", fix)
    if isinstance(parameter, LayerRange):
        return {f"{name}.count": count, f"{name}.start": low}
    if count and low + count != depth:
        fix = f"Write {name}: {count}, or search a range: space.parameters.{name}: {{range: true}}."
        raise FormError(f"layers {ranges(chosen)} are not the uppermost ones, which the space counts", fix)
    return {name: count}


def _chosen_layers(value: object, depth: int) -> list[int]:
    """Return the layers that a number of top layers, `all`, a list, or text such as `0, 3-5` selects.

    Raises:
        FormError: the value is in none of these forms, or names a layer that the model lacks.
    """
    fix = (
        f"Write a number of top layers up to {depth}, all, a list of layers, or ranges such as 0-{depth - 1}."
    )
    if value == "all":
        return list(range(depth))
    if isinstance(value, int):
        if not 0 <= value <= depth:
            raise FormError(f"selects {value} layers of a model with {depth}", fix)
        return list(range(depth - value, depth))
    parts = [
        str(part).strip() for part in (value if isinstance(value, list | tuple) else str(value).split(","))
    ]
    matches = [_RANGE.fullmatch(part) for part in parts]
    chosen: set[int] = set()
    for match in matches:
        if match is None:
            raise FormError(f"{value!r} names no layers", fix)
        first, last = int(match[1]), int(match[2] or match[1])
        if last >= depth or first > last:
            raise FormError(f"{value!r} does not fit a model whose layers are 0 to {depth - 1}", fix)
        chosen |= set(range(first, last + 1))
    if not chosen:
        raise FormError(f"{value!r} does not fit a model whose layers are 0 to {depth - 1}", fix)
    return sorted(chosen)


def flattened(given: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the entries of nested mappings under dotted names: `{lora: {rank: 8}}` as `lora.rank`."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
