"""How the choices along a sweep's front change with cost: which family, schedule or site is used where."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from autotune.results.sweep_tables import SweepTables
from search_spaces.errors import InvalidInputError
from surrogates.laws import Trend, trends_along


@dataclass(frozen=True)
class FrontTrends:
    """The trends of the categorical hyperparameters along a front.

    Args:
        trends: one per hyperparameter with several options on the front, the most probable first.
        reason: why there is none, in a sentence; empty if there are, or if no option varies.
    """

    trends: tuple[Trend, ...]
    reason: str


def choices_along(results: SweepTables, cost: str) -> FrontTrends:
    """Compare the shares of the options below and above the median cost of the front."""
    front = results.front
    values = front[cost if cost in front else f"cost.{cost}"].astype(float)
    front = front.assign(**{"cost ": values})[values > 0]
    names = [
        name for name in map(str, front.columns) if name.startswith("param.") and _is_choice(front[name])
    ]
    if not names:
        return FrontTrends((), "")
    try:
        return FrontTrends(tuple(trends_along(front[["cost ", *names]], "cost ", names)), "")
    except InvalidInputError as error:
        what = error.problems[0].what
        return FrontTrends((), f"The choices along the front are not compared: {what}.")


def _is_choice(column: pd.Series) -> bool:
    values = column.dropna()
    return values.nunique() > 1 and bool(values.map(lambda value: isinstance(value, str)).all())
