"""Which points were probed and are not in the outlook, and why: it carries on whole curves alone."""

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
"""Characters of an error; the run's own line in the terminal has all of it."""


@dataclass(frozen=True)
class Missing:
    """A point that was probed on a base and has no place in the outlook, and why, in words."""

    trial: int
    model: str
    why: str


def missing(results: SweepTables, found: ProbeForecast | None) -> list[Missing]:
    """Those of all bases, the sweep's own first; `found` is what `outlook` gave."""
    runs, failed = search_values(results.probes), search_values(results.failed_probes)
    column = f"metric.{quality(results).name}"
    scored = runs.dropna(subset=[column]) if column in runs else runs.iloc[:0]
    seen = {base.model: base.seen for base in found.bases} if found is not None else {}
    probed = {pair for table in (runs, failed) for pair in zip(table["model"], table["trial"], strict=True)}
    gaps = []
    for model, trial in sorted(probed, key=lambda pair: (pair[0] != results.sweep.model.name, *pair)):
        if model in seen and trial in seen[model].trials:
            continue
        shares = seen[model].examples if model in seen else None
        why = _why(_of_point(scored, model, trial), _of_point(failed, model, trial), shares)
        gaps.append(Missing(int(trial), model, why))
    return gaps


def _of_point(runs: pd.DataFrame, model: str, trial: int) -> pd.DataFrame:
    return runs[(runs["model"] == model) & (runs["trial"] == trial)]


def _why(scored: pd.DataFrame, failed: pd.DataFrame, shares: NDArray[np.float64] | None) -> str:
    """Of one point on one base; `shares` are the examples, [n], where the curves of the others have a point."""
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
        return f"it has a score on {len(there)} shares of the data, and a curve needs {FEWEST_POINTS}"
    return "it has too few shares of the data in common with the other points"
