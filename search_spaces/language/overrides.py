"""Overrides of parameters in space files.

A scalar fixes the parameter, a list gives its choices, and a mapping changes single fields:

    lora.rank: 8                                       fixed
    lora.targets: ["q+v", all]                         choices
    lora.rank: {low: 1, high: 16, default: 4}          a range: low, high, log, step, default
    lora.learning_rate: {center: 3e-4, scale: 0.5}     a center and a scale: kind, low, high, default
    lora.rank: {profile: true, high: 32}               a rank that changes over the layers: low, high, default
    lora.layers: {mask: true}                          one switch per layer
    lora.layers: {range: true}                         a contiguous range of layers: default
    lora.targets: {subset: true}                       one switch per role; or {subset: [q, v, o]}
    lora.layers: {sides: true}                         separate for encoder and decoder; or {sides: {decoder: 2}}
    lora.scale: {when: {lora.dora: true}}              a condition, with any of the mappings above
    train_samples: {low: 5%, high: all}                numbers or shares of the split: low, high, log, default

`Override` reads all of these except conditions, which `conditions.py` reads; `override_forms.py` has the forms from
`center` on, and `amounts.py` the numbers of training examples. The guide `docs/guides/search-spaces.md` has an
example of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces.errors import did_you_mean
from search_spaces.language import override_forms
from search_spaces.language.amounts import train_samples
from search_spaces.language.entry import CENTERED_FIELDS, Entry, is_targets_parameter, limits
from search_spaces.model.parts import SIDES
from search_spaces.parameters.amounts import TrainSamples
from search_spaces.parameters.structured import RankProfile, Sides
from search_spaces.parameters.types import (
    Categorical,
    Float,
    Int,
    Parameter,
    TopLayers,
    Value,
)

_NUMBER_FIELDS = ("low", "high", "log", "step", "choices", "default", *CENTERED_FIELDS)
_CHOICE_FIELDS = ("choices", "default")
_LAYER_FIELDS = ("mask", "range", "sides", "low", "high", "choices", "default")


class Override(Entry):
    """An entry of `parameters:` that overrides a parameter."""

    def apply(self, parameter: Parameter, raw: object) -> Parameter:
        """Return the changed parameter, or the unchanged one if the entry has a problem."""
        before = len(self.problems)
        try:
            changed = self._apply(parameter, raw)
        except ValueError as error:  # validation by the parameter's own constructor
            self.report("", str(error).removeprefix(f"{parameter.name}: "), "Change the values.")
            return parameter
        return parameter if len(self.problems) > before else changed

    def _apply(self, parameter: Parameter, raw: object) -> Parameter:
        if isinstance(parameter, TrainSamples) and raw is not None:
            return train_samples(self, parameter, raw)
        if isinstance(raw, Mapping):
            fields = _fields(parameter)
            for field in raw:
                if field not in fields:
                    self.report(f".{field}", "unknown field", did_you_mean(str(field), fields))
            if any(field not in fields for field in raw):
                return parameter
            raw = {field: value for field, value in raw.items() if field != "when"}
            if not raw:
                return parameter
            if "sides" in raw:
                return sides(self, parameter, raw)
            if "choices" in raw:
                return self._choices(parameter, raw["choices"], raw.get("default"), ".choices")
            if isinstance(parameter, TopLayers):
                return override_forms.layers(self, parameter, raw)
            if isinstance(parameter, Float | Int):
                if any(field in raw for field in CENTERED_FIELDS):
                    return override_forms.centered(self, parameter, raw, limits(parameter))
                if isinstance(parameter, Int) and "profile" in raw:
                    return profile(self, parameter, raw)
                return self._range(parameter, raw)
            assert isinstance(parameter, Categorical)
            if "subset" in raw:
                return override_forms.subset(self, parameter, raw)
            return self._choices(parameter, list(parameter.choices), raw.get("default"), ".choices")
        if isinstance(raw, list | tuple):
            return self._choices(parameter, raw, None, "")
        if raw is None:
            self.report(
                "", "empty", "Give a value to fix it, a list of choices, or a mapping such as {low: …}."
            )
            return parameter
        return self._choices(parameter, [raw], None, "")

    def _choices(self, parameter: Parameter, raw: object, default: object, field: str) -> Parameter:
        if not isinstance(raw, list | tuple) or not raw:
            self.report(field, f"{raw!r} is not a list of choices", "Write them in brackets: [a, b].")
            return parameter
        values = [self.value(parameter, value, field) for value in raw]
        chosen = [value for value in values if value is not None]
        if len(chosen) < len(values):
            return parameter
        if len(set(chosen)) < len(chosen):
            self.report(field, f"a choice appears twice in {chosen}", "Keep each once.")
            return parameter
        number = not (isinstance(parameter, Categorical) and parameter.nominal)
        if number:
            chosen = sorted(chosen)  # the index of an ordered choice is its position on the scale
        if default is None:
            default = _closest(chosen, parameter.default) if number else None
            if not number:
                default = parameter.default if parameter.default in chosen else chosen[0]
        elif default not in chosen:
            self.report(
                ".default",
                f"{default!r} is not among the choices",
                did_you_mean(str(default), map(str, chosen)),
            )
            return parameter
        return Categorical(
            name=parameter.name, when=parameter.when, choices=tuple(chosen), ordered=number, default=default
        )

    def _range(self, parameter: Float | Int, raw: Mapping[str, object]) -> Parameter:
        whole = isinstance(parameter, Int)
        numbers: dict[str, Any] = {}
        for field in ("low", "high", "step", "default"):
            if raw.get(field) is not None:
                numbers[field] = self.number(raw[field], f".{field}", whole=whole)
        log = raw.get("log", parameter.log)
        if not isinstance(log, bool):
            self.report(".log", f"{log!r} is not true or false", "Write log: true or log: false.")
        if None in numbers.values() or not isinstance(log, bool):
            return parameter
        low, high = numbers.get("low", parameter.low), numbers.get("high", parameter.high)
        step = numbers.get("step", (1 if whole else None) if log else parameter.step)
        if not self.check_range(parameter, low, high, log, step, raw):
            return parameter
        # Without a default the class uses the middle value, so the earlier default is applied afterwards.
        fresh = replace(parameter, low=low, high=high, log=log, step=step, default=None)  # type: ignore[arg-type]
        wanted = numbers.get("default", parameter.default)
        if "default" in numbers and not low <= wanted <= high:
            self.report(".default", f"{wanted:g} is outside {low:g} to {high:g}", "Move it inside.")
            return parameter
        return replace(fresh, default=_nearest(fresh, wanted))


def _fields(parameter: Parameter) -> tuple[str, ...]:
    if isinstance(parameter, TopLayers):
        return (*_LAYER_FIELDS, "when")
    if isinstance(parameter, Float | Int):
        profile = ("profile", "sides") if isinstance(parameter, Int) and parameter.by_layer else ()
        return (*_NUMBER_FIELDS, *profile, "when")
    return (*_CHOICE_FIELDS, *(("subset", "sides") if is_targets_parameter(parameter) else ()), "when")


def _closest(choices: list[Any], wanted: Any) -> Value:
    if wanted is None:  # layers without a default: all of them
        return choices[-1]
    return min(choices, key=lambda choice: abs(choice - wanted))


def _nearest(parameter: Float | Int, wanted: float) -> Value:
    """Return the valid value that is nearest to `wanted`, which is `wanted` itself if it is valid."""
    clipped = min(max(wanted, parameter.low), parameter.high)
    snapped = parameter.from_unit(parameter.to_unit(clipped))
    return clipped if math.isclose(snapped, clipped, rel_tol=1e-9, abs_tol=1e-12) else snapped


def profile(entry: Override, parameter: Int, raw: Mapping[str, object]) -> Parameter:
    """Override a rank by a profile over the layers; low, high and default are those of its level."""
    if not isinstance(raw["profile"], bool):
        entry.report(".profile", f"{raw['profile']!r} is not true or false", "Write profile: true.")
        return parameter
    extra = next((field for field in ("log", "step") if field in raw), None)
    if extra is not None and raw["profile"]:
        entry.report(f".{extra}", "a profile is logarithmic and has no steps", "Drop it.")
        return parameter
    rest = {field: value for field, value in raw.items() if field != "profile"}
    level = entry.apply(parameter, rest) if rest else parameter
    if not raw["profile"] or not isinstance(level, Int):
        return level
    return RankProfile(
        name=parameter.name, when=parameter.when, low=level.low, high=level.high, default=level.default
    )


def sides(entry: Override, parameter: Parameter, raw: Mapping[str, object]) -> Parameter:
    """Override a parameter per side of an encoder-decoder: `sides: true`, or a mapping of overrides per side."""
    wanted = raw["sides"]
    both = {field: value for field, value in raw.items() if field != "sides"}
    if wanted is False:
        return entry.apply(parameter, both)
    own = {} if wanted is True else wanted
    if not isinstance(own, Mapping) or not set(own) <= set(SIDES):
        fix = "Write true, or overrides per side: {encoder: ..., decoder: ...}."
        entry.report(".sides", f"{wanted!r} is not true or a mapping of sides", fix)
        return parameter
    parts: list[Parameter] = []
    for side in SIDES:
        change = own.get(side, {})
        if isinstance(change, Mapping):
            if "sides" in change:
                entry.report(f".sides.{side}", "sides cannot be nested", "Write sides once.")
                return parameter
            change = {**both, **change}
        where = f"{entry.where}.sides.{side}" if side in own else entry.where
        parts.append(Override(where, entry.problems).apply(parameter, change))
    return Sides(name=parameter.name, when=parameter.when, encoder=parts[0], decoder=parts[1])
