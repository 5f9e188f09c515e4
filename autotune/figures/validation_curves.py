"""Validation curves: loss and metric during the training of each trial."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autotune.figures.style import FAINT, SYMBOLS, NothingToShowError, finish, looks, says_why, text
from autotune.figures.trial_points import families, family_of
from autotune.formatting.units import axis, counted, label, quantity, value_text
from autotune.results.tables import quality
from autotune.results.trial_tables import TrialTables

_LOG_SPAN = 20.0
"""The ratio of the greatest to the least value above which the axis is logarithmic."""


@dataclass(frozen=True)
class CurvesView:
    """Validation curves.

    Args:
        names: the scores shown, `eval_loss` first where it was recorded.
        table: one row per point, in the order of trial and samples: `trial`, `samples`, `on_front`, `family`, one
            column per score and, in a sweep with a ladder, `rung`.
    """

    names: list[str]
    table: pd.DataFrame


def curves_view(results: TrialTables) -> CurvesView:
    """Return the curves of the trials of every status.

    Raises:
        NothingToShowError: no curve was recorded.
    """
    wanted = dict.fromkeys(["eval_loss", results.metric, quality(results).name])
    columns = {f"metric.{name}": name for name in wanted if f"metric.{name}" in results.curves}
    names = [name for column, name in columns.items() if results.curves[column].notna().any()]
    if results.curves.empty or not names:
        raise NothingToShowError("No validation curve was recorded.")
    about = [name for name in ("trial", "on_front", "rung") if name in results.trials]
    trials = results.trials[about].assign(family=family_of(results.trials))
    table = results.curves[["trial", "samples", *columns]].rename(columns=columns).merge(trials, on="trial")
    table["on_front"] = table["on_front"].astype(bool)
    return CurvesView(names, table.sort_values(["trial", "samples"], ignore_index=True))


@says_why("Validation curves")
def plot_curves(results: TrialTables) -> go.Figure:
    """Plot validation loss and metric over training examples seen, with the trials on the front in color.

    Returns:
        a figure; it contains the reason if no curve was recorded.
    """
    view = curves_view(results)
    front = sorted(view.table.loc[view.table["on_front"], "trial"].unique())
    figure = make_subplots(len(view.names), 1, shared_xaxes=True, vertical_spacing=0.07)
    colors = looks(families(results))
    for row, name in enumerate(view.names, start=1):
        figure.add_trace(_background(view, name, legend=row == 1), row=row, col=1)
        named: set[str] = set()
        for trial in front:
            points = view.table[view.table["trial"] == trial]
            family = points["family"].iloc[0]
            color, symbol, _ = colors[family]
            figure.add_trace(
                go.Scatter(
                    x=points["samples"], y=points[name], mode="lines+markers", name=text(family),
                    legendgroup=family, showlegend=row == 1 and family not in named,
                    line={"color": color, "width": 2},
                    marker={"size": 6, "symbol": symbol, "color": color}, hoverinfo="text",
                    hovertext=_hovers(points, name),
                ),
                row=row, col=1,
            )  # fmt: skip
            named.add(family)
        figure.update_yaxes(axis(name), row=row, col=1)
        values = view.table[name].dropna()
        if values.min() > 0 and values.max() / values.min() > _LOG_SPAN:
            figure.update_yaxes(type="log", row=row, col=1)
    figure.update_xaxes(title_text=results.curve_axis, row=len(view.names), col=1)
    figure.update_xaxes(rangemode="tozero", tickformat="~s")
    total = view.table["trial"].nunique()
    title = f"Validation curves of {counted(total, 'trial')}; {len(front)} on the front in color"
    return finish(figure, title, height=180 + 250 * len(view.names))


def _background(view: CurvesView, name: str, *, legend: bool) -> go.Scatter:
    """Return all curves of trials off the front as one trace with gaps."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    hovers: list[str] = []
    for _, points in view.table[~view.table["on_front"]].groupby("trial"):
        xs += [*points["samples"], None]
        ys += [*points[name], None]
        hovers += [*_hovers(points, name), ""]
    return go.Scatter(
        x=xs, y=ys, mode="lines+markers", name="not on the front", legendgroup="rest", hoverinfo="text",
        hovertext=hovers, showlegend=legend and bool(xs), line={"color": FAINT, "width": 1},
        marker={"size": 3.5, "color": FAINT, "symbol": SYMBOLS[0]}, opacity=0.75,
    )  # fmt: skip


def _hovers(points: pd.DataFrame, name: str) -> list[str]:
    return [
        f"<b>Trial {row['trial']}</b><br>{label(name)} {quantity(name, row[name])}"
        f"<br>after {value_text(row['samples'])} examples{_of_rung(row)}"
        for _, row in points.iterrows()
    ]


def _of_rung(row: pd.Series) -> str:
    """Return the rung of a trial in a sweep with a ladder: below the top it may have another base model."""
    return f"<br>rung {text(row['rung'])}" if "rung" in row and isinstance(row["rung"], str) else ""
