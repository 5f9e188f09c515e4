"""The points of a probe that its forecast excludes, and the reasons.

A forecast extrapolates complete curves only: points with a score on every share that the others have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.probe.forecast import ProbeForecast
from autotune.results.probe_runs import search_values
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality
from surrogates.laws import FEWEST_POINTS

_LONGEST = 160
"""Characters of an error that are shown; the terminal shows all of it while the run is trained."""


@dataclass(frozen=True)
class ExcludedPoint:
    """A point that was probed on a base model and is not in the forecast.

    Args:
        trial: the number of the point's trial.
        model: the base model.
        reason: a clause, such as "it has no score on 500 examples yet".
    """

    trial: int
    model: str
    reason: str


def excluded_points(results: SweepTables, found: ProbeForecast | None) -> list[ExcludedPoint]:
    """Return the points that a forecast excludes, those on the sweep's own base model first.

    Args:
        results: the sweep.
        found: the result of `forecast`.
    """
    runs, failed = search_values(results.probes), search_values(results.failed_probes)
    column = f"metric.{quality(results).name}"
    scored = runs.dropna(subset=[column]) if column in runs else runs.iloc[:0]
    seen = {base.model: base.curves for base in found.bases} if found is not None else {}
    probed = {pair for table in (runs, failed) for pair in zip(table["model"], table["trial"], strict=True)}
    excluded = []
    for model, trial in sorted(probed, key=lambda pair: (pair[0] != results.sweep.model.name, *pair)):
        if model in seen and trial in seen[model].trials:
            continue
        shares = seen[model].examples if model in seen else None
        reason = _reason(_of_point(scored, model, trial), _of_point(failed, model, trial), shares)
        excluded.append(ExcludedPoint(int(trial), model, reason))
    return excluded


def _of_point(runs: pd.DataFrame, model: str, trial: int) -> pd.DataFrame:
    return runs[(runs["model"] == model) & (runs["trial"] == trial)]


def _reason(scored: pd.DataFrame, failed: pd.DataFrame, shares: NDArray[np.float64] | None) -> str:
    """Return why one point on one base model is excluded.

    Args:
        scored: its runs that have a score.
        failed: its runs that failed.
        shares: the numbers of examples, [n], at which the curves of the other points have a score; None if there
            are no other curves.
    """
    there = set(scored["examples"])
    failed = failed[~failed["examples"].isin(there)]
    if shares is not None:
        failed = failed[failed["examples"].isin(shares)]
    if not failed.empty:
        first = failed.sort_values("examples").iloc[0]
        error = (str(first["error"]).strip().splitlines() or ["no message"])[0][:_LONGEST]
        return f"its run on {first['examples']:,} examples failed: {error}"
    if shares is not None:
        lacking = ", ".join(f"{round(each):,}" for each in shares if each not in there)
        return f"it has no score on {lacking} examples yet"
    if len(there) < FEWEST_POINTS:
        return f"it has a score on {len(there)} shares of the data, and a forecast needs {FEWEST_POINTS}"
    return "it shares too few numbers of examples with the other points"
