"""Forecast of scores with more training data, from learning curves over subsets of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from autotune.figures.style import PALETTE, SYMBOLS, NothingToShowError, finish, says_why
from autotune.formatting.units import axis, counted, label, quantity, value_text
from autotune.probe.forecast import FACTORS, ProbeForecast, forecast, values_of
from autotune.probe.text import expected_text, no_forecast
from autotune.results.sweep_tables import SweepTables

_SPREAD = 0.06
"""The relative horizontal offset between the intervals of neighboring points, which have the same forecast sizes."""


@dataclass(frozen=True)
class ForecastView:
    """What the figure shows for the sweep's own base model.

    Args:
        found: the forecast.
        examples: training examples per epoch, shape [n].
        scores: measured scores, shape [k, n], one row per point in the order of `found`.
    """

    found: ProbeForecast
    examples: NDArray[np.float64]
    scores: NDArray[np.float64]


def forecast_view(results: SweepTables) -> ForecastView:
    """Return the measured curves and their forecast.

    Raises:
        NothingToShowError: no point was trained on subsets of the data.
    """
    found = forecast(results)
    if found is None:
        raise NothingToShowError(no_forecast(results))
    seen = found.bases[0].curves
    return ForecastView(found, seen.examples, values_of(found.metric, seen.errors))


@says_why("With more data")
def plot_probe_forecast(results: SweepTables) -> go.Figure:
    """Plot scores over training examples: measured, and predicted with their intervals."""
    view = forecast_view(results)
    base, score = view.found.bases[0], view.found.score
    figure = go.Figure()
    for place, point in enumerate(base.points):
        color, symbol = PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)]
        name = f"trial {point.trial}"
        measured = view.scores[place]
        figure.add_scatter(
            x=view.examples, y=measured, mode="lines+markers", name=name, legendgroup=name,
            line={"color": color, "width": 2}, marker={"color": color, "symbol": symbol, "size": 6},
            hoverinfo="text",
            hovertext=[_hover(name, x, quantity(score, y)) for x, y in zip(view.examples, measured, strict=True)],
        )  # fmt: skip
        apart = (1.0 + _SPREAD) ** (place - (len(base.points) - 1) / 2)
        ahead = [
            (factor * base.examples * apart, each) for factor, each in zip(FACTORS, point.later, strict=True)
        ]
        x, y = [x for x, _ in ahead], [each.value for _, each in ahead]
        figure.add_scatter(
            x=[view.examples[-1], *x], y=[measured[-1], *y], mode="lines", legendgroup=name, showlegend=False,
            line={"color": color, "width": 1.5, "dash": "dot"}, hoverinfo="skip",
        )  # fmt: skip
        ends = [sorted((each.worst, each.best)) for _, each in ahead]
        figure.add_scatter(
            x=x, y=y, mode="markers", legendgroup=name, showlegend=False,
            marker={"color": "white", "symbol": symbol, "size": 8, "line": {"color": color, "width": 2}},
            error_y={
                "type": "data", "symmetric": False, "color": color, "thickness": 1.5, "width": 4,
                "array": [high - value for (_, high), value in zip(ends, y, strict=True)],
                "arrayminus": [value - low for (low, _), value in zip(ends, y, strict=True)],
            },
            hoverinfo="text", hovertext=[_hover(name, at / apart, expected_text(score, e)) for at, e in ahead],
        )  # fmt: skip
    figure.update_xaxes(type="log", title_text="Training examples per epoch", tickformat="~s", dtick=1)
    figure.update_yaxes(axis(score))
    words = f"{label(score)} of {counted(len(base.points), 'point')} on subsets of the data"
    title = f"{words}; open marks are predictions with {100 * view.found.level:.0f} % intervals"
    return finish(figure, title, height=480)


def _hover(name: str, examples: float, outcome: str) -> str:
    return f"<b>{name}</b><br>{outcome}<br>on {value_text(round(examples))} examples"
