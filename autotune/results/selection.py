"""Which point of a front: the knee, the best, the smallest, or a trial by number, under conditions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.objectives import unit_losses
from autotune.pareto import knee
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmed, is_cost, quality
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.model.reader import read_shape
from search_spaces.percentages import parse_number, parse_percentage
from trials.tasks.data import resolve_model

PICKS = ("knee", "best", "smallest")
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|==|<|>)\s*([^\s<>=]+\s*%?)\s*")


def pick_trial(results: SweepTables, pick: str, where: Sequence[str] = ()) -> int:
    """The trial that a pick names.

    Args:
        pick: `knee` (the front's point of diminishing returns), `best` (the best quality), both by confirmed
            means where there are some, `smallest` (the fewest trainable parameters), or the number of any
            complete trial.
        where: conditions such as `trainable_params<=1%` or `accuracy>=0.9` that the point must meet.

    Raises:
        InvalidInputError: no such pick, trial or column, or no point meets the conditions.
    """
    if pick not in PICKS and not pick.isdigit():
        raise InvalidInputError(
            Problem("--pick", f"{pick!r} is neither a trial's number nor a pick", did_you_mean(pick, PICKS))
        )
    rows = results.front
    if pick.isdigit():
        rows = results.trials[
            (results.trials["trial"] == int(pick)) & (results.trials["status"] == "complete")
        ]
        if rows.empty:
            raise InvalidInputError(
                Problem(
                    "--pick", f"there is no complete trial {pick}", f"See autotune status {results.folder}."
                )
            )
    elif rows.empty:
        raise InvalidInputError(
            Problem("--pick", "the sweep has no front yet", f"Run autotune resume {results.folder} first.")
        )
    kept = rows[_meets(rows, where, results)]
    if kept.empty:
        raise InvalidInputError(
            Problem(
                "--where",
                f"no {'point of the front' if pick in PICKS else 'such trial'} meets " + " and ".join(where),
                "Relax the condition; see the table in report.html.",
            )
        )
    return int(kept["trial"].iloc[_position(results, kept, pick)])


def _meets(rows: pd.DataFrame, where: Sequence[str], results: SweepTables) -> np.ndarray:
    keep = np.ones(len(rows), dtype=bool)
    for condition in where:
        match = _CONDITION.fullmatch(condition)
        name, compare, written = match.groups() if match else ("", "", "")
        share = parse_percentage(written)
        limit = parse_number(written) if share is None else share
        if limit is None:
            what = f"{condition!r} is not a condition"
            raise InvalidInputError(
                Problem("--where", what, "Write NAME OP NUMBER, such as 'trainable_params<=1%'.")
            )
        columns = {
            column.split(".", 1)[-1]: column for column in rows.columns if rows[column].dtype.kind in "if"
        }
        columns |= {column: column for column in columns.values()}
        if name not in columns:
            known = [objective.name for objective in results.objectives]
            raise InvalidInputError(
                Problem(
                    "--where",
                    f"{name!r} is not a column of the trials",
                    did_you_mean(name, [*known, *columns]),
                )
            )
        if share is not None:
            limit *= _whole(name, results)
        keep &= _OPERATORS[compare](rows[columns[name]].to_numpy(dtype=float), limit)
    return keep


def _whole(name: str, results: SweepTables) -> float:
    """Return what 100 % of a column is: the base model's parameters, or 1 for shares such as accuracy."""
    if "params" not in name:
        return 1.0
    sweep = results.sweep
    return float(read_shape(resolve_model(sweep.model.name), sweep.task.type).base_parameters)


def _position(results: SweepTables, rows: pd.DataFrame, pick: str) -> int:
    match pick:
        case "knee":
            return knee_position(results, rows)
        case "best":
            return best_position(results, rows)
        case "smallest":
            return int(np.argmin(rows["cost.trainable_params"].to_numpy()))
        case _:
            return 0


def knee_position(results: SweepTables, rows: pd.DataFrame) -> int:
    """The row where more cost stops paying: the knee of quality against cost, by what `_trusted` says.

    Costs mostly go together (parameters and the FLOPs to train them), so they are averaged, in units of the
    box between ideal and reference, and so are qualities: two costs must not outvote one quality.
    """
    units = unit_losses(results.objectives, _trusted(results, rows))
    costs = np.array([is_cost(objective.name) for objective in results.objectives])
    if costs.any() and not costs.all():
        units = np.column_stack([units[:, ~costs].mean(axis=1), units[:, costs].mean(axis=1)])
    return knee(units)


def best_position(results: SweepTables, rows: pd.DataFrame) -> int:
    """The row with the best quality, by what `_trusted` says."""
    objective = quality(results)
    values = _trusted(results, rows)[:, results.objectives.index(objective)]
    return int(np.nanargmin(objective.loss(values)))


def _trusted(results: SweepTables, rows: pd.DataFrame) -> NDArray[np.float64]:
    """The objectives of rows of the front, shape [n, objectives], with scores that hold on other seeds.

    Where any row was confirmed, a score is the mean over the confirmation seeds, and NaN for a row without:
    a lucky score of the search must not beat a confirmed mean. Else it is what the search saw.
    """
    values = results.values(rows).copy()
    for j, objective in enumerate(results.objectives):
        if is_cost(objective.name):
            continue
        means = confirmed(results, objective.name)["mean"].reindex(rows["trial"])
        if means.notna().any():
            values[:, j] = means
    return values
