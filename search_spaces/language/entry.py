"""One entry of `parameters:` while it is read: its place in the file, its problems, and the shared validation."""

from __future__ import annotations

import math
from collections.abc import Mapping

from search_spaces.errors import Problem, did_you_mean
from search_spaces.model.parts import FUSED, TARGETS, is_targets
from search_spaces.parameters.types import Categorical, Float, Int, Parameter, TopLayers, Value

CENTERED_FIELDS = ("center", "scale", "kind")
"""Fields of a parameter with a center and a scale."""
ROLES = (*TARGETS["all"], *dict.fromkeys(FUSED.values()))

"""All roles that a file can name, fused matrices included."""

_TINY = 1e-12
_LIMITS: dict[str, tuple[float, float]] = {
    "learning_rate": (_TINY, 10.0),
    "dropout": (0.0, 0.95),
    "rank": (1, math.inf),
    "batch_size": (1, math.inf),
    "epochs": (_TINY, math.inf),
    "weight_decay": (0.0, math.inf),
    "warmup": (0.0, 1.0),
    "cooldown": (0.0, 1.0),
    "learning_rate_factor": (_TINY, 1000.0),
    "sequence_length": (8, math.inf),
}
"""Bounds of the valid values of a parameter by its local name, for all families."""


class Entry:
    """One entry of `parameters:`.

    Args:
        where: path of the entry in the file, such as `parameters.lora.rank`.
        problems: list to which the problems of the entry are appended.
    """

    def __init__(self, where: str, problems: list[Problem]) -> None:
        self.where = where
        self.problems = problems

    def report(self, field: str, what: str, fix: str) -> None:
        """Report a problem of one field, or of the whole entry if `field` is empty."""
        self.problems.append(Problem(self.where + field, what, fix))

    def number(self, value: object, field: str, *, whole: bool) -> float | int | None:
        """Return the value as a number, or report a problem and return None."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.report(
                field, f"{value!r} is not a number", "Write a number such as " + ("8." if whole else "1e-3.")
            )
            return None
        if whole and value != int(value):
            self.report(field, f"{value} is not a whole number", f"Write {round(value)}.")
            return None
        return int(value) if whole else float(value)

    def is_possible(self, parameter: Parameter, value: float, field: str) -> bool:
        """Return whether the number is valid for the parameter in any space; report a problem if it is not."""
        low, high = (1, math.inf) if isinstance(parameter, TopLayers) else limits(parameter)
        if low <= value <= high:
            return True
        allowed = "above 0" if low == _TINY else f"{low:g} or more"
        allowed += "" if math.isinf(high) else f", at most {high:g}"
        self.report(field, f"{value:g} is out of range", f"It must be {allowed}.")
        return False

    def value(self, parameter: Parameter, value: object, field: str) -> Value | None:
        """Return the value in the parameter's type, or report a problem and return None."""
        if isinstance(parameter, Categorical):
            return self._choice(parameter, value, field)
        number = self.number(value, field, whole=not isinstance(parameter, Float))
        if number is None or not self.is_possible(parameter, number, field):
            return None
        return number

    def _choice(self, parameter: Categorical, value: object, field: str) -> Value | None:
        if all(
            isinstance(choice, int | float) and not isinstance(choice, bool) for choice in parameter.choices
        ):
            whole = all(isinstance(choice, int) for choice in parameter.choices)
            number = self.number(value, field, whole=whole)
            return number if number is not None and self.is_possible(parameter, number, field) else None
        if parameter.problem(value) is None or (is_targets_parameter(parameter) and is_role_set(value)):
            assert isinstance(value, bool | int | float | str)
            return value
        if is_targets_parameter(parameter):
            fix = f"Write {', '.join(TARGETS)}, or roles among {', '.join(sorted(ROLES))} joined by '+'."
        else:
            fix = did_you_mean(str(value), map(str, parameter.choices))
        self.report(field, f"{value!r} is not a choice", fix)
        return None

    def check_range(
        self, parameter: Float | Int, low: float, high: float, log: bool, step: float | None, raw: Mapping
    ) -> bool:
        """Return whether a range and its step are valid; report the problems if they are not."""
        before = len(self.problems)
        for field, value in (("low", low), ("high", high)):
            if field in raw:
                self.is_possible(parameter, value, f".{field}")
        if len(self.problems) > before:
            return False
        side = "low" if "low" in raw else "high"
        if low > high:
            other = "high" if side == "low" else "low"
            fix = (
                "Swap them."
                if other in raw
                else f"Give {other} as well: it is {high if side == 'low' else low:g}."
            )
            self.report(f".{side}", f"low {low:g} is above high {high:g}", fix)
        if log and low <= 0:
            self.report(".low", f"{low:g} has no logarithm", "Raise low above 0, or write log: false.")
        if log and step not in (None, 1):
            self.report(".step", "a logarithmic range has no steps", "Drop step, or write log: false.")
        elif step is not None and step <= 0:
            self.report(".step", f"{step:g} is not above 0", "Give the distance between neighboring values.")
        elif step is not None and not log and low <= high:
            steps = (high - low) / step
            if abs(steps - round(steps)) > 1e-6:
                good = low + math.floor(steps) * step
                self.report(
                    f".{side}",
                    f"{low:g} to {high:g} is not a multiple of step {step:g}",
                    f"Use high {good:g}.",
                )
        return len(self.problems) == before


def limits(parameter: Parameter) -> tuple[float, float]:
    """Return the bounds of the valid values of a parameter, by its local name."""
    return _LIMITS.get(parameter.name.rpartition(".")[2], (-math.inf, math.inf))


def is_targets_parameter(parameter: Parameter) -> bool:
    """Return whether the parameter chooses targets."""
    return parameter.name.rpartition(".")[2] == "targets"


def is_role_set(value: object) -> bool:
    """Return whether the value is a set of roles in the notation of `ModelShape.select`."""
    return isinstance(value, str) and is_targets(value)
