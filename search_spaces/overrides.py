"""A parameter as a space file writes it.

A scalar fixes the parameter, a list gives its choices, a mapping changes single fields:

    lora.rank: 8                                       fixed
    lora.targets: ["q+v", all]                         choices
    lora.rank: {low: 1, high: 16, default: 4}          a range: low, high, log, step, default
    lora.learning_rate: {center: 3e-4, scale: 0.5}     a centre and a scale: kind, low, high, default
    lora.rank: {profile: true, high: 32}               a rank that changes over the layers: low, high, default
    lora.layers: {mask: true}                          a switch a layer
    lora.layers: {range: true}                         neighbouring layers: default
    lora.targets: {subset: true}                       a switch for each role of matrix; or {subset: [q, v, o]}
    lora.scale: {when: {lora.dora: true}}              a condition, beside any of the mappings above

`Override` reads these but the conditions, which `conditions.py` reads; `forms.py` knows the forms from
`center` on. `docs/spaces.md` shows each in a whole file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from search_spaces import forms
from search_spaces.errors import Problem, did_you_mean
from search_spaces.parameters import Categorical, Float, Int, Parameter, TopLayers, Value
from search_spaces.shapes import FUSED, TARGETS, is_targets

_NUMBER_FIELDS = ("low", "high", "log", "step", "choices", "default", *forms.CENTRED_FIELDS)
_CHOICE_FIELDS = ("choices", "default")
_LAYER_FIELDS = ("mask", "range", "low", "high", "choices", "default")

_TINY = 1e-12
_LIMITS: dict[str, tuple[float, float]] = {
    "learning_rate": (_TINY, 10.0),
    "dropout": (0.0, 0.95),
    "rank": (1, math.inf),
    "batch_size": (1, math.inf),
    "epochs": (1, math.inf),
    "weight_decay": (0.0, math.inf),
    "warmup": (0.0, 1.0),
    "cooldown": (0.0, 1.0),
    "learning_rate_factor": (_TINY, 1000.0),
    "sequence_length": (8, math.inf),
}
"""What a knob of this (local) name can take at all, whatever the family."""

_ROLES = {*TARGETS["all"], *FUSED.values()}


class Override:
    """Applies one entry of `parameters:` to a parameter; `problems` collects everything that is wrong."""

    def __init__(self, where: str, problems: list[Problem]) -> None:
        self.where = where
        self.problems = problems

    def apply(self, parameter: Parameter, given: object) -> Parameter:
        """The changed parameter, or the old one where there was a problem."""
        before = len(self.problems)
        try:
            changed = self._apply(parameter, given)
        except ValueError as error:  # a rule of the parameter's own that is not checked here
            self.wrong("", str(error).removeprefix(f"{parameter.name}: "), "Change the values.")
            return parameter
        return parameter if len(self.problems) > before else changed

    def _apply(self, parameter: Parameter, given: object) -> Parameter:
        if isinstance(given, Mapping):
            fields = _fields(parameter)
            for field in given:
                if field not in fields:
                    self.wrong(f".{field}", "unknown field", did_you_mean(str(field), fields))
            if any(field not in fields for field in given):
                return parameter
            given = {field: value for field, value in given.items() if field != "when"}
            if not given:
                return parameter
            if "choices" in given:
                return self._choices(parameter, given["choices"], given.get("default"), ".choices")
            if isinstance(parameter, TopLayers):
                return forms.layers(self, parameter, given)
            if isinstance(parameter, Float | Int):
                if any(field in given for field in forms.CENTRED_FIELDS):
                    return forms.centred(self, parameter, given, limits(parameter))
                if isinstance(parameter, Int) and "profile" in given:
                    return forms.profile(self, parameter, given)
                return self._range(parameter, given)
            assert isinstance(parameter, Categorical)
            if "subset" in given:
                return forms.subset(self, parameter, given)
            return self._choices(parameter, list(parameter.choices), given.get("default"), ".choices")
        if isinstance(given, list | tuple):
            return self._choices(parameter, given, None, "")
        if given is None:
            self.wrong(
                "", "empty", "Give a value to fix it, a list of choices, or a mapping such as {low: …}."
            )
            return parameter
        return self._choices(parameter, [given], None, "")

    def _choices(self, parameter: Parameter, given: object, default: object, field: str) -> Parameter:
        if not isinstance(given, list | tuple) or not given:
            self.wrong(field, f"{given!r} is not a list of choices", "Write them in brackets: [a, b].")
            return parameter
        values = [self._value(parameter, value, field) for value in given]
        chosen = [value for value in values if value is not None]
        if len(chosen) < len(values):
            return parameter
        if len(set(chosen)) < len(chosen):
            self.wrong(field, f"a choice appears twice in {chosen}", "Keep each once.")
            return parameter
        number = not (isinstance(parameter, Categorical) and parameter.nominal)
        if number:
            chosen = sorted(chosen)  # ordered choices: their place in the list is their place on the scale
        if default is None:
            default = _closest(chosen, parameter.default) if number else None
            if not number:
                default = parameter.default if parameter.default in chosen else chosen[0]
        elif default not in chosen:
            self.wrong(
                ".default",
                f"{default!r} is not among the choices",
                did_you_mean(str(default), map(str, chosen)),
            )
            return parameter
        return Categorical(
            name=parameter.name, when=parameter.when, choices=tuple(chosen), ordered=number, default=default
        )

    def _value(self, parameter: Parameter, value: object, field: str) -> Value | None:
        """The value as the parameter's type, or None and a problem."""
        if isinstance(parameter, Categorical):
            return self._choice(parameter, value, field)
        number = self.number(value, field, whole=not isinstance(parameter, Float))
        if number is None or not self.possible(parameter, number, field):
            return None
        return number

    def _choice(self, parameter: Categorical, value: object, field: str) -> Value | None:
        if all(
            isinstance(choice, int | float) and not isinstance(choice, bool) for choice in parameter.choices
        ):
            whole = all(isinstance(choice, int) for choice in parameter.choices)
            number = self.number(value, field, whole=whole)
            return number if number is not None and self.possible(parameter, number, field) else None
        if parameter.problem(value) is None or (_is_targets(parameter) and names_roles(value)):
            assert isinstance(value, bool | int | float | str)
            return value
        if _is_targets(parameter):
            fix = f"Write {', '.join(TARGETS)}, or roles among {', '.join(sorted(_ROLES))} joined by '+'."
        else:
            fix = did_you_mean(str(value), map(str, parameter.choices))
        self.wrong(field, f"{value!r} is not a choice", fix)
        return None

    def number(self, value: object, field: str, *, whole: bool) -> float | int | None:
        """The value as a number, or None and a problem."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.wrong(
                field, f"{value!r} is not a number", "Write a number such as " + ("8." if whole else "1e-3.")
            )
            return None
        if whole and value != int(value):
            self.wrong(field, f"{value} is not a whole number", f"Write {round(value)}.")
            return None
        return int(value) if whole else float(value)

    def possible(self, parameter: Parameter, value: float, field: str) -> bool:
        """Whether the parameter can be that number at all, or else a problem."""
        low, high = (1, math.inf) if isinstance(parameter, TopLayers) else limits(parameter)
        if low <= value <= high:
            return True
        allowed = "above 0" if low == _TINY else f"{low:g} or more"
        allowed += "" if math.isinf(high) else f", at most {high:g}"
        self.wrong(field, f"{value:g} is impossible", f"It must be {allowed}.")
        return False

    def _range(self, parameter: Float | Int, given: Mapping[str, Any]) -> Parameter:
        whole = isinstance(parameter, Int)
        numbers: dict[str, Any] = {}
        for field in ("low", "high", "step", "default"):
            if given.get(field) is not None:
                numbers[field] = self.number(given[field], f".{field}", whole=whole)
        log = given.get("log", parameter.log)
        if not isinstance(log, bool):
            self.wrong(".log", f"{log!r} is not true or false", "Write log: true or log: false.")
        if None in numbers.values() or not isinstance(log, bool):
            return parameter
        low, high = numbers.get("low", parameter.low), numbers.get("high", parameter.high)
        step = numbers.get("step", (1 if whole else None) if log else parameter.step)
        if not self._check_range(parameter, low, high, log, step, given):
            return parameter
        # The class fills in a middle value where there is no default, so the old one is clipped afterwards.
        fresh = replace(parameter, low=low, high=high, log=log, step=step, default=None)  # type: ignore[arg-type]
        wanted = numbers.get("default", parameter.default)
        if "default" in numbers and not low <= wanted <= high:
            self.wrong(".default", f"{wanted:g} is outside {low:g} to {high:g}", "Move it inside.")
            return parameter
        return replace(fresh, default=_nearest(fresh, wanted))

    def _check_range(
        self, parameter: Float | Int, low: float, high: float, log: bool, step: float | None, given: Mapping
    ) -> bool:
        before = len(self.problems)
        for field, value in (("low", low), ("high", high)):
            if field in given:
                self.possible(parameter, value, f".{field}")
        if len(self.problems) > before:
            return False
        side = "low" if "low" in given else "high"
        if low > high:
            other = "high" if side == "low" else "low"
            fix = (
                "Swap them."
                if other in given
                else f"Give {other} as well: it is {high if side == 'low' else low:g}."
            )
            self.wrong(f".{side}", f"low {low:g} is above high {high:g}", fix)
        if log and low <= 0:
            self.wrong(".low", f"{low:g} has no logarithm", "Raise low above 0, or write log: false.")
        if log and step not in (None, 1):
            self.wrong(".step", "a logarithmic range has no steps", "Drop step, or write log: false.")
        elif step is not None and step <= 0:
            self.wrong(".step", f"{step:g} is not above 0", "Give the distance between neighbours.")
        elif step is not None and not log and low <= high:
            steps = (high - low) / step
            if abs(steps - round(steps)) > 1e-6:
                good = low + math.floor(steps) * step
                self.wrong(
                    f".{side}", f"{low:g} to {high:g} is no multiple of step {step:g}", f"Use high {good:g}."
                )
        return len(self.problems) == before

    def wrong(self, field: str, what: str, fix: str) -> None:
        """Note a problem of one field, or of the whole entry where `field` is empty."""
        self.problems.append(Problem(self.where + field, what, fix))


def _fields(parameter: Parameter) -> tuple[str, ...]:
    if isinstance(parameter, TopLayers):
        return (*_LAYER_FIELDS, "when")
    if isinstance(parameter, Float | Int):
        profile = ("profile",) if isinstance(parameter, Int) and parameter.by_layer else ()
        return (*_NUMBER_FIELDS, *profile, "when")
    return (*_CHOICE_FIELDS, *(("subset",) if _is_targets(parameter) else ()), "when")


def limits(parameter: Parameter) -> tuple[float, float]:
    """What the parameter can be at all, by its local name."""
    return _LIMITS.get(parameter.name.rpartition(".")[2], (-math.inf, math.inf))


def _is_targets(parameter: Parameter) -> bool:
    return parameter.name.rpartition(".")[2] == "targets"


def names_roles(value: object) -> bool:
    """Whether the value is a set of roles as `ModelShape.select` reads it."""
    return isinstance(value, str) and is_targets(value)


def _closest(choices: list[Any], wanted: Any) -> Value:
    if wanted is None:  # layers without a default: all of them
        return choices[-1]
    return min(choices, key=lambda choice: abs(choice - wanted))


def _nearest(parameter: Float | Int, wanted: float) -> Value:
    """The value of the parameter that is nearest to `wanted`; `wanted` itself wherever it is one."""
    clipped = min(max(wanted, parameter.low), parameter.high)
    snapped = parameter.from_unit(parameter.to_unit(clipped))
    return clipped if math.isclose(snapped, clipped, rel_tol=1e-9, abs_tol=1e-12) else snapped
