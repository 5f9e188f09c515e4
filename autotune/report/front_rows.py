"""The report's table of the front: one row per point, with its configuration and its export command."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

import pandas as pd

from autotune.formatting.units import config_lines, difference, label, quantity
from autotune.objectives import is_cost
from autotune.report.headline import interval_text
from autotune.results.confirmation_runs import is_as_search
from autotune.results.estimates import POSTERIOR
from autotune.results.recommendation import recommend
from autotune.results.selection import best_trial
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import configuration, confirmation_statistics, selection_bias


@dataclass(frozen=True)
class PointRow:
    """One point of the front as printed.

    Args:
        trial: its number.
        marks: `best`, and `knee` or `recommended`.
        cells: the numbers, in the order of `point_columns`.
        config: the configuration, one line per parameter.
        command: the command that exports the point.
    """

    trial: int
    marks: tuple[str, ...]
    cells: tuple[str, ...]
    config: tuple[str, ...]
    command: str


def point_columns(results: SweepTables) -> list[str]:
    """Return the headings of the table of the front."""
    names: list[str] = []
    for objective in results.objectives:
        names.append(label(objective.name) + (", search value" if not is_cost(objective.name) else ""))
        if f"{POSTERIOR}{objective.name}" in results.trials:
            names.append("Posterior mean")
        if not is_cost(objective.name) and not confirmation_statistics(results, objective.name).empty:
            names += ["Confirmed (95 % interval)", "Seeds", _difference_heading(results), "Test"]
    if not any(objective.name == "trainable_params" for objective in results.objectives):
        names.append(label("trainable_params"))
    return [*names, label("head_params")]


def _difference_heading(results: SweepTables) -> str:
    return "Selection bias" if is_as_search(results.confirmations) else "Gain of the full budget"


def point_rows(results: SweepTables) -> list[PointRow]:
    """Return the table of the front, in the order of `results.front`."""
    front = results.front
    if front.empty:
        return []
    found = {
        o.name: confirmation_statistics(results, o.name) for o in results.objectives if not is_cost(o.name)
    }
    top = best_trial(results, front)
    recommended = recommend(results, front)
    marked = (("best", top), ("knee" if recommended.is_knee else "recommended", recommended.trial))
    return [
        PointRow(
            trial=int(row["trial"]),
            marks=tuple(mark for mark, holder in marked if holder == int(row["trial"])),
            cells=tuple(_cells(results, row, found)),
            config=tuple(config_lines(configuration(row))),
            command=export_command(results, int(row["trial"])),
        )
        for _, row in front.iterrows()
    ]


def _cells(results: SweepTables, row: pd.Series, found: dict[str, pd.DataFrame]) -> list[str]:
    cells = []
    for objective in results.objectives:
        name = objective.name
        runs = int(row.get("runs", 1))
        repeats = f" (mean of {runs} runs)" if runs > 1 and not is_cost(name) else ""
        cells.append(quantity(name, row[name]) + repeats)
        if f"{POSTERIOR}{name}" in results.trials:
            cells.append(quantity(name, row[f"{POSTERIOR}{name}"]))
        if name not in found or found[name].empty:
            continue
        if row["trial"] not in found[name].index:
            cells += ["–"] * 4
            continue
        one = found[name].loc[row["trial"]]
        bias = selection_bias(objective, row[name], one["mean"])
        shown = difference(name, bias if is_as_search(results.confirmations) else -bias)
        cells += [interval_text(name, one), str(int(one["seeds"])), shown, quantity(name, one["test"])]
    if not any(objective.name == "trainable_params" for objective in results.objectives):
        cells.append(quantity("trainable_params", row.get("cost.trainable_params", math.nan)))
    return [*cells, quantity("head_params", row.get("cost.head_params", math.nan))]


def export_command(results: SweepTables, trial: int) -> str:
    """Return the command that exports a trial of this sweep as a training run."""
    target = f"runs/{results.sweep.name}-{trial}"
    return f"autotune export {shlex.quote(str(results.folder))} --pick {trial} --to {shlex.quote(target)}"
