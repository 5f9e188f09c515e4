"""Progress of the search over trials, training FLOPs and time: hypervolume, or the best value of one objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from autotune.figures.style import FAINT, INK, PALETTE, NothingToShowError, finish, says_why
from autotune.figures.trial_points import count_by_status, objective_axis
from autotune.formatting.units import counted, duration, label, percent, quantity, si, within_sentence
from autotune.objectives import Objective, unit_losses
from autotune.pareto import hypervolume
from autotune.results.estimates import pooled
from autotune.results.trial_tables import TrialTables


@dataclass(frozen=True)
class Progress:
    """Hypervolume after every ended trial, and the best value of a single objective.

    Args:
        table: one row per ended trial in the order of their ends, after a row of zeros. Columns: `ended` (trials so
            far), `trial`, `hypervolume` in [0, 1], with one objective `best` (its best value so far, NaN before the
            first), `seconds` (wall time of the search so far) and `flops` (the sum so far over trials that did not
            fail).
        objective: the single objective; None where there are several.
    """

    table: pd.DataFrame
    objective: Objective | None = None

    @property
    def column(self) -> str:
        """The column of the table that shows the progress."""
        return "hypervolume" if self.objective is None else "best"

    @property
    def final(self) -> float:
        """The hypervolume at the end."""
        return float(self.table["hypervolume"].iloc[-1])

    def ended_before(self, share: float) -> int:
        """Return after how many trials the front had `share` of its final hypervolume."""
        reached = self.table["hypervolume"] >= share * self.final - 1e-12
        return int(self.table.loc[reached, "ended"].iloc[0])


def progress_view(results: TrialTables) -> Progress:
    """Compute the hypervolume of the search values after each trial; the last row has `results.search_hypervolume`.

    Raises:
        NothingToShowError: no trial is complete.
    """
    ended = results.trials[results.trials["status"] != "running"]
    done = (ended["status"] == "complete").to_numpy(dtype=bool)
    if not done.any():
        raise NothingToShowError(f"No trial is complete yet ({count_by_status(results)}).")
    if "finished" in ended and ended["finished"].notna().all():
        order = ended["finished"].argsort(kind="stable").to_numpy()
        ended, done = ended.iloc[order], done[order]
    counts = done & ended["feasible"].to_numpy(dtype=bool)
    corner = np.ones(len(results.objectives))
    # An objective without bounds takes the range of all feasible trials, so that the box does not change on the way.
    units = np.full((len(ended), len(corner)), np.nan)
    units[counts] = unit_losses(results.objectives, results.values(ended[counts]))
    volumes = [0.0]
    front = np.empty((0, len(corner)))
    for point in units:
        dominated = np.isnan(point).any() or (front <= point).all(axis=1).any()
        if not dominated:
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
        volumes.append(volumes[-1] if dominated else hypervolume(front, corner))
    table = pd.DataFrame(
        {"ended": range(len(ended) + 1), "trial": [-1, *ended["trial"]], "hypervolume": volumes}
    )
    if results.has_single_objective:
        table["best"] = _best_so_far(results.objectives[0], ended, counts)
    table["seconds"] = [0.0, *ended["elapsed"].ffill().fillna(0.0).cummax()]
    if "cost.train_flops" in ended:
        paused = ended["status"].isin(["paused", "stopped"]).to_numpy(dtype=bool)
        flops = ended["cost.train_flops"] * ended["share"]
        table["flops"] = [0.0, *flops.where(done | paused, 0.0).fillna(0.0).cumsum()]
    return Progress(table, results.objectives[0] if results.has_single_objective else None)


def _best_so_far(objective: Objective, ended: pd.DataFrame, counts: NDArray[np.bool_]) -> list[float]:
    """Return the best value after 0, 1, … ended trials; NaN before the first that counts."""
    values = pooled(objective.name, ended).where(counts)
    best = values.cummax() if objective.direction == "maximize" else values.cummin()
    return [np.nan, *best.ffill()]


@says_why("Progress")
def plot_hypervolume(results: TrialTables) -> go.Figure:
    """Plot the normalized hypervolume over trials, or the best value of a single objective.

    Buttons switch the horizontal axis to training FLOPs and to time.

    Returns:
        a figure; it contains the reason if no trial is complete.
    """
    progress = progress_view(results)
    table = progress.table
    grew = table[table[progress.column].ne(table[progress.column].shift()) & table[progress.column].notna()]
    grew = grew[grew["ended"] > 0]
    figure = finish(go.Figure(), _title(progress, grew), height=400)
    fill = {"fill": "tozeroy", "fillcolor": "rgba(0,114,178,0.08)"} if progress.objective is None else {}
    figure.add_scatter(
        x=table["ended"], y=table[progress.column], mode="lines",
        line={"shape": "hv", "color": PALETTE[0], "width": 2.4}, hoverinfo="skip", showlegend=False, **fill,
    )  # fmt: skip
    figure.add_scatter(
        x=grew["ended"], y=grew[progress.column], mode="markers", showlegend=False, hoverinfo="text",
        marker={"color": PALETTE[0], "size": 9, "line": {"color": "white", "width": 1.2}},
        hovertext=[
            f"<b>Trial {row['trial']:.0f}</b> {_improvement(progress, row)}"
            f"<br>after {counted(int(row['ended']), 'trial')}, {duration(row['seconds'])}"
            for _, row in grew.iterrows()
        ],
    )  # fmt: skip
    if progress.objective is None:
        top = min(1.0, 1.12 * max(progress.final, 0.01))
        title = "Hypervolume of search values  (↑ better)"
        figure.update_yaxes(title_text=title, tickformat="~%", range=[0, top])
    else:
        figure.update_yaxes(objective_axis(progress.objective, table["best"].dropna(), vertical=True))
    _buttons(figure, table, grew)
    return figure


def _title(progress: Progress, grew: pd.DataFrame) -> str:
    """Return what the figure shows, in a sentence."""
    ended = len(progress.table) - 1
    if progress.objective is None:
        title = f"The search values dominate {percent(progress.final)} of the box between ideal and reference"
        if progress.final > 0 and ended > 3:
            title += f"; 90 % of that after {progress.ended_before(0.9)} of {ended} trials"
        return title
    if grew.empty:
        return f"None of the {counted(ended, 'ended trial')} is complete and within the limits"
    name, last = progress.objective.name, grew.iloc[-1]
    best = f"The best {within_sentence(label(name))} is {quantity(name, last['best'])}"
    return f"{best}, reached by trial {last['trial']:.0f} after {last['ended']:.0f} of {ended} trials"


def _improvement(progress: Progress, row: pd.Series) -> str:
    """Return what a trial improved, in words for its label."""
    if progress.objective is None:
        return f"extended the front<br>hypervolume {percent(row['hypervolume'])}"
    return f"is the best so far<br>{label(progress.objective.name)} {quantity(progress.objective.name, row['best'])}"


def _buttons(figure: go.Figure, table: pd.DataFrame, grew: pd.DataFrame) -> None:
    """Add the buttons that select the horizontal axis."""
    scales = [("ended", "Trials", "Trials ended")]
    if "flops" in table and table["flops"].iloc[-1] > 0:
        total = si(table["flops"].iloc[-1], "FLOPs")
        scales.append(("flops", "FLOPs", f"Cumulative training FLOPs without failed trials ({total})"))
    if table["seconds"].iloc[-1] > 0:
        total = duration(table["seconds"].iloc[-1])
        scales.append(("seconds", "Time", f"Seconds of search ({total})"))
    # Ticks at whole trials; None lets plotly choose.
    steps = {"ended": 1 if len(table) <= 12 else None}
    buttons = [
        {
            "label": name,
            "method": "update",
            "args": [
                {"x": [table[key].tolist(), grew[key].tolist()]},
                {"xaxis.title.text": words, "xaxis.autorange": True, "xaxis.dtick": steps.get(key)},
            ],
        }
        for key, name, words in scales
    ]
    figure.update_xaxes(title_text=scales[0][2], rangemode="tozero", tickformat="~s", dtick=steps["ended"])
    if len(buttons) > 1:
        figure.update_layout(updatemenus=[{
            "type": "buttons", "direction": "right", "buttons": buttons, "x": 0, "xanchor": "left", "y": 1.03,
            "yanchor": "bottom", "showactive": True, "bgcolor": "white", "bordercolor": FAINT,
            "borderwidth": 1, "font": {"size": 12, "color": INK}, "pad": {"r": 0, "t": 0, "b": 4},
        }])  # fmt: skip
