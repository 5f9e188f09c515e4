"""Structured parameters: target subsets, rank profiles over the layers, and the sides of an encoder-decoder.

Families read the concrete parameters of a configuration through `selected_targets` and `rank_at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

from search_spaces.model.parts import SIDES, TARGETS, Role, resolve_role
from search_spaces.parameters.types import (
    Categorical,
    Float,
    Int,
    Parameter,
    Structured,
    TopLayers,
    Value,
    has_sides,
)

_DOUBLINGS = 2.0
"""Bound of slope and bump, in doublings of the rank."""


@dataclass(frozen=True, kw_only=True)
class TargetSubset(Structured):
    """One switch for each role of a layer's matrices: `name.q`, `name.v`, ...

    A fused matrix has one switch under its own role (`name.qkv`). A configuration in which every switch is off is
    invalid. The default is a set of roles in the notation of `ModelShape.select`; their switches are on.

    Args:
        roles: roles to choose from; empty for all roles of the model.
    """

    switches: ClassVar[bool] = True
    roles: tuple[str, ...] = ()

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        """Return one switch per role.

        Raises:
            ValueError: The model has none of the roles.
        """
        present = tuple(dict.fromkeys(roles))
        offered = _resolved(self.roles, present) if self.roles else present
        if not offered:
            wanted = ", ".join(self.roles) or "anything"
            raise ValueError(f"{self.name}: the model has none of {wanted}; it has {', '.join(present)}")
        usual = _resolved(_expanded(str(self.default or "all")), present)
        on = [role for role in offered if role in usual] or offered
        return tuple(
            Categorical(name=f"{self.name}.{role}", when=self.when, choices=(False, True), default=role in on)
            for role in offered
        )


@dataclass(frozen=True, kw_only=True)
class RankProfile(Structured):
    """A rank per layer, given by three numbers over the relative depth u from -1 (input) to 1 (output):

        log2 rank(u) = log2 level + slope · u + bump · (1 - 3 u²) / 2.

    These are the first Legendre polynomials, so `level` is the geometric mean over the layers for any slope and
    bump. `slope` raises the layers near the output, and `bump` those in the middle, in doublings of the rank.

    Args:
        low: lower bound of the level, which is searched on a logarithmic scale.
        high: upper bound of the level.
    """

    low: int
    high: int

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        level = Int(
            name=f"{self.name}.level",
            when=self.when,
            low=self.low,
            high=self.high,
            log=True,
            default=min(max(int(self.default or 8), self.low), self.high),
        )
        return (
            level,
            *(
                Float(
                    name=f"{self.name}.{part}", when=self.when, low=-_DOUBLINGS, high=_DOUBLINGS, default=0.0
                )
                for part in ("slope", "bump")
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Sides(Structured):
    """One parameter for each side of an encoder-decoder: `name.encoder` and `name.decoder`.

    The number of top layers may be 0 on one side, but not on both. In a model with one stack it expands to a single
    parameter called `name`, that of the encoder; that of the decoder must be equal there.

    Args:
        encoder: the parameter of the encoder.
        decoder: the parameter of the decoder.
    """

    encoder: Parameter
    decoder: Parameter

    switches: ClassVar[bool] = True

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        if not decoder_depth:
            return _bound(replace(self.encoder, when=self.when), depth, roles)
        depths = depth - decoder_depth, decoder_depth
        return tuple(
            part
            for side, its_depth in zip(SIDES, depths, strict=True)
            for part in _bound(
                replace(self.on(side), name=f"{self.name}.{side}", when=self.when), its_depth, roles, low=0
            )
        )

    def on(self, side: str) -> Parameter:
        """Return the parameter of a side, `encoder` or `decoder`."""
        return self.decoder if SIDES[side] else self.encoder


def _bound(parameter: Parameter, depth: int, roles: Sequence[str], low: int = 1) -> tuple[Parameter, ...]:
    if not isinstance(parameter, Structured):
        return (parameter,)
    bound = parameter.bind(depth, roles)
    if type(parameter) is TopLayers:
        assert isinstance(bound[0], Int)
        return (replace(bound[0], low=low),)
    return bound


def selected_targets(config: Mapping[str, Value], name: str, default: str) -> str:
    """Return the targets that a configuration selects, in the notation of `ModelShape.select`.

    Args:
        config: a configuration with a `Categorical` of targets, or with the switches of a `TargetSubset`, or with
            one of these for each side of an encoder-decoder.
        name: name of that parameter.
        default: the result if the configuration has none.
    """
    return (
        _chosen(config, name)
        or ",".join([f"{side}.{on}" for side in SIDES if (on := _chosen(config, f"{name}.{side}"))])
        or default
    )


def _chosen(config: Mapping[str, Value], name: str) -> str:
    if name in config:
        return str(config[name])
    return "+".join([role for role in get_args(Role) if config.get(f"{name}.{role}")])


def varies_by_layer(config: Mapping[str, Value], name: str) -> bool:
    """Return whether the configuration gives the rank `name` as a `RankProfile`, or per side."""
    return name not in config and (f"{name}.level" in config or has_sides(config, name))


def rank_at(
    config: Mapping[str, Value], name: str, layer: int, depth: int, width: int, decoder_depth: int = 0
) -> int:
    """Return the rank of a layer where it varies by layer or by side.

    The profile of a side covers the layers of that side. In a stack of one layer the rank is the level.

    Args:
        config: a configuration with the concrete parameters of a `RankProfile`, or with a rank for each side.
        name: name of the rank.
        layer: index of the layer; layer 0 is next to the input.
        depth: number of layers, of both stacks in an encoder-decoder.
        width: hidden size of the model, the largest rank.
        decoder_depth: number of layers of a decoder above an encoder, which are the last ones; 0 otherwise.
    """
    if decoder_depth and has_sides(config, name):
        encoder = depth - decoder_depth
        side, layer, depth = (
            ("encoder", layer, encoder) if layer < encoder else ("decoder", layer - encoder, decoder_depth)
        )
        name = f"{name}.{side}"
        if name in config:
            return int(config[name])
    u = 2.0 * layer / (depth - 1) - 1.0 if depth > 1 else 0.0
    slope, bump = float(config.get(f"{name}.slope", 0.0)), float(config.get(f"{name}.bump", 0.0))
    doublings = slope * u + (bump * (1.0 - 3.0 * u * u) / 2.0 if depth > 1 else 0.0)
    return min(max(round(float(config[f"{name}.level"]) * 2.0**doublings), 1), width)


def _expanded(targets: str) -> tuple[str, ...]:
    return TARGETS.get(targets) or tuple(targets.split("+"))


def _resolved(roles: Sequence[str], present: Sequence[str]) -> tuple[str, ...]:
    """Return the model's roles that correspond to the given ones, in the model's order."""
    found = {resolve_role(role, present) for role in roles}
    return tuple(role for role in present if role in found)
