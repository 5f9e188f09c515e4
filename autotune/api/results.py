"""The results of a sweep for notebooks and scripts: data frames, points, figures and a short summary."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from autotune import figures
from autotune.api.argument_names import python_argument_names
from autotune.api.point import Point, make_point
from autotune.export.run_folder import export_run as write_run
from autotune.export.scaling import read_target
from autotune.report.agreement import RankAgreement, rank_agreement
from autotune.report.headline import Fact, headline, summary
from autotune.results.selection import pick_with_reason
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.results.tables import front_table
from autotune.sweep.schema import Sweep


class SweepResults:
    """The results of a sweep, finished or not, as its folder holds them.

    Make one with `autotune.run` or `autotune.load_results`. It is a snapshot: load it again to see later trials.

    Example:
        >>> results = autotune.load_results("sweeps/quickstart")
        >>> results.front[["trial", "accuracy", "trainable_params"]]
        >>> results.knee().export("runs/knee")
        >>> results.plot_front()
    """

    def __init__(self, tables: SweepTables) -> None:
        self._tables = tables

    @property
    def folder(self) -> Path:
        """The sweep's folder."""
        return self._tables.folder

    @property
    def sweep(self) -> Sweep:
        """The sweep with every default resolved."""
        return self._tables.sweep

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial.

        Columns: `trial` (number), `status` (complete, paused, stopped, pruned, failed, lost, running), `started`,
        `finished`, `elapsed` (wall seconds of search at its end), `seconds` (from its start to its end), `seed`,
        `error`, `share` (of its full training), `config` (the configuration as a dict), `feasible` (within the hard
        limits), `on_search_front` and `on_front` (before and after the confirmation), `runs` (complete trials of the
        same configuration), one column per objective under its name (NaN unless complete), `pooled.NAME` for its mean
        over these trials, by which the trial is feasible and on the front (only where some configuration ran more
        than once), `param.NAME` per parameter (missing where inactive), `metric.NAME` per validation score,
        `posterior.NAME` and `posterior_sd.NAME` per score (where the noise is worth it) and `cost.NAME` per cost. A
        sweep with a ladder also has `rung`, the highest rung that the trial reached.
        """
        return self._tables.trials

    @cached_property
    def front(self) -> pd.DataFrame:
        """One row per point of the Pareto front, in ascending order of the second objective; with one objective, the
        best trial.

        Columns: `trial`; `search_runs`; every objective with its value in the search (the mean of these runs); for
        every score `posterior.NAME` and `posterior_sd.NAME` (where the noise is worth it), `confirmed.NAME` with
        `confirmed.NAME.low` and `.high` (mean and 95 % t interval over the report seeds, on validation data),
        `test.NAME` with `.low` and `.high` (the same on test data) and `estimate.NAME`, by which points are on the
        front; `report_seeds`; every other cost as `cost.NAME`; every parameter as `param.NAME` (missing where
        inactive). `front.csv` holds the same table.
        """
        return front_table(self._tables)

    @property
    def curves(self) -> pd.DataFrame:
        """One row per point of a validation curve: `trial`, `step`, `samples`, `metric.NAME`."""
        return self._tables.curves

    @property
    def confirmations(self) -> pd.DataFrame:
        """One row per confirmation run: `trial`, `seed`, `elapsed`, `as_search` (whether it has the fidelity of the
        search), `metric.NAME` (validation), `test.NAME`."""
        return self._tables.confirmations

    @cached_property
    def rank_agreement(self) -> RankAgreement | None:
        """How far the search's ranking of the confirmed points held; None for fewer than three points.

        `spearman` and `kendall` have a `value` and a 95 % interval (`low`, `high`), `points` the place of each point,
        and `summary` one sentence.
        """
        return rank_agreement(self._tables)

    @property
    def baselines(self) -> Mapping[str, float]:
        """The task's metric on validation data without an adapter, by the baseline's name."""
        return self._tables.baselines

    @property
    def hypervolume(self) -> float:
        """The share of the box between ideal and reference values that the reported front dominates, in [0, 1].

        The points of the front have their estimates from confirmation runs, if any. With one objective it is the
        share of the way from the reference to the ideal value.
        """
        return self._tables.hypervolume

    def best(self, *, where: str | Sequence[str] = ()) -> Point:
        """Return the point with the best quality, by estimates from confirmation runs if any; see `pick`."""
        return self.pick("best", where=where)

    def knee(self, *, where: str | Sequence[str] = ()) -> Point:
        """Return the recommended point: the knee, or, if the front has no bend, the smallest point within one
        standard error of the best. `Point.reason` says which; see `pick`."""
        return self.pick("knee", where=where)

    def smallest(self, *, where: str | Sequence[str] = ()) -> Point:
        """Return the point with the fewest trainable parameters that beats the untrained baseline; see `pick`."""
        return self.pick("smallest", where=where)

    def pick(self, point: str | int = "knee", *, where: str | Sequence[str] = ()) -> Point:
        """Return a point of the front, or any complete trial.

        Args:
            point: `knee`, `best`, `smallest`, or the number of a trial.
            where: conditions that the point must meet, such as `"trainable_params <= 0.5%"` or
                `["accuracy >= 0.9", "train_flops < 1e13"]`.

        Raises:
            InvalidInputError: there is no such point, or none meets the conditions.
        """
        conditions = [where] if isinstance(where, str) else list(where)
        with python_argument_names():
            found = pick_with_reason(self._tables, str(point), conditions)
        return make_point(self._tables, found.trial, found.reason)

    def plot_front(self) -> go.Figure:
        """Plot the trials and their Pareto front in the objectives, with the confirmed means."""
        return _wide_enough(figures.plot_front(self._tables))

    def plot_hypervolume(self) -> go.Figure:
        """Plot the progress of the search over trials, training FLOPs or time.

        It is the hypervolume of the search values, with one objective its best value.
        """
        return figures.plot_hypervolume(self._tables)

    def plot_parallel_coordinates(self) -> go.Figure:
        """Plot one line per trial through its parameters and objectives."""
        return _wide_enough(figures.plot_parallel_coordinates(self._tables))

    def plot_importance(self) -> go.Figure:
        """Plot the share of each objective's variance that each parameter explains (fANOVA)."""
        return figures.plot_importance(self._tables)

    def plot_curves(self) -> go.Figure:
        """Plot the validation scores during each trial's training."""
        return figures.plot_curves(self._tables)

    def plot_probe_forecast(self) -> go.Figure:
        """Plot the forecast of `autotune probe`: scores over training data, with prediction intervals."""
        return figures.plot_probe_forecast(self._tables)

    def plot_search_laws(self) -> go.Figure:
        """Plot the best value of each hyperparameter over cost, estimated from all trials."""
        return figures.plot_search_laws(self._tables)

    def __repr__(self) -> str:
        counts = f"{len(self.trials)} trials, {len(self._tables.front)} on the front"
        return f"SweepResults({str(self.folder)!r}: {counts})"

    def __str__(self) -> str:
        """Return the summary: what was searched, the best and the recommended point, the budget."""
        lines = [summary(self._tables)]
        lines += [f"  {fact.name}: {fact.value} ({fact.note})" for fact in self._facts()]
        return "\n".join([*lines, f"  Folder: {self.folder}"])

    def _repr_html_(self) -> str:
        """Return the summary for notebooks; text from the sweep is escaped."""
        cell = '<td style="text-align: left; vertical-align: top">{}</td>'
        rows = "".join(
            "<tr>" + "".join(cell.format(html.escape(part)) for part in (f.name, f.value, f.note)) + "</tr>"
            for f in self._facts()
        )
        lead, folder = html.escape(summary(self._tables)), html.escape(str(self.folder))
        return f"<div><p>{lead}</p><table>{rows}</table><p>Folder: <code>{folder}</code></p></div>"

    def _facts(self) -> list[Fact]:
        return headline(self._tables)


def _wide_enough(figure: go.Figure) -> go.Figure:
    """Fix the width of a figure that is unreadable below its least width; a notebook then scrolls it."""
    least = (figure.layout.meta or {}).get("min_width", 0)
    return figure.update_layout(width=least) if least else figure


def load_results(folder: str | PathLike[str]) -> SweepResults:
    """Read the results of a sweep from its folder; the sweep may still be running, and nothing is changed.

    Args:
        folder: of the sweep, such as `sweeps/quickstart`.

    Raises:
        InvalidInputError: the folder holds no sweep.
    """
    with python_argument_names():
        return SweepResults(read_tables(Path(folder)))


def export_run(
    results: SweepResults | str | PathLike[str],
    folder: str | PathLike[str],
    *,
    pick: str | int = "knee",
    where: str | Sequence[str] = (),
    scale_to: str | None = None,
) -> Path:
    """Write a training run of one point, which needs only transformers, peft and datasets.

    Args:
        results: the results of a sweep, or its folder.
        folder: to write; it must be new or empty.
        pick: `knee`, `best`, `smallest`, or the number of a trial.
        where: conditions that the point must meet; see `SweepResults.pick`.
        scale_to: a larger run to carry the point to: `tokens=20M`, `model=NAME`, or both with a comma between.

    Returns:
        the folder, with adapter_config.json, training_args.json, train.py and a README.

    Raises:
        InvalidInputError: there is no such point, or the folder is not empty.
    """
    found = results if isinstance(results, SweepResults) else load_results(results)
    conditions = [where] if isinstance(where, str) else list(where)
    with python_argument_names():
        target = None if scale_to is None else read_target(scale_to)
        return write_run(found._tables, str(pick), conditions, str(folder), target)
