"""What is known about the scores of the trials, and the fronts that follow from it.

Four values of a score can exist for a trial: what it scored in the search, with one seed; the mean of all complete
trials of its configuration; the posterior mean of the search's surrogate, which knows the scores of similar trials
too; and the mean of its confirmation runs. The front of the search is that of the posterior means where they are
stored, and else of the means over trials. The reported front is that of the estimates, in which the search counts as
one further run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.objectives import Objective, is_cost
from autotune.pareto import non_dominated
from autotune.results.confirmation_runs import is_as_search
from autotune.results.run_noise import run_noise
from search_spaces.parameters.types import Configuration

POSTERIOR, DEVIATION = "posterior.", "posterior_sd."
"""Prefixes of the columns with a score's posterior mean in the search and its standard deviation."""
POOLED = "pooled."
"""Prefix of the columns with the mean of an objective over the complete trials of the same configuration."""


def feasible_rows(objectives: Sequence[Objective], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of values, shape [n, m], are finite and within every hard limit."""
    keep = np.asarray(np.isfinite(values).all(axis=1))
    for j, objective in enumerate(objectives):
        keep &= objective.feasible(values[:, j])
    return keep


def on_front(objectives: Sequence[Objective], values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows of values, shape [n, m], are feasible and not dominated by a feasible row."""
    losses = _losses(objectives, values)
    losses[~feasible_rows(objectives, values)] = np.nan
    return non_dominated(losses)


def pooled(name: str, trials: pd.DataFrame) -> pd.Series:
    """Return an objective of trials, as the mean over the complete trials of the same configuration."""
    return trials[f"{POOLED}{name}" if f"{POOLED}{name}" in trials else name].astype(float)


def with_pooled(objectives: Sequence[Objective], trials: pd.DataFrame) -> pd.DataFrame:
    """Return trials with every objective's mean over the same configuration in place of the trial's own value."""
    return trials.assign(**{objective.name: pooled(objective.name, trials) for objective in objectives})


def searched_values(objectives: Sequence[Objective], trials: pd.DataFrame) -> NDArray[np.float64]:
    """Return the objectives of trials after the search, shape [n, m]: posterior means where they are stored.

    Args:
        objectives: the m objectives.
        trials: one column per objective, `pooled.NAME` for its mean over the same configuration where one
            ran more than once, and `posterior.NAME` for scores with a posterior.
    """
    columns = []
    for objective in objectives:
        observed = pooled(objective.name, trials)
        posterior = trials.get(f"{POSTERIOR}{objective.name}")
        # A trial without an observed value is not complete, whatever the surrogate predicts.
        columns.append(observed if posterior is None else posterior.where(observed.notna()).fillna(observed))
    return np.column_stack(columns) if columns else np.empty((len(trials), 0))


def estimates(objective: Objective, trials: pd.DataFrame, confirmations: pd.DataFrame) -> pd.Series:
    """Return the best estimate of a score for every trial with confirmation runs, by trial.

    It is the mean of the runs with the search as one further run, which shrinks means of few runs towards what the
    search knows. The search contributes the posterior mean where it stored one. With the noise variance v of one run,
    a posterior of variance s² is worth v / s² runs (the precision-weighted mean of normal variables), but counts as
    one run at most, so that a surrogate that is too sure of itself cannot outweigh the runs. Without a posterior, the
    search contributes its value less the selection bias. Runs at another fidelity than that of the search, such as
    all data, are not comparable with it: then the estimate is their mean.

    Args:
        objective: the score.
        trials: see `SweepTables.trials`.
        confirmations: see `SweepTables.confirmations`.
    """
    name = objective.name
    column = f"metric.{name}"
    if column not in confirmations:
        return pd.Series(dtype=float)
    runs = confirmations[confirmations[column].notna()]
    groups = runs.groupby("trial")[column]
    counts, means = groups.count(), groups.mean()
    if not is_as_search(runs):
        return means
    found = trials.set_index("trial").reindex(means.index)
    searched, worth = _without_bias(objective, found, means), pd.Series(1.0, means.index)
    if f"{POSTERIOR}{name}" in found:
        posterior, deviation = (found[f"{p}{name}"].astype(float) for p in (POSTERIOR, DEVIATION))
        noise = run_noise(runs[column], runs["trial"]).variances
        worth = (noise / deviation**2).clip(upper=1.0).where(posterior.notna(), 1.0).fillna(1.0)
        searched = posterior.fillna(searched)
    worth = worth.where(searched.notna(), 0.0)
    return (counts * means + worth * searched.fillna(0.0)) / (counts + worth)


def _without_bias(objective: Objective, trials: pd.DataFrame, means: pd.Series) -> pd.Series:
    """Return the scores of trials in the search less the mean selection bias of the search's front, 0 or more.

    Args:
        objective: the score.
        trials: rows to correct, by trial.
        means: means of confirmation runs, by trial.
    """
    searched, means = pooled(objective.name, trials), means.reindex(trials.index)
    on_front = trials["on_search_front"].astype(bool) & means.notna()
    bias = float((searched - means)[on_front].mean()) if on_front.any() else 0.0
    # Selection makes a score too good, never too bad.
    return searched - (max(bias, 0.0) if objective.direction == "maximize" else min(bias, 0.0))


def _at_fidelity_of_runs(values: pd.Series, means: pd.Series) -> pd.Series:
    """Return scores of the search shifted by the mean difference of the confirmation runs, at another fidelity.

    Args:
        values: scores in the search, by trial.
        means: means of confirmation runs, by trial.
    """
    gain = (means - values.reindex(means.index)).mean()
    return values + (0.0 if np.isnan(gain) else gain)


def first_trials(objectives: Sequence[Objective], trials: pd.DataFrame) -> dict[int, int]:
    """Return, by trial, the first complete trial of its configuration, which represents the others.

    A trial that is not complete represents itself; so does each trial of a table without configurations.
    """
    numbers = [int(trial) for trial in trials["trial"]]
    if "config" not in trials:
        return {trial: trial for trial in numbers}
    is_complete = trials[[objective.name for objective in objectives]].notna().all(axis=1)
    found: dict[object, int] = {}
    return {
        trial: found.setdefault(_key(config), trial) if complete else trial
        for trial, config, complete in zip(numbers, trials["config"], is_complete, strict=True)
    }


def is_first(objectives: Sequence[Objective], trials: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which trials represent their configuration; see `first_trials`."""
    return np.array([trial == first for trial, first in first_trials(objectives, trials).items()], dtype=bool)


def _key(config: Configuration) -> object:
    return frozenset(config.items())


def pool_repeats(
    configs: Sequence[Configuration], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Return the values of trials with those of repeats replaced by their mean, and the number of runs of each.

    Args:
        configs: the configurations of n trials.
        values: their objectives, shape [n, m], NaN for a trial that is not complete.
    """
    keys = [_key(config) for config in configs]
    is_complete = np.isfinite(values).all(axis=1)
    groups: dict[object, list[int]] = {}
    for i in np.flatnonzero(is_complete):
        groups.setdefault(keys[i], []).append(int(i))
    means, runs = values.copy(), is_complete.astype(int)
    for members in groups.values():
        if len(members) > 1:
            means[members], runs[members] = values[members].mean(axis=0), len(members)
    return means, runs


def search_front(objectives: Sequence[Objective], trials: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which trials are on the front of the search; a configuration is on it with its first trial."""
    if not len(trials):
        return np.zeros(0, bool)
    values = searched_values(objectives, trials)
    values[~is_first(objectives, trials)] = np.nan
    return on_front(objectives, values)


def reported_front(
    objectives: Sequence[Objective], trials: pd.DataFrame, confirmations: pd.DataFrame
) -> NDArray[np.bool_]:
    """Return which trials are on the front after the confirmation.

    Among trials with confirmation runs, those that no other estimate dominates: a point that the search overestimated
    leaves the front, and a contender that it underestimated enters. A point of the search's front without runs stays
    unless an estimate dominates it; it removes no confirmed point.

    Args:
        objectives: the m objectives.
        trials: see `SweepTables.trials`.
        confirmations: see `SweepTables.confirmations`.
    """
    searched = search_front(objectives, trials)
    values, is_confirmed = confirmed_values(objectives, trials, confirmations)
    if not is_confirmed.any():
        return searched
    front = is_confirmed.copy()
    front[is_confirmed] = on_front(objectives, values[is_confirmed])
    losses = _losses(objectives, values)
    for i in np.flatnonzero(searched & ~is_confirmed):
        no_worse = (losses[front & is_confirmed] <= losses[i]).all(axis=1)
        front[i] = not no_worse.any()
    return front


def confirmed_values(
    objectives: Sequence[Objective], trials: pd.DataFrame, confirmations: pd.DataFrame
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the objectives of trials with estimates in place of scores, and which trials have estimates.

    Returns:
        shape [n, m], with the values of the search less the selection bias where there is no estimate (at another
        fidelity: shifted by the mean difference of the runs), and shape [n].
    """
    values = searched_values(objectives, trials)
    is_confirmed = np.zeros(len(trials), dtype=bool)
    by_trial = trials.set_index("trial")
    for j, objective in enumerate(objectives):
        column = f"metric.{objective.name}"
        if is_cost(objective.name) or column not in confirmations:
            continue
        found = estimates(objective, trials, confirmations).reindex(by_trial.index).to_numpy(float)
        means = confirmations.groupby("trial")[column].mean()
        if not is_as_search(confirmations):
            values[:, j] = _at_fidelity_of_runs(pd.Series(values[:, j], by_trial.index), means)
        elif f"{POSTERIOR}{objective.name}" not in trials:
            values[:, j] = _without_bias(objective, by_trial, means)
        is_known = np.isfinite(found)
        values[is_known, j] = found[is_known]
        is_confirmed |= is_known
    return values, is_confirmed & np.isfinite(values).all(axis=1)


def _losses(objectives: Sequence[Objective], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([o.loss(values[:, j]) for j, o in enumerate(objectives)])
