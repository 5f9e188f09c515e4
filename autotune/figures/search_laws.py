"""The best hyperparameters over cost: trials, the law of each hyperparameter and its band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb
from plotly.subplots import make_subplots

from autotune.figures.style import PALETTE, QUALITY_SCALE, NothingToShowError, finish, says_why, text
from autotune.formatting.units import axis, counted
from autotune.laws.sweep_law_text import missing, order
from autotune.laws.sweep_laws import POOLED_RATE, TENFOLD, SweepLaws, laws_of_sweep
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import complete_trials, quality
from surrogates.laws import SearchLaw

_MOST = 6
"""Panels of the figure; the table of the report has all laws."""
_POINTS = 24
_COLUMNS = 2


@dataclass(frozen=True)
class LawPanel:
    """What one panel shows.

    Args:
        law: the law.
        line: columns `cost`, `value`, `low`, `high`, `is_beyond` (the most expensive trial).
        trials: columns `trial`, `cost`, `value`, `share` (of the trials of a similar cost that are better).
    """

    law: SearchLaw
    line: pd.DataFrame
    trials: pd.DataFrame


def law_panels(results: SweepTables, found: SweepLaws) -> list[LawPanel]:
    """Return the panels, the most probable change first.

    Raises:
        NothingToShowError: no hyperparameter has a law.
    """
    if reason := missing(found):
        raise NothingToShowError(reason)
    trials = _trials(results, found.cost)
    return [_panel(law, trials, found.costs) for law in order(found)[:_MOST]]


def _trials(results: SweepTables, cost: str) -> pd.DataFrame:
    trials = complete_trials(results)
    objective = quality(results)
    column = cost if cost in trials else f"cost.{cost}"
    frame = trials.assign(**{"cost ": trials[column].astype(float)}).sort_values("cost ", kind="stable")
    frame = frame[frame["cost "] > 0]
    loss = np.asarray(objective.loss(frame[objective.name]))
    near = range(len(loss))
    share = [float(np.mean(loss[max(i - 5, 0) : i + 6] < loss[i])) for i in near]
    return frame.assign(**{"share ": share})


def _panel(law: SearchLaw, trials: pd.DataFrame, costs: tuple[float, float]) -> LawPanel:
    inside = np.geomspace(costs[0], costs[1], _POINTS)
    beyond = np.geomspace(costs[1], TENFOLD * costs[1], _POINTS // 2)
    rows = [
        (float(cost), *law.at(float(cost)), is_beyond)
        for part, is_beyond in ((inside, False), (beyond, True))
        for cost in part
    ]
    line = pd.DataFrame(rows, columns=["cost", "value", "low", "high", "is_beyond"])
    column = f"param.{law.name}"
    if column not in trials:
        return LawPanel(law, line, pd.DataFrame(columns=["trial", "cost", "value", "share"]))
    marks = trials[["trial", "cost ", column, "share "]].set_axis(["trial", "cost", "value", "share"], axis=1)
    return LawPanel(law, line, marks[marks["value"].notna()])


def plot_search_laws(results: SweepTables) -> go.Figure:
    """Plot the best value of each hyperparameter over cost.

    Returns:
        a figure; it contains the reason if no hyperparameter has a law.
    """
    return plot_found_laws(results, laws_of_sweep(results))


def plot_found_laws(results: SweepTables, found: SweepLaws) -> go.Figure:
    """Plot laws that are fitted already."""

    @says_why("Best hyperparameters by cost")
    def plot(results: SweepTables) -> go.Figure:
        return _drawn(law_panels(results, found), found)

    return plot(results)


def _drawn(panels: list[LawPanel], found: SweepLaws) -> go.Figure:
    rows = -(-len(panels) // _COLUMNS)
    titles = [_title(panel.law) for panel in panels]
    figure = make_subplots(
        rows, _COLUMNS, subplot_titles=titles, horizontal_spacing=0.1, vertical_spacing=0.28 / rows
    )
    for i, panel in enumerate(panels):
        _draw_panel(figure, panel, {"row": i // _COLUMNS + 1, "col": i % _COLUMNS + 1})
    figure.update_xaxes(
        {**axis(found.cost), "type": "log", "dtick": None, "title": {"text": "", "standoff": 4}}
    )
    figure.update_xaxes(title_text=text(axis(found.cost).get("title_text", found.cost)), row=rows)
    changing = sum(not panel.law.is_flat and panel.law.changes > 0.9 for panel in panels)
    verb = "changes" if changing == 1 else "change"
    title = (
        f"Best values over a cost that spans a factor of {found.span:.3g}: "
        f"{counted(changing, 'hyperparameter')} of {len(panels)} very probably {verb}"
    )
    return finish(figure, title, height=140 + 230 * rows)


def _title(law: SearchLaw) -> str:
    return text(f"{law.name} (flat)" if law.is_flat else law.name)


def _draw_panel(figure: go.Figure, panel: LawPanel, where: dict[str, int]) -> None:
    line, color = panel.line, PALETTE[0]
    red, green, blue = hex_to_rgb(color)
    figure.add_trace(
        go.Scatter(
            x=[*line["cost"], *line["cost"][::-1]], y=[*line["high"], *line["low"][::-1]],
            fill="toself", mode="lines", line={"width": 0},
            fillcolor=f"rgba({red},{green},{blue},0.15)", hoverinfo="skip", showlegend=False,
        ),
        **where,
    )  # fmt: skip
    if len(panel.trials):
        hover = [
            f"trial {t}: {v:.3g}" for t, v in zip(panel.trials["trial"], panel.trials["value"], strict=True)
        ]
        figure.add_trace(
            go.Scatter(
                x=panel.trials["cost"], y=panel.trials["value"], mode="markers", hovertext=hover, hoverinfo="text",
                showlegend=False,
                marker={
                    "size": 6, "color": 1.0 - panel.trials["share"], "cmin": 0.0, "cmax": 1.0,
                    "colorscale": [list(stop) for stop in QUALITY_SCALE],
                },
            ),
            **where,
        )  # fmt: skip
    for is_beyond, part in line.groupby("is_beyond"):
        figure.add_trace(
            go.Scatter(
                x=part["cost"], y=part["value"], mode="lines", showlegend=False,
                line={"color": color, "width": 2, "dash": "dash" if is_beyond else "solid"},
                hovertemplate="best at %{x:.3s}: %{y:.3g}<extra></extra>",
            ),
            **where,
        )  # fmt: skip
    if panel.law.scale == "log":
        figure.update_yaxes(type="log", **where)
    if panel.law.name == POOLED_RATE:
        figure.update_yaxes(title_text="multiple of the family's mean", **where)
