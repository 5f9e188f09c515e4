"""Rescued points: the confirmation puts them on the reported front although the search had them off its own.

A rescued point has its first run after the points of the search's front, and enters because that run is good. One
lucky run must not outweigh two, so a rescued point is the best or the recommended one only with as many runs as each
point that it displaces: those that it dominates, and the one that would be picked without it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from autotune.results.confirmation import chosen_points
from autotune.results.estimates import confirmed_values
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics, quality


def rescued_trials(results: SweepTables) -> set[int]:
    """Return the trials with confirmation runs that the search had neither on its front nor among its best."""
    trials = results.trials
    if results.confirmations.empty or "on_search_front" not in trials:
        return set()
    known = {*trials.loc[trials["on_search_front"].astype(bool), "trial"], *chosen_points(results)}
    return {int(trial) for trial in results.confirmations["trial"].unique()} - known


def confirmed_rest(results: SweepTables, rows: pd.DataFrame, trial: int) -> pd.DataFrame:
    """Return the rows with confirmation runs except that of one trial: the candidates to be picked in its place."""
    return rows[(rows["trial"] != trial) & rows["trial"].isin(results.confirmations["trial"])]


def is_outnumbered(results: SweepTables, trial: int, instead: int | None) -> bool:
    """Return whether a rescued point has fewer confirmation runs than one that it displaces.

    Args:
        results: the sweep.
        trial: the rescued point.
        instead: the point that would be picked without it; None if there is none.
    """
    runs = confirmation_statistics(results, quality(results).name)["seeds"]
    values, is_confirmed = confirmed_values(results.objectives, results.trials, results.confirmations)
    losses = np.column_stack([o.loss(values[:, j]) for j, o in enumerate(results.objectives)])
    numbers = results.trials["trial"].to_numpy()
    own = losses[numbers == trial][0]
    is_dominated = is_confirmed & (own <= losses).all(axis=1) & (numbers != trial)
    displaced = ({*numbers[is_dominated]} | ({instead} - {None})) - rescued_trials(results)
    return bool((runs.reindex(list(displaced)) > runs.get(trial, 0)).any())
