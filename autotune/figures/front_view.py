"""The front as values: points, the border of what is dominated, lines to draw and the window to open with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.figures.trial_points import families, positions, trial_points, zero_edge
from autotune.formatting.units import label, quantity, within_sentence
from autotune.objectives import Objective
from autotune.pareto import non_dominated
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmed, quality

_NEAR = 1.6
"""A mark comes into the opening window if that grows the window by no more than this factor."""
_MOST = 0.9
"""Share of the trials off the front that the opening window of a linear axis holds."""


@dataclass(frozen=True)
class FrontView:
    """What the figure of the front shows.

    Args:
        objectives: in the sweep's order.
        quality: the one of them that baselines are about.
        points: one row a complete trial: `results.trials` with `family` and `hover`.
        confirmed: by objective, one row a confirmed trial (see `autotune.results.tables.confirmed`); empty for costs.
        baselines: values of the quality that need no adapter, by name.
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
        """The points that are not dominated in all objectives together."""
        return self.points[self.points["on_front"]]


@dataclass(frozen=True)
class Mark:
    """A line at one value of an objective."""

    kind: Literal["limit", "reference", "baseline"]
    value: float
    words: str


def front_view(results: SweepTables) -> FrontView:
    """What there is to draw.

    Raises:
        NothingToShowError: no trial is complete.
    """
    best = quality(results)
    return FrontView(
        objectives=results.objectives,
        quality=best,
        points=trial_points(results),
        confirmed={o.name: confirmed(results, o.name) for o in results.objectives},
        baselines=dict(results.baselines) if results.sweep.task.metric == best.name else {},
        groups=families(results),
    )


def staircase(view: FrontView, x: Objective, y: Objective) -> tuple[list[float], list[float]]:
    """The corners of the border of what is dominated in two of the objectives, best `x` first.

    Points on it are those that the hard limits allow and no other dominates in these two objectives. Where
    the objectives have references the border runs on to them, so that the area it cuts off is the
    hypervolume. Values are the objectives' own, not losses.
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
    """Limits, then baselines, then the reference where no other mark is there already."""
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
    """The part of an axis to open with, low to high, in the axis' units (powers of ten where logarithmic).

    It holds the front with its intervals and most other trials (all of them on a logarithmic axis): a
    diverged one would press the rest together. Marks are taken in where they are near; the rest can be
    reached by zooming out.
    """
    values = view.points[objective.name].to_numpy(dtype=float)
    losses = objective.loss(values)
    on_front = view.points["on_front"].to_numpy(dtype=bool)
    share = _MOST if objective.scale == "linear" else 1.0
    ends = values[on_front | (losses <= np.quantile(losses, share))]
    intervals = view.confirmed[objective.name][["mean", "low", "high"]].to_numpy(dtype=float).ravel()
    edge = zero_edge(objective, values)
    inside = axis_units(objective, np.concatenate([ends, intervals[~np.isnan(intervals)]]), edge)
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
    """Values as an axis counts them: powers of ten where it is logarithmic."""
    return np.log10(positions(values, edge)) if objective.scale == "log" else values


def front_title(view: FrontView) -> str:
    """What is seen, in a sentence."""
    front, total = view.front, len(view.points)
    if front.empty:
        return f"None of the {total} complete trials keeps the limits"
    ends = []
    for objective in view.objectives[:2]:
        name, values = objective.name, front[objective.name]
        low, high = quantity(name, values.min()), quantity(name, values.max())
        ends.append(f"{within_sentence(label(name))} {low if low == high else f'{low} to {high}'}")
    noun = "trial" if total == 1 else "trials"
    verb = "is" if len(front) == 1 else "are"
    return f"{len(front)} of {total} complete {noun} {verb} on the front: {', '.join(ends)}"
