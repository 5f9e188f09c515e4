"""Selection of a point of the front: the knee, the best, the smallest, or a trial by number, under conditions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from autotune.results.estimates import DEVIATION, POOLED, POSTERIOR, with_pooled
from autotune.results.recommendation import beats_baseline, none_beats_baseline, recommend, trusted_values
from autotune.results.rescue import confirmed_rest, is_outnumbered, rescued_trials
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.model.reader import read_shape
from search_spaces.percentages import parse_number, parse_percentage
from trials.tasks.specs import resolve_model

PICKS = ("knee", "best", "smallest")
_NONE_BEATS_BASELINE = (
    "Search longer, widen the space, or confirm on more seeds. A trial's number takes it nevertheless."
)
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_FULL_NAMES_ONLY = (POOLED, POSTERIOR, DEVIATION)
"""Prefixes of columns that a condition must name in full: without its prefix, a score is the objective."""
_CONDITION = re.compile(r"\s*([\w.]+)\s*(<=|>=|==|<|>)\s*([^\s<>=]+\s*%?)\s*")


class Pick(NamedTuple):
    """A picked trial, and why a rule picked it; the reason is empty for a pick that needs none."""

    trial: int
    reason: str = ""


def pick_trial(results: SweepTables, pick: str, where: Sequence[str] = ()) -> int:
    """Return the trial that a pick names; see `pick_with_reason`."""
    return pick_with_reason(results, pick, where).trial


def pick_with_reason(results: SweepTables, pick: str, where: Sequence[str] = ()) -> Pick:
    """Return the trial that a pick names, with the reason of a recommendation.

    Args:
        results: the sweep.
        pick: `knee` (the recommended point, see `autotune.results.recommendation`), `best` (the best quality, by
            estimates from confirmation runs where there are some), `smallest` (the fewest trainable parameters among
            the points that beat the untrained baseline), or the number of any complete trial.
        where: conditions such as `trainable_params<=1%` or `accuracy>=0.9` that the point must meet.

    Raises:
        InvalidInputError: no such pick, trial or column, or no point meets the conditions.
    """
    if pick not in PICKS and not _is_number(pick):
        raise InvalidInputError(
            Problem("--pick", f"{pick!r} is neither a trial's number nor a pick", did_you_mean(pick, PICKS))
        )
    rows = _rows_of(results, pick)
    kept = rows[_meets(rows, where, results)]
    if kept.empty:
        raise InvalidInputError(
            Problem(
                "--where",
                f"no {'point of the front' if pick in PICKS else 'such trial'} meets " + " and ".join(where),
                "Relax the condition; see the table in report.html.",
            )
        )
    match pick:
        case "knee":
            found = recommend(results, kept)
            if found.trial is None:
                raise InvalidInputError(Problem("--pick", found.reason, _NONE_BEATS_BASELINE))
            return Pick(found.trial, found.reason)
        case "best":
            return Pick(best_trial(results, kept))
        case "smallest":
            return Pick(_smallest(results, kept))
        case _:
            return Pick(int(kept["trial"].iloc[0]))


def _is_number(pick: str) -> bool:
    return pick.isascii() and pick.isdecimal()


def marked_trials(results: SweepTables) -> set[int]:
    """Return the trials that the words of `PICKS` name, without those that no point of the front satisfies.

    Raises:
        InvalidInputError: the sweep has no front yet.
    """
    marked = {pick_trial(results, "best")}
    for pick in ("knee", "smallest"):
        with suppress(InvalidInputError):
            marked.add(pick_trial(results, pick))
    return marked


def _rows_of(results: SweepTables, pick: str) -> pd.DataFrame:
    """Return the rows that a pick chooses among: the front, or the one trial of that number."""
    if not _is_number(pick):
        if results.front.empty:
            fix = f"Run autotune resume {results.folder} first."
            raise InvalidInputError(Problem("--pick", "the sweep has no front yet", fix))
        return results.front
    trials = results.trials
    rows = trials[(trials["trial"] == int(pick)) & (trials["status"] == "complete")]
    if rows.empty:
        fix = f"See autotune status {results.folder}."
        raise InvalidInputError(Problem("--pick", f"there is no complete trial {pick}", fix))
    return with_pooled(results.objectives, rows)


def _smallest(results: SweepTables, rows: pd.DataFrame) -> int:
    good = rows[beats_baseline(results, rows)]
    if good.empty:
        raise InvalidInputError(Problem("--pick", none_beats_baseline(results), _NONE_BEATS_BASELINE))
    return int(good["trial"].iloc[int(np.argmin(good["cost.trainable_params"].to_numpy()))])


def best_trial(results: SweepTables, rows: pd.DataFrame) -> int:
    """Return the trial with the best quality among rows of the front; see `trusted_values`.

    A rescued point with fewer runs than those that it displaces is the best only if no other row is confirmed; see
    `autotune.results.rescue`.
    """
    objective = quality(results)
    values = trusted_values(results, rows)[:, results.objectives.index(objective)]
    best = int(rows["trial"].iloc[int(np.nanargmin(objective.loss(values)))])
    rest = confirmed_rest(results, rows, best)
    if best not in rescued_trials(results) or rest.empty:
        return best
    instead = best_trial(results, rest)
    return instead if is_outnumbered(results, best, instead) else best


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
        numbers = [str(column) for column in rows.columns if rows[column].dtype.kind in "if"]
        short_names = {
            column.split(".", 1)[-1]: column for column in numbers if not column.startswith(_FULL_NAMES_ONLY)
        }
        columns = short_names | {column: column for column in numbers}
        if name not in columns:
            known = [objective.name for objective in results.objectives]
            raise InvalidInputError(
                Problem(
                    "--where",
                    f"{name!r} is not a column of the trials",
                    did_you_mean(name, dict.fromkeys([*known, *short_names])),
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
    name, layers = resolve_model(sweep.model.name), sweep.model.share_of_layers
    return float(read_shape(name, sweep.task.shape_task, layers=layers).base_parameters)
