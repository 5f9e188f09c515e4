"""Transfer of a configuration from one model to another: the same adapter at the same relative positions.

Layers are mapped by their share of the depth, so the upper half stays the upper half. Matrices are mapped by role, so
separate q, k and v map to a fused matrix and back. Ranks, scales and learning rates do not change; scaling laws
predict how their best values depend on model size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from search_spaces.errors import InvalidInputError, Problem
from search_spaces.language.loader import load_space
from search_spaces.model.parts import FUSED, SIDES
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.structured import Sides, TargetSubset
from search_spaces.parameters.types import (
    Categorical,
    Configuration,
    LayerMask,
    LayerRange,
    Parameter,
    TopLayers,
    Value,
    adapted_layers,
    has_sides,
    layer_switches,
)


def transfer_configuration(
    config: Mapping[str, Value], spec: Mapping[str, object], here: ModelShape, there: ModelShape
) -> Configuration:
    """Transfer a configuration to another model.

    Args:
        config: a configuration of the space on `here`.
        spec: the space, in the form that `load_space` accepts.
        here: shape of the model of the configuration.
        there: shape of the other model, for the same task.

    Returns:
        A configuration of the space on `there`.

    Raises:
        InvalidInputError: The other model cannot have the configuration; the message says why.
    """
    return Transfer(spec, here, there)(config)


class Transfer:
    """The transfer of configurations from one model to another; the space is read once.

    Args:
        spec: the space, in the form that `load_space` accepts.
        here: shape of the model of the configurations.
        there: shape of the other model, for the same task.
    """

    def __init__(self, spec: Mapping[str, object], here: ModelShape, there: ModelShape) -> None:
        self._here, self._there = here, there
        self._placed = [
            parameter
            for parameter in load_space(spec).space.parameters
            if isinstance(parameter, TopLayers | Sides | TargetSubset)
        ]
        self._loaded = load_space(spec, shape=there)

    def __call__(self, config: Mapping[str, Value]) -> Configuration:
        """Transfer a configuration; result and errors as in `transfer_configuration`."""
        there, carried = self._there, dict(config)
        for parameter in self._placed:
            carried = _placed(parameter, carried, self._here, there)
        reason = self._loaded.left_out.get(str(config.get("family", "")))
        space = self._loaded.space
        carried = _with_known_targets(carried, space.parameters, there)
        problems = [reason] if reason else space.problems(carried)
        if problems:
            what = f"a {there.model_type} of {there.depth} layers cannot have this configuration"
            fix = "Choose another model or point."
            raise InvalidInputError([Problem("model", f"{what}: {problem}", fix) for problem in problems])
        return {name: carried[name] for name in space.names if name in carried}


def _with_known_targets(
    config: Configuration, parameters: Sequence[Parameter], there: ModelShape
) -> Configuration:
    """Rename choices of targets to the names that the other model's space has for the same matrices."""
    found = dict(config)
    for parameter in parameters:
        name = parameter.name
        if not isinstance(parameter, Categorical) or ".targets" not in name or name not in config:
            continue
        side = name.rpartition(".")[2]
        front = f"{side}." if side in SIDES else ""
        wanted = str(config[name])
        if wanted in parameter.choices or not isinstance(config[name], str):
            continue
        with suppress(ValueError):  # targets that match no module there; validation reports them
            matrices = there.select(front + wanted)
            found[name] = next(
                (c for c in parameter.choices if there.select(f"{front}{c}") == matrices), wanted
            )
    return found


def _placed(
    parameter: Parameter, config: Configuration, here: ModelShape, there: ModelShape
) -> Configuration:
    """Map the names and values of one parameter to the other model."""
    name = parameter.name
    own = {key: value for key, value in config.items() if key == name or key.startswith(f"{name}.")}
    rest = {key: value for key, value in config.items() if key not in own}
    if not own:
        return config
    if isinstance(parameter, TargetSubset):
        offered = parameter.bind(there.depth, [matrix.role for matrix in there.matrices])
        return rest | _switched(own, name, [switch.name.rpartition(".")[2] for switch in offered])
    if not isinstance(parameter, Sides):
        return rest | _layers(parameter, own, name, here.depth, there.depth)
    if not isinstance(parameter.encoder, TopLayers) or not has_sides(config, name) or not there.decoder_depth:
        return config
    for side, above in SIDES.items():
        depths = [
            shape.decoder_depth if above else shape.depth - shape.decoder_depth for shape in (here, there)
        ]
        key = f"{name}.{side}"
        mine = {k: v for k, v in own.items() if k == key or k.startswith(f"{key}.")}
        rest |= _layers(parameter.on(side), mine, key, *depths)
    return rest


def _layers(parameter: Parameter, own: Configuration, name: str, here: int, there: int) -> Configuration:
    """Map a number of layers, a range or a mask from a depth of `here` layers to a depth of `there` layers."""
    if here == there:
        return own
    chosen = set(adapted_layers(own, name, here))
    if isinstance(parameter, LayerMask):
        # The center of each layer of the other model, in units of this model's layers.
        on = [int((layer + 0.5) * here / there) in chosen for layer in range(there)]
        if chosen and not any(on):
            on[int((min(chosen) + 0.5) * there / here)] = True
        return dict(zip(layer_switches(name, there), on, strict=True))
    count = min(max(round(len(chosen) * there / here), 1), there) if chosen else 0
    if isinstance(parameter, LayerRange):
        start = min(round(min(chosen) * there / here), there - count)
        return {f"{name}.count": count, f"{name}.start": start}
    return {name: count}


def _switched(own: Configuration, name: str, roles: Sequence[str]) -> Configuration:
    """Map the switches of roles.

    A fused matrix is on if any of its parts is, and a part is on if the fused matrix is. A gate is on with the matrix
    that it gates. Other roles that only the other model has are off.
    """
    on = {key.rpartition(".")[2] for key, value in own.items() if value}
    known = {key.rpartition(".")[2] for key in own}
    found: Configuration = {}
    for role in roles:
        same = {role} & known or {part for part, whole in FUSED.items() if whole == role} | {
            FUSED.get(role, role)
        }
        if not same & known and role == "gate":
            same = {"up"}
        found[f"{name}.{role}"] = bool(same & on)
    return found
