"""A parameter defined by a center and a scale in place of a range.

The idea is from CARBS (Fetterman et al., 2023, arXiv 2306.08055, section 3.1): a range must contain the optimum,
whereas a center and a scale need only be near it, because the search can leave the region where it starts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from scipy.special import ndtr, ndtri

from search_spaces.parameters.types import Parameter, Value, check_default, range_problem

Kind = Literal["linear", "log", "logit"]
KINDS: tuple[str, ...] = get_args(Kind)

REACH = 8.0
"""Distance, in scales, between the center and the bounds that samplers with finite ranges use."""

UNITS_PER_SCALE = 3.0 / 16.0
"""The unit interval spans the middle 5 1/3 scales, which contain 99 % of the prior.

The range of `REACH` scales on each side then spans 3 units, which are 3 radians on the circle of the kernel in
`surrogates/kernels.py`: less than half a turn, so that the distance increases with the difference.
"""

_EXPONENTS = 300.0
_ODDS = 12.0
"""Decades beyond which numbers (`_EXPONENTS`) and odds (`_ODDS`) are lost to rounding."""
_LARGEST_WHOLE = 2.0**31


@dataclass(frozen=True, kw_only=True)
class Centered(Parameter):
    """A number with a normal prior around `center`.

    Args:
        center: mean of the prior, and the default unless another one is given.
        scale: standard deviation of the prior: for `linear` in the number's own unit, for `log` in decades, for
            `logit` (a share between 0 and 1) in decades of its odds. 0.3 decades are a factor of two.
        kind: transformation under which the prior is normal: `linear`, `log` or `logit`.
        low: lower bound, inclusive; at most `REACH` scales below the center.
        high: upper bound, inclusive; at most `REACH` scales above the center.
        whole: whether values are rounded to whole numbers.
    """

    center: float
    scale: float
    kind: Kind = "linear"
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"{self.name}: scale {self.scale} is not above 0; give the size of a step")
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind {self.kind!r} is not one of {', '.join(KINDS)}")
        inner, outer = {"linear": (-math.inf, math.inf), "log": (0.0, math.inf), "logit": (0.0, 1.0)}[
            self.kind
        ]
        if not inner < self.center < outer:
            raise ValueError(f"{self.name}: center {self.center} is outside {inner:g} to {outer:g}")
        middle = float(self._forward(self.center))
        limit = {"linear": math.inf, "log": _EXPONENTS, "logit": _ODDS}[self.kind]
        reach = self.scale * REACH
        low = max(self.low, float(self._backward(max(middle - reach, -limit))))
        high = min(self.high, float(self._backward(min(middle + reach, limit))))
        if self.whole:
            low, high = math.ceil(low), math.floor(min(high, _LARGEST_WHOLE))
            low = max(low, 1) if self.kind == "log" else low
        if not low <= self.center <= high:
            raise ValueError(f"{self.name}: center {self.center:g} is outside {low:g} to {high:g}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if self.default is None:
            object.__setattr__(self, "default", round(self.center) if self.whole else float(self.center))
        check_default(self)

    @property
    def unit_range(self) -> tuple[float, float]:
        return float(self.to_units(self.low)), float(self.to_units(self.high))

    def spread(self, quantile: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return quantiles of the normal prior, truncated at the bounds, in units of `to_unit`."""
        low, high = ((unit - 0.5) / UNITS_PER_SCALE for unit in self.unit_range)
        inside = ndtr(low) + np.asarray(quantile) * (ndtr(high) - ndtr(low))
        return 0.5 + UNITS_PER_SCALE * np.clip(ndtri(inside), low, high)

    def distribution(self) -> BaseDistribution:
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.kind == "log")
        return FloatDistribution(self.low, self.high, log=self.kind == "log")

    def to_units(self, values: ArrayLike) -> NDArray[np.float64]:
        """Encode numbers of any shape: 0.5 at the center, plus `UNITS_PER_SCALE` per scale."""
        scales = (self._forward(values) - self._forward(self.center)) / self.scale
        return np.asarray(0.5 + UNITS_PER_SCALE * scales)

    def from_units(self, units: ArrayLike) -> NDArray[np.float64]:
        """Decode encoded numbers of any shape; the inverse of `to_units`, clipped to the bounds."""
        scales = (np.clip(units, *self.unit_range) - 0.5) / UNITS_PER_SCALE
        values = self._backward(self._forward(self.center) + scales * self.scale)
        return np.clip(np.round(values) if self.whole else values, self.low, self.high)

    def to_unit(self, value: Value) -> float:
        return float(self.to_units(float(value)))

    def from_unit(self, unit: float) -> float | int:
        value = self.from_units(unit)
        return int(value) if self.whole else float(value)

    def problem(self, value: object) -> str | None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return f"{value!r} is not a number"
        if self.whole and not isinstance(value, int):
            return f"{value!r} is not a whole number"
        return range_problem(value, self.low, self.high)

    def _forward(self, values: ArrayLike) -> NDArray[np.float64]:
        values = np.asarray(values, dtype=float)
        if self.kind == "linear":
            return values
        return np.asarray(np.log10(values if self.kind == "log" else values / (1.0 - values)))

    def _backward(self, transformed: ArrayLike) -> NDArray[np.float64]:
        transformed = np.asarray(transformed, dtype=float)
        if self.kind == "linear":
            return transformed
        power = 10.0**transformed
        return np.asarray(power if self.kind == "log" else power / (1.0 + power))


def to_entry(parameter: Centered) -> dict[str, object]:
    """Return the mapping that stands for the parameter in a space file."""
    return {
        "center": parameter.center,
        "scale": parameter.scale,
        "kind": parameter.kind,
        "low": parameter.low,
        "high": parameter.high,
        "default": parameter.default,
    }
