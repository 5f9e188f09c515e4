"""Figures of scaling laws: measured losses, the law with its band, and the loss around the best settings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import hex_to_rgb

from autotune.figures.style import PALETTE, QUALITY_SCALE, finish, text
from autotune.laws.fits import LossFit, StepFit
from surrogates.laws.fitting import LEVEL
from surrogates.laws.functional_forms import Array

_AHEAD = 8.0
"""The factor beyond the largest measured scale to which a law is drawn."""
_LEVELS = 5
_HEIGHT = 460


def plot_fit(fit: LossFit | StepFit) -> go.Figure:
    """Plot a fitted law: of the loss, or of the best hyperparameters."""
    if isinstance(fit, LossFit):
        return plot_law(fit)
    middle = {name: float(np.exp(c)) for name, c in zip(fit.law.scales, fit.law.center, strict=True)}
    return plot_valley(fit, middle)


def law_view(fit: LossFit, level: float = LEVEL) -> pd.DataFrame:
    """Compute what `plot_law` draws: `line` (the value of the other scale, or 0), `x`, `value`, `low`, `high`.

    `x` is the tokens, or the only scale. A law of two scales has one line for each of up to five values of the first.
    """
    X = fit.points.X
    over = X[:, min(1, X.shape[1] - 1)]
    reach = np.geomspace(over.min(), _AHEAD * over.max(), 80)
    parts = []
    for line in _lines(X):
        others = [] if X.shape[1] == 1 else [np.full(len(reach), line)]
        # Over tokens, the unique ones stay at their median.
        unique = [np.minimum(reach, np.median(X[:, 2]))] if X.shape[1] == 3 else []
        at = np.column_stack([*others, reach, *unique])
        predicted = fit.choice.predict(at, level)
        parts.append(
            pd.DataFrame(
                {
                    "line": line,
                    "x": reach,
                    "value": predicted.value,
                    "low": predicted.low,
                    "high": predicted.high,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def plot_law(fit: LossFit, level: float = LEVEL) -> go.Figure:
    """Plot measured losses and the chosen law or baseline with its band, on logarithmic axes."""
    view, figure, X = law_view(fit, level), go.Figure(), fit.points.X
    which = 0 if X.shape[1] == 1 else 1
    lines = _lines(X)
    nearest = (
        np.abs(np.log(X[:, :1]) - np.log(lines)).argmin(axis=1) if X.shape[1] > 1 else np.zeros(len(X), int)
    )
    for i, line in enumerate(lines):
        part, color, rows = view[view["line"] == line], PALETTE[i % len(PALETTE)], nearest == i
        name = "law" if X.shape[1] == 1 else f"{text(fit.points.columns[0])} near {line:.2g}"
        _band(figure, part, color)
        figure.add_scatter(
            x=part["x"], y=part["value"], mode="lines", line={"color": color}, name=name, legendgroup=name
        )
        figure.add_scatter(
            x=X[rows, which], y=fit.points.loss[rows], mode="markers", name="measured", legendgroup=name,
            marker={"color": color, "size": 6}, showlegend=X.shape[1] == 1,
        )  # fmt: skip
    figure.update_xaxes(type="log", title=text(fit.points.columns[which]))
    figure.update_yaxes(type="log", title=text(fit.points.loss_column))
    return finish(figure, f"{text(fit.choice.chosen)}, with {100 * level:.0f} % intervals", _HEIGHT)


def plot_valley(fit: StepFit, scales: Mapping[str, float], within: float = 0.002) -> go.Figure:
    """Plot the excess loss of settings at given scales, and the plateau within a tolerance of the best."""
    law = fit.law
    best = law.optimum(scales, within)
    axes = [np.geomspace(best[k].value / 8, best[k].value * 8, 61) for k in law.hyperparameters]
    where = ", ".join(f"{text(name)} {value:.3g}" for name, value in scales.items())
    figure = go.Figure()
    if len(axes) == 1:
        cost = [100 * law.excess({law.hyperparameters[0]: x}, scales) for x in axes[0]]
        figure.add_scatter(x=axes[0], y=cost, mode="lines", line={"color": PALETTE[0]}, name="cost")
        plateau = best[law.hyperparameters[0]].plateau
        figure.add_vrect(x0=plateau[0], x1=plateau[1], fillcolor=PALETTE[2], opacity=0.15, line_width=0)
        figure.update_yaxes(title="% above the best loss")
    else:
        grid = [
            [
                min(100 * law.excess({law.hyperparameters[0]: x, law.hyperparameters[1]: y}, scales), 3.0)
                for x in axes[0]
            ]
            for y in axes[1]
        ]
        scale = [[1 - share, color] for share, color in reversed(QUALITY_SCALE)]
        figure.add_heatmap(
            x=axes[0], y=axes[1], z=grid, colorscale=scale, colorbar={"title": {"text": "% above the best"}}
        )
        figure.add_contour(
            x=axes[0], y=axes[1], z=grid, showscale=False, hoverinfo="skip", contours_coloring="none",
            contours={"start": 100 * within, "end": 100 * within, "size": 1}, line={"color": PALETTE[1], "width": 2},
        )  # fmt: skip
        figure.update_yaxes(type="log", title=text(law.hyperparameters[1]))
    figure.update_xaxes(type="log", title=text(law.hyperparameters[0]))
    return finish(
        figure, f"Settings at {where}; the plateau is within {100 * within:g} % of the best loss", _HEIGHT
    )


def _lines(X: Array) -> Array:
    if X.shape[1] == 1:
        return np.zeros(1)
    levels = np.unique(X[:, 0])
    if len(levels) <= _LEVELS:
        return levels
    return np.exp(np.quantile(np.log(X[:, 0]), np.linspace(0.1, 0.9, _LEVELS)))


def _band(figure: go.Figure, part: pd.DataFrame, color: str) -> None:
    red, green, blue = hex_to_rgb(color)
    figure.add_scatter(
        x=[*part["x"], *part["x"][::-1]], y=[*part["high"], *part["low"][::-1]], fill="toself", mode="lines",
        line={"width": 0}, fillcolor=f"rgba({red},{green},{blue},0.15)", hoverinfo="skip", showlegend=False,
    )  # fmt: skip
