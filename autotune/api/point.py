"""A point of a finished sweep: its configuration, what it scores and costs, and what can be made of it."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

from autotune.api.adapter import peft_config, unreadable
from autotune.api.argument_names import python_argument_names
from autotune.export.run_folder import export_run
from autotune.formatting.units import config_lines, label, quantity, within_sentence
from autotune.objectives import Objective, is_cost
from autotune.prepare.chosen_model import as_trained
from autotune.results.estimates import POSTERIOR, estimates, with_pooled
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import KNOWN_COSTS
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration
from trials.base.pretrained import model_config
from trials.tasks.specs import ModelSpec, resolve_model

if TYPE_CHECKING:
    from pathlib import Path

    from peft import PeftConfig


@dataclass(frozen=True)
class Score:
    """One score of a point. Values that were not measured are NaN.

    Args:
        name: of the metric.
        searched: the value on validation data in the search, with one seed; selection makes it too good.
        confirmed: the mean on validation data over `seeds` runs with seeds that the search never used.
        interval: the 95 % t interval of `confirmed`, with the noise between seeds pooled over the points.
        test: the mean on test data over the same runs. The test data took no part in any selection.
        test_interval: the 95 % t interval of `test`.
        seeds: confirmation runs.
        posterior: the posterior mean in the search, where the noise is worth it.
        estimate: the mean of the confirmation runs with the search as one further run; it decides the front.
    """

    name: str
    searched: float
    confirmed: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    test: float = math.nan
    test_interval: tuple[float, float] = (math.nan, math.nan)
    seeds: int = 0
    posterior: float = math.nan
    estimate: float = math.nan

    def __str__(self) -> str:
        """Return `accuracy 0.91 (mean of 3 seeds; test 0.90; search 0.92)` with the metric's unit."""
        name = within_sentence(label(self.name))
        if math.isnan(self.confirmed):
            return f"{name} {quantity(self.name, self.searched)} (search value, one seed)"
        test = "" if math.isnan(self.test) else f"test {quantity(self.name, self.test)}; "
        searched = f"search {quantity(self.name, self.searched)}"
        return f"{name} {quantity(self.name, self.confirmed)} (mean of {self.seeds} seeds; {test}{searched})"


@dataclass(frozen=True)
class Point:
    """One trial of a sweep, usually from its front.

    Args:
        trial: its number.
        configuration: the value of every active parameter, by the parameter's name.
        scores: by the metric's name, one for each objective that is a score.
        costs: by name: trainable parameters, FLOPs, bytes, seconds.
        reason: why the point was picked, where a rule picked it.

    Example:
        >>> point = results.knee()
        >>> point.scores["accuracy"].confirmed
        >>> point.export("runs/knee")
    """

    trial: int
    configuration: Configuration
    scores: Mapping[str, Score]
    costs: Mapping[str, float]
    reason: str = ""
    _tables: SweepTables = field(kw_only=True, repr=False, compare=False)

    def export(self, folder: str | PathLike[str]) -> Path:
        """Write a training run of the point, which needs only transformers, peft and datasets.

        Args:
            folder: a folder that does not exist yet, or is empty.

        Returns:
            the folder, with adapter_config.json, training_args.json, train.py and a README.

        Raises:
            InvalidInputError: the folder is not empty.
        """
        with python_argument_names():
            return export_run(self._tables, str(self.trial), [], str(folder))

    def peft_config(self, model: object = None) -> PeftConfig:
        """Return the point's adapter as a configuration of peft.

        Args:
            model: as in `autotune.peft_config`; by default the base model of the point.
        """
        sweep, config = as_trained(self._tables.sweep, self.configuration, _shape_of)
        return peft_config(
            config,
            _own_model(sweep.model) if model is None else model,
            task=sweep.task.shape_task,
            trust_remote_code=sweep.model.trust_remote_code,
        )

    def __str__(self) -> str:
        """Return scores, costs and configuration, one per line."""
        lines = [f"trial {self.trial}" + (f": {self.reason}" if self.reason else "")]
        lines += [f"  {score}" for score in self.scores.values()]
        shown = ("trainable_params", *(o.name for o in self._tables.objectives))
        lines += [
            f"  {within_sentence(label(name))} {quantity(name, self.costs[name])}"
            for name in dict.fromkeys(shown)
            if name in self.costs
        ]
        return "\n".join([*lines, *(f"    {line}" for line in config_lines(self.configuration))])

    def _repr_html_(self) -> str:
        """Return the same text for notebooks, escaped."""
        return f"<pre>{html.escape(str(self))}</pre>"


def _own_model(model: ModelSpec) -> object:
    """Return the name of a base model, or its configuration if it keeps only some of its layers."""
    return resolve_model(model.name) if model.layers is None else model_config(model)


def _shape_of(sweep: Sweep) -> ModelShape:
    try:
        return read_shape(model_config(sweep.model), sweep.task.shape_task)
    except (OSError, ValueError) as error:
        raise unreadable(sweep.model.name, error) from error


def make_point(tables: SweepTables, trial: int, reason: str = "") -> Point:
    """Build the point of a complete trial."""
    rows = tables.trials[tables.trials["trial"] == trial]
    row = with_pooled(tables.objectives, rows).iloc[0].to_dict()
    names = [objective.name for objective in tables.objectives]
    costs = {
        str(column).removeprefix("cost."): float(value)
        for column, value in row.items()
        if str(column).startswith("cost.")
    }
    # An objective's own column and its cost column hold the same number; a sweep of before may lack the latter.
    costs |= {name: float(row[name]) for name in names if is_cost(name)}
    order = [*KNOWN_COSTS, *costs]
    return Point(
        trial=trial,
        configuration=dict(row["config"]),
        scores={
            objective.name: _score(tables, trial, objective, float(row[objective.name]))
            for objective in tables.objectives
            if not is_cost(objective.name)
        },
        costs={name: costs[name] for name in dict.fromkeys(order) if name in costs},
        reason=reason,
        _tables=tables,
    )


def _score(tables: SweepTables, trial: int, objective: Objective, searched: float) -> Score:
    name = objective.name
    means = confirmation_statistics(tables, name)
    trials = tables.trials.set_index("trial")
    column = f"{POSTERIOR}{name}"
    posterior = float(trials.loc[trial, column]) if column in trials else math.nan  # type: ignore[arg-type]
    first = tables.first_trials[trial]
    if first not in means.index:
        return Score(name, searched, posterior=posterior)
    row = {str(column): float(value) for column, value in means.loc[first].items()}  # type: ignore[arg-type]
    return Score(
        name=name,
        searched=searched,
        confirmed=row["mean"],
        interval=(row["low"], row["high"]),
        test=row["test"],
        test_interval=(row["test_low"], row["test_high"]),
        seeds=int(row["seeds"]),
        posterior=posterior,
        estimate=float(estimates(objective, tables.trials, tables.confirmations)[first]),
    )
