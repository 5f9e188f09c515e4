"""Learning curves extrapolated to the top of the ladder, with an interval calibrated on finished curves.

A curve is a list of (fidelity, value) with rising fidelity; values are minimized.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Curve = Sequence[tuple[float, float]]

_WINDOW = 4.0
"""The line is fitted to the last two doublings. Of the laws tried on real fine-tuning curves, recorded at doubling
sizes, none extrapolated better than the slope of the last three points."""

FEWEST = 9
"""The number of finished curves below which there is no interval."""


def extrapolate(curve: Curve, fidelity: float) -> float:
    """Return the value predicted at a fidelity, by a line through the last two doublings against log fidelity.

    The line is fitted to the logarithm of the values where they are above 0, and to two points at least. Its slope is
    at most 0: a rising curve, like a single point, is predicted to keep its level.

    Args:
        curve: one point at least.
        fidelity: above that of the last point.
    """
    ends = curve[-1][0]
    recent = [point for point in curve if point[0] >= ends / _WINDOW]
    recent = [(f, y) for f, y in (recent if len(recent) > 1 else curve[-2:]) if f > 0]
    if len(recent) < 2:
        return curve[-1][1]
    positive = all(y > 0 for _, y in recent)
    x = np.log([f for f, _ in recent])
    y = np.array([math.log(y) if positive else y for _, y in recent])
    center = x.mean()
    slope = min(float((x - center) @ y / ((x - center) @ (x - center))), 0.0)
    expected = float(y.mean()) + slope * (math.log(fidelity) - center)
    return math.exp(expected) if positive else expected


def margin(here: float, fidelity: float, finished: Sequence[Curve]) -> float | None:
    """Return the number to add to an extrapolated value for the lower end of its interval.

    Every finished curve is cut at `here` and extrapolated; the margin is the most negative error. If a new curve is
    exchangeable with those n, its final value is below the lower end with a probability of at most 1 / (n + 1) (split
    conformal prediction, Vovk et al. 2005). A fixed rate of 10 % was the alternative; it missed the best
    configuration itself, which is the best because it improves more than others do.

    Args:
        here: the fidelity where the new curve ends.
        fidelity: to which it is extrapolated.
        finished: curves that may reach it.

    Returns:
        The margin, at most 0 unless every curve ended above its extrapolation; None with fewer than `FEWEST` curves.
    """
    errors = []
    for whole in finished:
        start = [point for point in whole if point[0] <= here]
        if start and whole[-1][0] >= fidelity and start[-1][0] < whole[-1][0]:
            errors.append(whole[-1][1] - extrapolate(start, fidelity))
    return min(errors) if len(errors) >= FEWEST else None
