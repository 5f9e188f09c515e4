"""Plot of the front: two objectives in one panel, three in space and in pairs, four in pairs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autotune.figures.front_view import (
    FrontView,
    Mark,
    axis_units,
    front_title,
    front_view,
    marks,
    opening_window,
    staircase,
)
from autotune.figures.style import FAINT, INK, LINE, MUTED, NothingToShowError, finish, looks, says_why, text
from autotune.figures.trial_points import objective_axis, positions, zero_edge
from autotune.formatting.units import label
from autotune.objectives import Objective, is_cost
from autotune.results.trial_tables import TrialTables

_FADED = 0.32
"""Opacity of a dominated trial."""
_CROWDED = 0.09
"""The distance of two lines, as a share of the axis, below which only one of them gets a label."""
_DASHES = {"limit": "dash", "baseline": "dash", "reference": "dot"}


@says_why("The front")
def plot_front(results: TrialTables) -> go.Figure:
    """Plot every complete trial, the front, and the confirmed means with their intervals.

    Returns:
        a figure; it contains the reason if no trial is complete, or if the sweep has one objective.
    """
    if results.has_single_objective:
        raise NothingToShowError(
            "The sweep has one objective, so its front is one trial: the best. See its progress."
        )
    view = front_view(results)
    match len(view.objectives):
        case 2:
            figure, height = make_subplots(1, 1), 540
            first, second = view.objectives
            x, y = (first, second) if is_cost(first.name) and not is_cost(second.name) else (second, first)
            _panel(figure, view, x, y, 1, 1, legend=True)
        case 3:
            figure, height = _space_and_pairs(view), 900
        case count:
            figure, height = _pairs(view, count), 270 * (count - 1) + 110
    if len(view.objectives) > 2:
        figure.update_layout(meta={"min_width": 860})
    return finish(figure, front_title(view), height)


def _space_and_pairs(view: FrontView) -> go.Figure:
    figure = make_subplots(
        2, 3, specs=[[{"type": "scene", "colspan": 3}, None, None], [{}, {}, {}]], row_heights=[0.62, 0.38],
        horizontal_spacing=0.1, vertical_spacing=0.06,
    )  # fmt: skip
    _space(figure, view)
    for column, (y, x) in enumerate(combinations(view.objectives, 2), start=1):
        _panel(figure, view, x, y, 2, column, legend=column == 1)
    return figure


def _pairs(view: FrontView, count: int) -> go.Figure:
    """Draw every pair of objectives once: one row per vertical axis, one column per horizontal axis."""
    side = count - 1
    cells: list[list[dict[str, str] | None]] = [
        [{} if c >= r else None for c in range(side)] for r in range(side)
    ]
    figure = make_subplots(side, side, specs=cells, horizontal_spacing=0.09, vertical_spacing=0.11)
    for row, column in combinations(range(count), 2):
        y, x = view.objectives[row], view.objectives[column]
        _panel(figure, view, x, y, row + 1, column, legend=(row, column) == (0, 1))
    return figure


def _panel(
    figure: go.Figure, view: FrontView, x: Objective, y: Objective, row: int, col: int, *, legend: bool
) -> None:
    """Draw two objectives in one cell of a figure."""
    place = {"row": row, "col": col}
    edges = {objective.name: zero_edge(objective, view.points[objective.name]) for objective in (x, y)}
    xs, ys = staircase(view, x, y)
    figure.add_trace(
        go.Scatter(
            x=positions(xs, edges[x.name]), y=positions(ys, edges[y.name]), mode="lines", name="Pareto front",
            line={"color": LINE, "width": 1.5}, hoverinfo="skip", legendgroup="front", showlegend=legend,
        ),
        **place,
    )  # fmt: skip
    # Intervals first, so that none hides its own mark.
    for trace in [*_confirmed_traces(view, x, y, edges, legend), *_family_traces(view, x, y, edges, legend)]:
        figure.add_trace(trace, **place)
    for objective, update in ((x, figure.update_xaxes), (y, figure.update_yaxes)):
        layout = objective_axis(objective, view.points[objective.name], vertical=objective is y)
        update({**layout, "range": opening_window(view, objective)}, **place)
    cell = figure.get_subplot(**place)
    refs = {"x": cell.xaxis.plotly_name.replace("axis", ""), "y": cell.yaxis.plotly_name.replace("axis", "")}
    for side, objective in (("x", x), ("y", y)):
        _marks(figure, view, objective, side, refs)


def _family_traces(
    view: FrontView, x: Objective, y: Objective, edges: dict[str, float | None], legend: bool
) -> list[go.Scatter]:
    """Return the marks: dominated trials faded, the front opaque, trials outside a limit open."""
    traces = []
    for group, (color, symbol, _) in looks(view.groups).items():
        rows = view.points[view.points["family"] == group]
        if rows.empty:
            continue
        common = {"mode": "markers", "name": text(group), "legendgroup": group}
        key = {"color": color, "symbol": symbol, "size": 10}
        traces.append(go.Scatter(x=[None], y=[None], marker=key, showlegend=legend, **common))
        styles = (
            (rows[~rows["on_front"] & rows["feasible"]], {"opacity": _FADED, "size": 8}),
            (rows[~rows["feasible"]], {"opacity": 0.7, "size": 8, "symbol": f"{symbol}-open"}),
            (rows[rows["on_front"]], {"size": 12, "line": {"color": "white", "width": 1.2}}),
        )
        traces += [
            go.Scatter(
                x=positions(part[x.name], edges[x.name]), y=positions(part[y.name], edges[y.name]),
                marker={**key, **marker}, hovertext=part["hover"], hoverinfo="text", showlegend=False,
                **common,
            )
            for part, marker in styles
            if not part.empty
        ]  # fmt: skip
    return traces


def _confirmed_traces(
    view: FrontView, x: Objective, y: Objective, edges: dict[str, float | None], legend: bool
) -> list[go.Scatter]:
    """Return the confirmed means with their intervals, at the known costs of their points."""
    points = view.points.set_index("trial")
    trials = [t for t in points.index if any(t in view.confirmed[o.name].index for o in (x, y))]
    if not trials:
        return []
    drawn: dict[str, Any] = {}
    for key, objective in (("x", x), ("y", y)):
        statistics = view.confirmed[objective.name].reindex(trials)
        center = statistics["mean"].fillna(points.loc[trials, objective.name].astype(float))
        drawn[key] = positions(center, edges[objective.name])
        if statistics["low"].notna().any():
            bars = [(statistics["high"] - center).fillna(0.0), (center - statistics["low"]).fillna(0.0)]
            drawn[f"error_{key}"] = {
                "type": "data", "array": bars[0], "arrayminus": bars[1],
                "color": INK, "thickness": 1.2, "width": 4,
            }  # fmt: skip
    several = any(f"error_{key}" in drawn for key in "xy")
    return [
        go.Scatter(
            **drawn, mode="markers", legendgroup="confirmed", showlegend=legend,
            name="confirmed mean, 95 % interval" if several else "confirmed value",
            marker={"symbol": "line-ew-open", "size": 13, "color": INK, "line": {"width": 2.4}},
            hovertext=points.loc[trials, "hover"], hoverinfo="text",
        )
    ]  # fmt: skip


def _marks(figure: go.Figure, view: FrontView, objective: Objective, side: str, refs: dict[str, str]) -> None:
    """Draw lines for limits, baselines and the reference, and name in a corner those outside the window."""
    low, high = opening_window(view, objective)
    far = []
    labeled: list[float] = []
    for mark in marks(view, objective):
        if objective.scale == "log" and mark.value <= 0:
            continue
        place = float(axis_units(objective, np.array([mark.value]), None)[0])
        seen = low <= place <= high
        crowded = any(abs(place - other) < _CROWDED * (high - low) for other in labeled)
        _line(figure, mark, place, side, refs, words=seen and not crowded)
        if seen and not crowded:
            labeled.append(place)
        elif not seen and mark.kind != "reference":
            arrow = ("↑" if place > high else "↓") if side == "y" else ("→" if place > high else "←")
            far.append(f"{arrow} {text(mark.words)}")
    if far:
        corner = {"x": 1, "y": 0.01} if side == "y" else {"x": 1, "y": 0.99}
        figure.add_annotation(
            text="<br>".join(far), showarrow=False, font={"size": 11, "color": MUTED}, align="right",
            xref=f"{refs['x']} domain", yref=f"{refs['y']} domain", xanchor="right",
            yanchor="bottom" if side == "y" else "top", **corner,
        )  # fmt: skip


def _line(
    figure: go.Figure, mark: Mark, place: float, side: str, refs: dict[str, str], *, words: bool
) -> None:
    """Draw a line across a cell at `place`, in the axis' units, with its label inside the cell."""
    across = "y" if side == "x" else "x"
    there = {f"{side}ref": refs[side], f"{across}ref": f"{refs[across]} domain"}
    # Shapes take a logarithmic axis in values, annotations in powers of ten.
    ends = {f"{side}0": mark.value, f"{side}1": mark.value, f"{across}0": 0, f"{across}1": 1}
    line = {"color": FAINT if mark.kind == "reference" else MUTED, "width": 1, "dash": _DASHES[mark.kind]}
    figure.add_shape(type="line", layer="below", line=line, **there, **ends)
    if not words:
        return
    # Labels of vertical lines hang from the top, where those of horizontal lines at the right edge are rare.
    upright = {"textangle": -90, "xanchor": "right", "y": 0.92, "yanchor": "top"}
    turn = upright if side == "x" else {"xanchor": "right", "x": 1, "yanchor": "bottom"}
    figure.add_annotation(
        text=text(mark.words), showarrow=False, font={"size": 11, "color": MUTED},
        **there, **{side: place}, **turn,
    )  # fmt: skip


def _space(figure: go.Figure, view: FrontView) -> None:
    """Draw three objectives in space, the first of them upwards, with stems below the points of the front."""
    order = (view.objectives[1], view.objectives[2], view.objectives[0])
    edges = [zero_edge(objective, view.points[objective.name]) for objective in order]
    figure.add_trace(_stems(view, order, edges), row=1, col=1)
    for group, (color, _, symbol) in looks(view.groups).items():
        rows = view.points[view.points["family"] == group]
        if rows.empty:
            continue
        for on_front in (False, True):
            part = rows[rows["on_front"] == on_front]
            if part.empty:
                continue
            figure.add_trace(
                go.Scatter3d(
                    **_coordinates(part, order, edges), mode="markers", name=text(group), legendgroup=group,
                    showlegend=False, hovertext=part["hover"], hoverinfo="text",
                    opacity=1.0 if on_front else _FADED,
                    # A diamond of the same size looks larger than a circle.
                    marker={
                        "color": color, "symbol": symbol,
                        "size": (6 if on_front else 3.5) * (0.75 if "diamond" in symbol else 1),
                    },
                ),
                row=1, col=1,
            )  # fmt: skip
    axes = {}
    for key, objective in zip(("xaxis", "yaxis", "zaxis"), order, strict=True):
        layout = objective_axis(objective, view.points[objective.name])
        # An arrow in a title would be wrong once the scene is turned.
        axes[key] = {
            **layout,
            "title": {"text": label(objective.name)},
            "range": opening_window(view, objective),
        }
    eye, center = {"x": -1.55, "y": -1.65, "z": 0.5}, {"x": 0, "y": 0, "z": -0.2}
    ratio = {"x": 1.4, "y": 1.4, "z": 0.9}
    figure.update_scenes(
        **axes, camera={"eye": eye, "center": center}, aspectmode="manual", aspectratio=ratio
    )


def _stems(view: FrontView, order: tuple[Objective, ...], edges: list[float | None]) -> go.Scatter3d:
    """A line from each point of the front down to the floor of the scene."""
    low, _ = opening_window(view, order[2])
    floor = 10**low if order[2].scale == "log" else low
    at = _coordinates(view.front, order, edges)
    stems: dict[str, list[float | None]] = {"x": [], "y": [], "z": []}
    for x, y, z in zip(at["x"], at["y"], at["z"], strict=True):
        stems["x"] += [x, x, None]
        stems["y"] += [y, y, None]
        stems["z"] += [z, floor, None]
    return go.Scatter3d(
        **stems, mode="lines", line={"color": FAINT, "width": 1.5}, hoverinfo="skip", showlegend=False
    )


def _coordinates(
    rows: pd.DataFrame, order: tuple[Objective, ...], edges: list[float | None]
) -> dict[str, list[float]]:
    found = [positions(rows[o.name], edge).tolist() for o, edge in zip(order, edges, strict=True)]
    return dict(zip("xyz", found, strict=True))
