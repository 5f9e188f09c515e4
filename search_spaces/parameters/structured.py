"""Parameters that become several: a switch for each role of matrix, a rank that changes over the layers, and one
for each side of an encoder-decoder.

The switches and numbers that they become are read back by `chosen_targets` and `rank_at`, which families call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

from search_spaces.model.shape import FUSED, SIDES, TARGETS, Role
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
"""How far slope and bump reach, in doublings of the rank."""


@dataclass(frozen=True, kw_only=True)
class TargetSubset(Structured):
    """One switch for each role of matrix that the model has: `name.q`, `name.v`, …

    A fused matrix is one switch under its own role (`name.qkv`). Every switch off is no configuration. The
    default is a set of roles as `ModelShape.select` reads it: those are on.

    Args:
        roles: the roles to choose from; none given means all that the model has.
    """

    switches: ClassVar[bool] = True
    roles: tuple[str, ...] = ()

    def bind(self, depth: int, roles: Sequence[str] = (), decoder_depth: int = 0) -> tuple[Parameter, ...]:
        """Raise ValueError where the model has none of the roles."""
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
    """A rank for each layer from three numbers; in doublings, over the relative depth u from -1 to 1,

        log2 rank(u) = log2 level + slope · u + bump · (1 - 3 u²) / 2.

    These are the first Legendre polynomials, so that `level` stays the geometric mean over the layers,
    whatever the others: `slope` raises the layers near the output, `bump` those in the middle.

    Args:
        low, high: the range of the level, which is searched on a logarithmic scale. Default: 8.
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
    """A parameter for each side of an encoder-decoder: `name.encoder` and `name.decoder`.

    A number of top layers may be 0 on one side, but not on both. In a model of one stack there is one parameter,
    called `name`: the encoder's, which the decoder's must equal there.
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
        """The parameter of a side."""
        return self.decoder if SIDES[side] else self.encoder


def _bound(parameter: Parameter, depth: int, roles: Sequence[str], low: int = 1) -> tuple[Parameter, ...]:
    if not isinstance(parameter, Structured):
        return (parameter,)
    bound = parameter.bind(depth, roles)
    if type(parameter) is TopLayers:
        assert isinstance(bound[0], Int)
        return (replace(bound[0], low=low),)
    return bound


def chosen_targets(config: Mapping[str, Value], name: str, default: str) -> str:
    """What a `Categorical` of targets or a bound `TargetSubset` called `name` selects, or such a one for each
    side, for `ModelShape.select`.

    Where the configuration says nothing, it is `default`.
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
    """Whether the configuration gives the rank `name` as a bound `RankProfile`, or for each side apart."""
    return name not in config and (f"{name}.level" in config or has_sides(config, name))


def rank_at(
    config: Mapping[str, Value], name: str, layer: int, depth: int, width: int, decoder_depth: int = 0
) -> int:
    """The rank of a layer where it varies: its side's, or what a bound `RankProfile` gives to it, rounded, from
    1 to the model's width.

    Layer 0 is next to the input. The profile of a side runs over that side's layers. In a stack of one layer it
    is the level.
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
    """The model's own roles that stand for the given ones, in the model's order."""
    found = {role if role in present else FUSED.get(role) for role in roles}
    return tuple(role for role in present if role in found)
