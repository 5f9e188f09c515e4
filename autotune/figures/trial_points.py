"""Data that all figures share: the family of a trial, its position on an axis and its hover text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from autotune.figures.style import NothingToShowError, text
from autotune.formatting.units import axis, config_lines, counted, label, quantity, si
from autotune.objectives import Objective, is_cost
from autotune.results.estimates import with_pooled
from autotune.results.tables import complete_trials, configuration, confirmation_statistics
from autotune.results.trial_tables import TrialTables

_HOVER_LINES = 14
ONE_GROUP = "trials"
"""The group of every trial in a space without families."""


def families(results: TrialTables) -> list[str]:
    """Return the groups that get a color, in alphabetical order, over trials of every status."""
    return sorted(set(family_of(results.trials)))


def family_of(trials: pd.DataFrame) -> pd.Series:
    """Return the group of every row, its adapter family."""
    if "param.family" not in trials:
        return pd.Series(ONE_GROUP, index=trials.index)
    return trials["param.family"].map(str, na_action="ignore").fillna(ONE_GROUP)


def count_by_status(results: TrialTables) -> str:
    """Return the number of trials by status: `24 complete, 4 pruned, 2 failed`."""
    counts = results.trials["status"].value_counts()
    return ", ".join(f"{count} {status}" for status, count in counts.items()) or "none has started"


def trial_points(results: TrialTables) -> pd.DataFrame:
    """Return the complete trials of `results.trials` with the further columns `family` and `hover`.

    Every objective is the mean over the trials of the same configuration, so that the front is where it is drawn.

    Raises:
        NothingToShowError: no trial is complete.
    """
    rows = with_pooled(results.objectives, complete_trials(results))
    if rows.empty:
        raise NothingToShowError(f"No trial is complete yet ({count_by_status(results)}).")
    rows["family"] = family_of(rows)
    rows["on_front"] = rows["on_front"].astype(bool)
    rows["feasible"] = rows["feasible"].astype(bool)
    scores = {
        o.name: confirmation_statistics(results, o.name) for o in results.objectives if not is_cost(o.name)
    }
    rows["hover"] = [_hover(row, results.objectives, scores) for _, row in rows.iterrows()]
    return rows


def _hover(row: pd.Series, objectives: Sequence[Objective], scores: dict[str, pd.DataFrame]) -> str:
    place = " · on the front" if row["on_front"] else "" if row["feasible"] else " · outside a limit"
    lines = [f"<b>Trial {row['trial']}</b> · {text(row['family'])}{place}"]
    for objective in objectives:
        name = objective.name
        line = f"{label(name)} <b>{quantity(name, row[name])}</b>"
        if name == "trainable_params" and row.get("cost.head_params", 0) > 0:
            line += f" + head {si(row['cost.head_params'])}"
        lines.append(line)
        if name in scores and row["trial"] in scores[name].index:
            lines.append(f"   {confirmation_text(name, scores[name].loc[row['trial']])}")
    config = [text(line) for line in config_lines(configuration(row))]
    if len(config) > _HOVER_LINES:
        config = [*config[:_HOVER_LINES], f"… and {len(config) - _HOVER_LINES} more"]
    return "<br>".join([*lines, "", *config])


def confirmation_text(name: str, found: pd.Series) -> str:
    """Return `confirmed 90.6 % (89.9 % to 91.3 %, 5 seeds), test 90.1 %`."""
    seeds = int(found["seeds"])
    inside = counted(seeds, "seed")
    if not math.isnan(found["low"]):
        inside = f"{quantity(name, found['low'])} to {quantity(name, found['high'])}, {inside}"
    words = f"confirmed {quantity(name, found['mean'])} ({inside})"
    return words if math.isnan(found["test"]) else f"{words}, test {quantity(name, found['test'])}"


def zero_edge(objective: Objective, values: ArrayLike) -> float | None:
    """Return the position of 0 on a logarithmic axis, below the least positive value; None without a 0."""
    values = np.asarray(values, dtype=float)
    if objective.scale != "log" or not (values <= 0).any():
        return None
    positive = values[values > 0]
    if len(positive) == 0:
        return 1.0
    decades = math.log10(positive.max() / positive.min())
    return float(positive.min() / 10 ** max(0.4, 0.15 * decades))


def positions(values: ArrayLike, edge: float | None) -> NDArray[np.float64]:
    """Return values as drawn: those that a logarithmic axis cannot show are moved to `edge`."""
    values = np.asarray(values, dtype=float)
    return values if edge is None else np.where(values <= 0, edge, values)


def objective_axis(objective: Objective, values: ArrayLike, vertical: bool = False) -> dict[str, object]:
    """Return the layout of the plotly axis of an objective; its title has an arrow to the better side."""
    layout = axis(objective.name)
    arrow = {
        (False, "minimize"): "←",
        (False, "maximize"): "→",
        (True, "minimize"): "↓",
        (True, "maximize"): "↑",
    }
    layout["title"] = {"text": f"{label(objective.name)}  ({arrow[vertical, objective.direction]} better)"}
    if objective.scale != "log":
        return layout
    values = np.asarray(values, dtype=float)
    edge = zero_edge(objective, values)
    drawn = positions(values, edge)
    low, high = math.log10(drawn.min()), math.log10(drawn.max())
    layout["type"] = "log"
    if edge is None:
        # Within little more than a decade plotly would label every digit; D2 labels 1, 2 and 5.
        layout["dtick"] = math.ceil((high - low) / 6) if high - low > 1.5 else "D2"
        return layout
    ticks = log_ticks(drawn[values > 0]) if (values > 0).any() else []
    layout["tickvals"] = [edge, *ticks]
    layout["ticktext"] = ["0", *(si(tick) for tick in ticks)]
    return layout


def log_ticks(values: ArrayLike) -> list[float]:
    """Return a few round ticks for positive values on a logarithmic axis: powers of ten, or 1, 2 and 5 times them."""
    values = np.asarray(values, dtype=float)
    low, high = math.log10(values.min()), math.log10(values.max())
    stride = max(1, math.ceil((high - low) / 6))
    mantissas = (1, 2, 5) if high - low < 2 else (1,)
    grid = [m * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1, stride) for m in mantissas]
    slack = 0.02 * max(high - low, 0.1)
    return [tick for tick in grid if low - slack <= math.log10(tick) <= high + slack]
