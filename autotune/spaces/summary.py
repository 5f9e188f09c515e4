"""What a search space holds and which families a model can have: for `autotune spaces`.

Everything is found out from the model's shape; nothing is loaded or trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autotune.sampler.candidates import EncodedSpace
from search_spaces.costs.batched import AdapterGroups
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import TaskType, refusal
from search_spaces.language.loader import PRESETS, LoadedSpace, load_space, preset_names
from search_spaces.language.override_forms import override_entry
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace
from search_spaces.space_size import SpaceSize, count, listed

_DRAWN = 10_000
"""Random configurations of the whole space behind the median, and as many in all behind the extremes."""
_LISTED = 50_000
"""A family with at most so many different costs is looked at in full."""
_TRIED = 64
"""Values of one parameter that the search for extremes tries."""


@dataclass(frozen=True)
class Extent:
    """Trainable parameters over a space or a family; `exact` where the two ends are known to be the ends."""

    smallest: int
    median: float
    largest: int
    exact: bool


@dataclass(frozen=True)
class FamilyView:
    """A family's part of a space.

    Args:
        configurations: of its own knobs without those that are continuous.
        trainable_params: over them, the training knobs apart.
    """

    configurations: int
    trainable_params: Extent


@dataclass(frozen=True)
class SpaceView:
    """A space as a person wants to know it before searching.

    Args:
        loaded: the space, fitted to the model if there is one.
        size, families, trainable_params: None and empty while the model, and so its depth, is unknown.
    """

    name: str
    loaded: LoadedSpace
    size: SpaceSize | None
    families: dict[str, FamilyView]
    trainable_params: Extent | None


def presets() -> dict[str, tuple[str, LoadedSpace]]:
    """Every preset's first line of explanation, and the preset itself."""
    found = {}
    for name in preset_names():
        first = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        found[name] = (first.lstrip("# "), load_space(name))
    return found


def supported(shape: ModelShape, task: TaskType) -> dict[str, str | None]:
    """Why each registered family cannot work on the model and task; None for those that can."""
    return {name: refusal(family, shape, task) for name, family in REGISTRY.items()}


def view_space(
    spec: str | Path | Mapping[str, Any], shape: ModelShape | None, task: TaskType | None = None
) -> SpaceView:
    """Count and measure a space.

    Raises:
        InvalidInputError: the space cannot be read, or no family of it can work on the model.
    """
    name = spec if isinstance(spec, str) else "space"
    loaded = load_space(spec, shape=shape, task=task)
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
        all(extent.exact for extent in extents),
    )
    return SpaceView(name, loaded, count(space), views, whole)


def families_of(space: SearchSpace) -> list[str]:
    """The families among which a loaded space chooses."""
    family = space["family"]
    assert isinstance(family, Categorical)
    return [str(choice) for choice in family.choices]


def of_family(space: SearchSpace, family: str) -> EncodedSpace:
    """The space with its family fixed, ready to be drawn from."""
    return EncodedSpace(space, {"family": family})


def describe(parameter: Parameter) -> dict[str, Any]:
    """A dimension as plain JSON values: name, type, range, default, and when it exists."""
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
    every = None if count(priced).continuous else listed(priced, _LISTED)
    if every is not None:
        groups = AdapterGroups(shape)
        found = _parameters(groups, every)
        if groups.read & set(space.names) <= set(priced.names):
            extent = Extent(int(found.min()), float(np.median(sizes)), int(found.max()), exact=True)
            return FamilyView(size, extent)
    ends = [
        _climb(priced, _restricted(drawn[int(place)], priced), groups, sign)
        for sign, place in ((-1, sizes.argmin()), (1, sizes.argmax()))
    ]
    return FamilyView(size, Extent(ends[0], float(np.median(sizes)), ends[1], exact=False))


def _parameters(groups: AdapterGroups, configs: list[Configuration]) -> np.ndarray:
    group = groups.indices(configs)
    return np.array([cost.parameters for cost in groups.costs], dtype=np.int64)[group]


def _only(space: SearchSpace, family: str, names: set[str]) -> SearchSpace:
    """The space of one family with the named parameters and those that their conditions name."""
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


def _climb(space: SearchSpace, config: Configuration, groups: AdapterGroups, sign: int) -> int:
    """The most (sign 1) or fewest (−1) parameters found by changing one value at a time until none helps."""
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
    """All values of a short range, evenly spread ones of a long or continuous one; both ends always."""
    if isinstance(parameter, Categorical):
        return list(parameter.choices)
    return list(dict.fromkeys(parameter.from_unit(k / (_TRIED - 1)) for k in range(_TRIED)))
