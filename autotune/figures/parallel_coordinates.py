"""Parallel coordinates: one line per complete trial through its configuration and its objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from autotune.figures.style import INK, MUTED, QUALITY_SCALE, NothingToShowError, finish, says_why, text
from autotune.figures.trial_points import families, log_ticks, positions, trial_points, zero_edge
from autotune.formatting.units import label, mask_of, quantity, si, value_text
from autotune.objectives import Objective, is_cost
from autotune.results.tables import quality
from autotune.results.trial_tables import TrialTables

NOT_USED = -0.2
"""The position of an inactive parameter, in units of its axis: below the least value, with a gap."""
_LOG_SPAN = 20.0
"""The ratio of the greatest to the least positive value above which an axis is logarithmic."""
_FEW = 6
"""The number of distinct values up to which each gets a tick."""


@dataclass(frozen=True)
class ParallelAxis:
    """One vertical axis.

    Args:
        title: the name of the parameter or objective.
        positions: shape [trials], one per complete trial: in [0, 1], or `NOT_USED` where inactive.
        ticks: positions and their labels, with `not used` where it occurs.
    """

    title: str
    positions: NDArray[np.float64]
    ticks: tuple[tuple[float, str], ...]


def parallel_axes(results: TrialTables) -> list[ParallelAxis]:
    """Return the axes: parameters, costs, the quality, and whether the trial is on the front.

    Families with a parameter of the same name (`lora.rank`, `dora.rank`) share its axis, provided that all or none of
    its values are numbers. A layer mask becomes the number of layers that are on. A parameter with one value has no
    axis.

    Raises:
        NothingToShowError: fewer than two trials are complete.
    """
    rows = trial_points(results)
    if len(rows) == 1:
        raise NothingToShowError("A comparison needs at least two complete trials.")
    found = [
        axis
        for title, values in merged_parameters(rows, families(results)).items()
        if (axis := _parameter_axis(title, values)) is not None
    ]
    best = quality(results)
    objectives = [*(o for o in results.objectives if o is not best), best]
    found += [_objective_axis(objective, rows[objective.name]) for objective in objectives]
    on_front = rows["on_front"].to_numpy(dtype=float)
    if 0 < on_front.sum() < len(on_front):
        found.append(ParallelAxis("On the front", on_front, ((0.0, "no"), (1.0, "yes"))))
    return found


def merged_parameters(rows: pd.DataFrame, groups: list[str]) -> dict[str, pd.Series]:
    """Return the columns of parameters by title, merged as `parallel_axes` describes; missing where inactive."""
    columns = {str(c).removeprefix("param."): rows[c] for c in rows if str(c).startswith("param.")}
    merged: dict[str, pd.Series] = {}
    masks: dict[str, pd.Series] = {}
    for name, values in columns.items():
        known = values.dropna()
        if known.empty:
            continue
        mask = mask_of(name, known.iloc[0])
        if mask is not None:
            title = f"{mask[0]} (layers on)"
            on = pd.to_numeric(values.map(float, na_action="ignore"))
            masks[title] = masks[title].add(on, fill_value=0.0) if title in masks else on
            merged[title] = masks[title]
            continue
        title = _shared_title(name, columns, groups)
        merged[title] = merged[title].where(merged[title].notna(), values) if title in merged else values
    return merged


def _shared_title(name: str, columns: Mapping[str, pd.Series], groups: list[str]) -> str:
    """Return the local name of a parameter that several families have, and the full name of any other."""
    family, dot, parameter = name.partition(".")
    if not dot or family not in groups or parameter in columns:
        return name
    sharing = [columns[f"{group}.{parameter}"] for group in groups if f"{group}.{parameter}" in columns]
    kinds = {_is_number(values) for values in sharing if values.notna().any()}
    return parameter if len(sharing) > 1 and len(kinds) == 1 else name


def _is_number(values: pd.Series) -> bool:
    known = values.dropna()
    return bool(known.map(lambda v: pd.api.types.is_number(v) and not pd.api.types.is_bool(v)).all())


def _parameter_axis(title: str, values: pd.Series) -> ParallelAxis | None:
    used = values.notna().to_numpy()
    known = values.dropna()
    if known.map(value_text).nunique() < 2 and used.all():
        return None
    if _is_number(values):
        numbers = known.to_numpy(dtype=float)
        log = numbers.min() > 0 and numbers.max() / numbers.min() >= _LOG_SPAN
        inner, ticks = _number_scale(numbers, log)
    else:
        choices = sorted(known.map(value_text).unique())
        levels = {choice: i / max(len(choices) - 1, 1) for i, choice in enumerate(choices)}
        inner = known.map(value_text).map(levels).to_numpy(dtype=float)
        ticks = [(level, choice) for choice, level in levels.items()]
    drawn = np.full(len(values), NOT_USED)
    drawn[used] = inner
    if not used.all():
        ticks = [(NOT_USED, "not used"), *ticks]
    return ParallelAxis(title, drawn, tuple(ticks))


def _number_scale(
    numbers: NDArray[np.float64], log: bool
) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Return numbers scaled to [0, 1] and ticks: every value if they are few, and otherwise round ones."""
    low, high = numbers.min(), numbers.max()

    def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
        if high == low:
            return np.full(len(values), 0.5)
        if log:
            return np.log(values / low) / np.log(high / low)
        return (values - low) / (high - low)

    distinct = np.unique(numbers)
    if len(distinct) <= _FEW:
        marks = distinct
    elif log:
        marks = np.array([low, *log_ticks(numbers), high])
    else:
        marks = np.linspace(low, high, 5)
    places = unit(marks)
    ticks = [
        (float(place), value_text(float(f"{mark:.3g}"))) for place, mark in zip(places, marks, strict=True)
    ]
    return unit(numbers), _spaced(ticks)


def _spaced(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Drop inner ticks that would touch a neighbor; keep both ends."""
    ticks = sorted(ticks)
    kept = [ticks[0]]
    for tick in ticks[1:-1]:
        if tick[0] - kept[-1][0] > 0.06 and ticks[-1][0] - tick[0] > 0.06:
            kept.append(tick)
    return [*kept, ticks[-1]] if len(ticks) > 1 else kept


def _objective_axis(objective: Objective, values: pd.Series) -> ParallelAxis:
    name = objective.name
    arrow = "↑" if objective.direction == "maximize" else "↓"
    edge = zero_edge(objective, values)
    drawn = positions(values, edge)
    log = objective.scale == "log"
    inner, _ = _number_scale(drawn, log)
    low, high = drawn.min(), drawn.max()
    if log:
        inside = log_ticks(drawn[drawn > (edge or 0)]) if (drawn > (edge or 0)).any() else []
        marks = [low, *inside, high]
    else:
        marks = list(np.linspace(low, high, 5))
    span = (np.log(high / low) if log else high - low) or 1.0
    write = si if is_cost(name) and not name.endswith("seconds") else lambda value: quantity(name, value)
    ticks = [
        (
            0.5 if high == low else float((np.log(mark / low) if log else mark - low) / span),
            "0" if edge is not None and mark == edge else write(float(mark)),
        )
        for mark in marks
    ]
    return ParallelAxis(f"{label(name)} {arrow}", inner, tuple(_spaced(ticks)))


def color_range(objective: Objective, values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the values at the ends of the color scale, from the best to the ninth decile of the losses."""
    losses = objective.loss(values)
    kept = values[losses <= np.quantile(losses, 0.9)]
    return float(kept.min()), float(kept.max())


@says_why("Configurations and objectives")
def plot_parallel_coordinates(results: TrialTables) -> go.Figure:
    """Plot configurations and objectives of the complete trials, colored by the quality.

    Returns:
        a figure; it contains the reason if fewer than two trials are complete.
    """
    axes = parallel_axes(results)
    rows = trial_points(results)
    best = quality(results)
    # Later lines cover earlier ones, so the front comes last.
    order = np.argsort(rows["on_front"].to_numpy(), kind="stable")
    dimensions = [
        {
            "label": text(axis.title), "values": axis.positions[order], "range": [NOT_USED - 0.02, 1.07],
            "tickvals": [place for place, _ in axis.ticks], "ticktext": [words for _, words in axis.ticks],
        }
        for axis in axes
    ]  # fmt: skip
    values = rows[best.name].to_numpy(dtype=float)[order]
    low, high = color_range(best, values)
    marks = np.linspace(low, high, 4) if high > low else np.array([low])
    figure = finish(go.Figure(), f"{len(rows)} configurations and their objectives", height=500)
    figure.add_trace(
        go.Parcoords(
            dimensions=dimensions, labelangle=-20, labelside="top",
            labelfont={"size": 12, "color": INK}, tickfont={"size": 11, "color": MUTED},
            rangefont={"size": 1},
            line={
                "color": values, "colorscale": [list(stop) for stop in QUALITY_SCALE],
                "reversescale": best.direction == "minimize",
                "cmin": low, "cmax": high if high > low else low + 1e-9, "showscale": True,
                "colorbar": {
                    "title": {"text": label(best.name), "side": "right"}, "thickness": 12, "outlinewidth": 0,
                    "tickvals": marks.tolist(), "ticktext": [quantity(best.name, mark) for mark in marks],
                },
            },
        )
    )  # fmt: skip
    figure.update_layout(
        margin={"l": 90, "r": 84, "t": 120, "b": 32}, meta={"min_width": 200 + 74 * len(axes)}
    )
    return figure
