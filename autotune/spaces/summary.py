"""Contents of a search space and the families that a model supports, for `autotune spaces`.

Everything follows from the shape of the model. No weights are loaded, and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autotune.sampler.candidates import EncodedSpace
from autotune.spaces.task_forms import TaskForm
from search_spaces.costs.batched import AdapterGroups
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import TaskType, unsupported_reason
from search_spaces.language.loader import PRESETS, LoadedSpace, load_space, preset_names
from search_spaces.language.override_forms import override_entry
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace
from search_spaces.space_size import SpaceSize, count, list_configurations

_DRAWN = 10_000
"""Random configurations for the median of the space, and as many in total for the extremes of its families."""
_LISTED = 50_000
"""The extremes of a family with at most this many different costs are exact."""
_TRIED = 64
"""Values per parameter in the search for extremes."""


@dataclass(frozen=True)
class Extent:
    """The range of trainable parameters over a space or a family.

    Args:
        smallest: the minimum.
        median: of random configurations.
        largest: the maximum.
        is_exact: whether the ends are exact, and not only the smallest and largest that a search found.
    """

    smallest: int
    median: float
    largest: int
    is_exact: bool


@dataclass(frozen=True)
class FamilyView:
    """The part of a space that belongs to one family.

    Args:
        configurations: the number of combinations of the family's own parameters that are not continuous.
        trainable_params: their range.
    """

    configurations: int
    trainable_params: Extent


@dataclass(frozen=True)
class SpaceView:
    """A summary of a search space.

    Args:
        name: of the space.
        loaded: the space, bound to the model if one is given.
        size: the number of configurations; None without a model, since it depends on the number of layers.
        families: by name; empty without a model.
        trainable_params: over the whole space; None without a model.
    """

    name: str
    loaded: LoadedSpace
    size: SpaceSize | None
    families: dict[str, FamilyView]
    trainable_params: Extent | None


def presets() -> dict[str, tuple[str, LoadedSpace]]:
    """Return every preset by name: the first line of its description, and the space."""
    found = {}
    for name in preset_names():
        first = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        found[name] = (first.lstrip("# "), load_space(name))
    return found


def supported(shape: ModelShape, task: TaskType) -> dict[str, str | None]:
    """Return for each registered family why the model does not support it in the task, and None if it does."""
    return {name: unsupported_reason(family, shape, task) for name, family in REGISTRY.items()}


def view_space(
    spec: str | Path | Mapping[str, Any], shape: ModelShape | None, form: TaskForm | None = None
) -> SpaceView:
    """Count the configurations of a space and find the range of their trainable parameters.

    Args:
        spec: a preset, a file, or a mapping.
        shape: of the model; None for no model.
        form: of the task; by default the task of the shape.

    Raises:
        InvalidInputError: the space cannot be read, or the model supports none of its families.
    """
    name = spec if isinstance(spec, str) else "space"
    task, loss = (None, None) if form is None else (form.shape_task, form.loss)
    loaded = load_space(spec, shape=shape, task=task, loss=loss)
    if shape is None:
        return SpaceView(name, loaded, None, {}, None)
    space = loaded.space
    rng = np.random.default_rng(0)
    columns = EncodedSpace(space)
    groups = AdapterGroups(shape)
    drawn = columns.configurations(columns.random(_DRAWN, rng))
    drawn_parameters = _parameters(groups, drawn)
    names = families_of(space)
    views = {f: _view_family(space, f, shape, max(_DRAWN // len(names), 500), rng) for f in names}
    extents = [view.trainable_params for view in views.values()]
    whole = Extent(
        min(extent.smallest for extent in extents),
        float(np.median(drawn_parameters)),
        max(extent.largest for extent in extents),
        all(extent.is_exact for extent in extents),
    )
    return SpaceView(name, loaded, count(space), views, whole)


def families_of(space: SearchSpace) -> list[str]:
    """Return the names of the families in a loaded space."""
    family = space["family"]
    assert isinstance(family, Categorical)
    return [str(choice) for choice in family.choices]


def of_family(space: SearchSpace, family: str) -> EncodedSpace:
    """Return the part of a space that belongs to one family, for drawing random configurations."""
    return EncodedSpace(space, {"family": family})


def describe(parameter: Parameter) -> dict[str, Any]:
    """Return a parameter as values that JSON can represent: name, type, range, default, and when it is active."""
    kind = {Float: "float", Int: "int", Categorical: "choice"}.get(type(parameter), "layers")
    when = {parent: list(values) for parent, values in parameter.when.items()}
    return {"name": parameter.name, "type": kind, **override_entry(parameter, parameter), "when": when}


def _view_family(
    space: SearchSpace, family: str, shape: ModelShape, draws: int, rng: np.random.Generator
) -> FamilyView:
    columns = of_family(space, family)
    groups = AdapterGroups(shape)
    drawn = columns.configurations(columns.random(draws, rng))
    sizes = _parameters(groups, drawn)
    others = [name for name in space.names if name != "family" and not name.startswith(f"{family}.")]
    size = count(space, fixed={"family": family}, ignore=others).combinations
    priced = _only(space, family, groups.read)
    every = None if count(priced).continuous else list_configurations(priced, _LISTED)
    if every is not None:
        groups = AdapterGroups(shape)
        found = _parameters(groups, every)
        if groups.read & set(space.names) <= set(priced.names):
            extent = Extent(int(found.min()), float(np.median(sizes)), int(found.max()), is_exact=True)
            return FamilyView(size, extent)
    ends = [
        _extreme(priced, _restricted(drawn[int(place)], priced), groups, sign)
        for sign, place in ((-1, sizes.argmin()), (1, sizes.argmax()))
    ]
    return FamilyView(size, Extent(ends[0], float(np.median(sizes)), ends[1], is_exact=False))


def _parameters(groups: AdapterGroups, configs: list[Configuration]) -> np.ndarray:
    group = groups.indices(configs)
    return np.array([cost.parameters for cost in groups.costs], dtype=np.int64)[group]


def _only(space: SearchSpace, family: str, names: set[str]) -> SearchSpace:
    """Return the space of one family with only the named parameters and those that their conditions need."""
    kept = {"family"}
    parameters: list[Parameter] = []
    for parameter in reversed(space.parameters):
        families = parameter.when.get("family", (family,))
        if parameter.name == "family" or parameter.name not in names | kept or family not in families:
            continue
        kept |= set(parameter.when)
        when = {**parameter.when, "family": (family,)} if "family" in parameter.when else parameter.when
        parameters.insert(0, replace(parameter, when=when))
    chosen = Categorical(name="family", choices=(family,))
    masks = (mask for mask in space.masks if any(p.name.startswith(f"{mask}.") for p in parameters))
    return SearchSpace((chosen, *parameters), tuple(masks))


def _restricted(config: Configuration, space: SearchSpace) -> Configuration:
    return {name: value for name, value in config.items() if name in space}


def _extreme(space: SearchSpace, config: Configuration, groups: AdapterGroups, sign: int) -> int:
    """Search for the most (sign 1) or fewest (sign −1) trainable parameters by coordinate ascent.

    One value is changed at a time, as long as a change improves the number.
    """
    best = sign * int(_parameters(groups, [config])[0])
    improved = True
    while improved:
        improved = False
        for parameter in space.parameters:
            if not parameter.active(config):
                continue
            tried = [space.default(**{**config, parameter.name: value}) for value in _some_values(parameter)]
            possible = [other for other in tried if not space.problems(other)]
            sizes = sign * _parameters(groups, possible)
            if len(sizes) and sizes.max() > best:
                best, config, improved = int(sizes.max()), possible[int(sizes.argmax())], True
    return sign * best


def _some_values(parameter: Parameter) -> list[Value]:
    """Return all values of a short range, and evenly spaced ones of a long or continuous range, ends included."""
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    return list(dict.fromkeys(parameter.from_unit(k / (_TRIED - 1)) for k in range(_TRIED)))
