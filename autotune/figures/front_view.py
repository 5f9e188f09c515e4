"""The values behind the plot of the front: points, the front's line, marked values and the initial window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.figures.trial_points import families, positions, trial_points, zero_edge
from autotune.formatting.units import is_share, label, quantity, within_sentence
from autotune.objectives import Objective
from autotune.pareto import non_dominated
from autotune.results.tables import confirmation_statistics, quality
from autotune.results.trial_tables import TrialTables

_NEAR = 1.6
"""The factor by which a marked value may enlarge the initial window; one farther off stays outside."""
_MOST = 0.9
"""The share of the trials off the front inside the initial window of a linear axis."""


@dataclass(frozen=True)
class FrontView:
    """What the figure of the front shows.

    Args:
        objectives: in the order of the sweep.
        quality: the objective that the baselines belong to.
        points: one row per complete trial: `results.trials` with `family` and `hover`.
        confirmed: by objective, its `confirmation_statistics`, one row per confirmed trial; empty for costs.
        baselines: values of the quality without an adapter, by name.
        groups: the families, in the order of their colors.
    """

    objectives: tuple[Objective, ...]
    quality: Objective
    points: pd.DataFrame
    confirmed: dict[str, pd.DataFrame]
    baselines: dict[str, float]
    groups: list[str]

    @property
    def front(self) -> pd.DataFrame:
        """The points that no other dominates in all objectives together."""
        return self.points[self.points["on_front"]]


@dataclass(frozen=True)
class Mark:
    """A line at one value of an objective."""

    kind: Literal["limit", "reference", "baseline"]
    value: float
    words: str


def front_view(results: TrialTables) -> FrontView:
    """Return the values to draw.

    Raises:
        NothingToShowError: no trial is complete.
    """
    best = quality(results)
    return FrontView(
        objectives=results.objectives,
        quality=best,
        points=trial_points(results),
        confirmed={o.name: confirmation_statistics(results, o.name) for o in results.objectives},
        baselines=dict(results.baselines) if results.metric == best.name else {},
        groups=families(results),
    )


def staircase(view: FrontView, x: Objective, y: Objective) -> tuple[list[float], list[float]]:
    """Return the corners of the front in two of the objectives, best `x` first.

    Its points are feasible and not dominated in these two objectives. The line continues to the references, where the
    objectives have them, so that the area that it encloses is the hypervolume. Values are not losses.
    """
    rows = view.points[view.points["feasible"]]
    if rows.empty:
        return [], []
    losses = np.column_stack([x.loss(rows[x.name]), y.loss(rows[y.name])])
    kept = np.flatnonzero(non_dominated(losses))
    kept = kept[np.argsort(losses[kept, 0])]
    xs, ys = rows[x.name].to_numpy(dtype=float)[kept], rows[y.name].to_numpy(dtype=float)[kept]
    corners = [(xs[0], ys[0])]
    for k in range(1, len(kept)):
        corners += [(xs[k], ys[k - 1]), (xs[k], ys[k])]
    if y.reference is not None and y.loss(y.reference) > losses[kept[0], 1]:
        corners.insert(0, (xs[0], y.reference))
    if x.reference is not None and x.loss(x.reference) > losses[kept[-1], 0]:
        corners.append((x.reference, ys[-1]))
    return [float(corner[0]) for corner in corners], [float(corner[1]) for corner in corners]


def marks(view: FrontView, objective: Objective) -> list[Mark]:
    """Return limits, baselines, and the reference unless another mark has the same value."""
    found = [
        Mark("limit", value, f"limit {quantity(objective.name, value)}")
        for value in objective.limits
        if math.isfinite(value)
    ]
    if objective is view.quality:
        found += [
            Mark("baseline", value, f"{name} {quantity(objective.name, value)}")
            for name, value in view.baselines.items()
        ]
    reference = objective.reference
    if reference is not None and all(not math.isclose(reference, mark.value) for mark in found):
        found.append(Mark("reference", reference, "reference"))
    return found


def opening_window(view: FrontView, objective: Objective) -> tuple[float, float]:
    """Return the initial range of an axis, low to high, in the axis' units (powers of ten where logarithmic).

    It contains the front with its intervals and most other trials (all of them on a logarithmic axis), so that a
    diverged trial does not compress the rest. Marks are included if they are near. Shares stay within [0, 1], which
    the t interval of two seeds can exceed by far.
    """
    values = view.points[objective.name].to_numpy(dtype=float)
    losses = objective.loss(values)
    on_front = view.points["on_front"].to_numpy(dtype=bool)
    share = _MOST if objective.scale == "linear" else 1.0
    ends = values[on_front | (losses <= np.quantile(losses, share))]
    intervals = view.confirmed[objective.name][["mean", "low", "high"]].to_numpy(dtype=float).ravel()
    edge = zero_edge(objective, values)
    intervals = intervals[~np.isnan(intervals)]
    if is_share(objective.name):
        intervals = np.clip(intervals, 0.0, 1.0)
    inside = axis_units(objective, np.concatenate([ends, intervals]), edge)
    low, high = float(inside.min()), float(inside.max())
    for mark in marks(view, objective):
        if objective.scale == "log" and mark.value <= 0:
            continue
        place = float(axis_units(objective, np.array([mark.value]), edge)[0])
        if max(high, place) - min(low, place) <= _NEAR * (high - low):
            low, high = min(low, place), max(high, place)
    pad = 0.06 * (high - low) or 0.02 * abs(high) or 0.5
    return low - pad, high + pad


def axis_units(objective: Objective, values: NDArray[np.float64], edge: float | None) -> NDArray[np.float64]:
    """Return values in the units of an axis: powers of ten where it is logarithmic."""
    return np.log10(positions(values, edge)) if objective.scale == "log" else values


def front_title(view: FrontView) -> str:
    """Return the result that the figure shows, in a sentence."""
    front, total = view.front, len(view.points)
    if front.empty:
        return f"None of the {total} complete trials is within the limits"
    ends = []
    for objective in view.objectives[:2]:
        name, values = objective.name, front[objective.name]
        low, high = quantity(name, values.min()), quantity(name, values.max())
        ends.append(f"{within_sentence(label(name))} {low if low == high else f'{low} to {high}'}")
    noun = "trial" if total == 1 else "trials"
    verb = "is" if len(front) == 1 else "are"
    return f"{len(front)} of {total} complete {noun} {verb} on the front: {', '.join(ends)}"
