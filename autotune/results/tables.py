"""The tables that a sweep writes: the front (`front.csv`) and every trial (`trials.parquet`).

Tables, figures and report share the confirmation statistics here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from autotune.objectives import Objective, is_cost
from autotune.results.estimates import DEVIATION, POSTERIOR, estimates
from autotune.results.run_noise import binomial_variances, run_noise
from autotune.results.sweep_tables import SweepTables
from autotune.results.trial_tables import TrialTables
from search_spaces.parameters.types import Configuration
from trials.tasks.metrics import metric_range

CONFIDENCE = 0.95
"""The confidence level of every reported interval."""
_PARAM = "param."


def quality(results: TrialTables) -> Objective:
    """Return the objective that counts as the quality: the first that is not a cost."""
    return next((o for o in results.objectives if not is_cost(o.name)), results.objectives[0])


def complete_trials(results: TrialTables) -> pd.DataFrame:
    """Return the rows of `results.trials` that have every objective."""
    trials = results.trials
    names = [objective.name for objective in results.objectives]
    return trials[(trials["status"] == "complete") & trials[names].notna().all(axis=1)]


def configuration(row: pd.Series) -> Configuration:
    """Return the active parameters of one row of `results.trials`.

    They come from the column `config` if the table has it, and otherwise from the columns `param.NAME`, where whole
    numbers lose the `.0` that a column with gaps gives them.
    """
    if isinstance(row.get("config"), dict):
        return dict(row["config"])
    return {
        str(name).removeprefix(_PARAM): _plain(value)
        for name, value in row.items()
        if str(name).startswith(_PARAM) and not pd.isna(value)
    }


def _plain(value: object) -> bool | int | float | str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    assert isinstance(value, bool | int | float | str)
    return value


def confirmation_statistics(results: TrialTables, metric: str) -> pd.DataFrame:
    """Summarize the confirmation runs for one metric.

    The bounds are those of two-sided t intervals whose variance is pooled over the points, cut off at the ends of the
    metric's range; see `autotune.results.run_noise`. They are NaN where the variance is unknown.

    Returns:
        one row per confirmed trial (the index): `mean`, `low`, `high` on the validation split; `test`, `test_low`,
        `test_high` on the test split; `seeds`, the number of runs with a validation score; `freedom`, the degrees of
        freedom of the variance on the validation split.
    """
    columns = ["mean", "low", "high", "test", "test_low", "test_high", "seeds", "freedom"]
    runs = results.confirmations
    if runs.empty or f"metric.{metric}" not in runs:
        return pd.DataFrame(columns=columns, index=pd.Index([], name="trial"), dtype=float)
    points, possible = runs["trial"], metric_range(results.metric_of(metric))
    binomial = binomial_variances(results.example_scores, metric)
    validation = _intervals(runs[f"metric.{metric}"], points, possible, binomial)
    test = _intervals(runs.get(f"test.{metric}", pd.Series(np.nan, runs.index)), points, possible)
    test.columns = ["test", "test_low", "test_high", "runs", "test_freedom"]
    validation.columns = ["mean", "low", "high", "seeds", "freedom"]
    return validation.join(test)[columns].loc[validation["seeds"] > 0].rename_axis("trial")


def _intervals(
    scores: pd.Series, points: pd.Series, possible: tuple[float, float], binomial: pd.Series | None = None
) -> pd.DataFrame:
    """Return, by point, the mean, its bounds, the number of runs, and the degrees of freedom of their variance.

    Args:
        scores: see `run_noise`, like `points` and `binomial`.
        points: of each run.
        possible: the range of the score, which no bound exceeds.
        binomial: by point; None for scores on other examples than those of validation.
    """
    groups = scores.astype(float).groupby(points)
    means, counts = groups.mean(), groups.count()
    noise = run_noise(scores.astype(float), points, binomial)
    half = noise.half_widths(counts, CONFIDENCE)
    low, high = ((means + side * half).clip(*possible) for side in (-1, 1))
    columns = {"mean": means, "low": low, "high": high, "runs": counts}
    return pd.DataFrame({**columns, "freedom": noise.freedoms.reindex(counts.index)})


def selection_bias(objective: Objective, searched: float, mean: float) -> float:
    """Return search value − confirmed mean, with the sign such that positive means too good in the search."""
    return searched - mean if objective.direction == "maximize" else mean - searched


def front_table(results: TrialTables) -> pd.DataFrame:
    """Return the front, one row per point, in ascending order of the second objective.

    Columns: `trial`; `search_runs`; every objective with its search value; for every score among them
    `posterior.NAME` and `posterior_sd.NAME` where the search stored them, `confirmed.NAME` with `.low` and `.high`
    (95 % t interval over report seeds, within the metric's range), `test.NAME` with `.low` and `.high`, and
    `estimate.NAME`; `report_seeds`; every other cost as `cost.NAME`; every parameter as `param.NAME`, empty where
    inactive.
    """
    front = results.front.reset_index(drop=True)
    names = [objective.name for objective in results.objectives]
    table = front[["trial", *names]].copy()
    table.insert(1, "search_runs", front["runs"])
    seeds = np.zeros(len(table), dtype=int)
    for objective in results.objectives:
        name = objective.name
        if is_cost(name):
            continue
        for column in (f"{POSTERIOR}{name}", f"{DEVIATION}{name}"):
            if column in front:
                table[column] = front[column]
        found = confirmation_statistics(results, name).reindex(table["trial"]).reset_index(drop=True)
        for column, source in (
            ("confirmed", ("mean", "low", "high")),
            ("test", ("test", "test_low", "test_high")),
        ):
            for suffix, statistic in zip(("", ".low", ".high"), source, strict=True):
                table[f"{column}.{name}{suffix}"] = found[statistic]
        best = estimates(objective, results.trials, results.confirmations)
        table[f"estimate.{name}"] = best.reindex(table["trial"]).to_numpy(dtype=float)
        seeds = np.maximum(seeds, found["seeds"].fillna(0).to_numpy(dtype=int))
    table["report_seeds"] = seeds
    rest = [c for c in front if str(c).startswith("cost.") and str(c).removeprefix("cost.") not in names]
    params = [c for c in front if str(c).startswith(_PARAM) and front[c].notna().any()]
    return pd.concat([table, front[rest], front[params]], axis=1)


def trials_table(results: TrialTables) -> pd.DataFrame:
    """Return `results.trials` with one type per column, as Parquet requires.

    Integers and booleans with gaps become pandas' nullable types. A column of mixed types becomes text, and `config`
    becomes JSON.
    """
    table = results.trials.copy()
    if "config" in table:
        table["config"] = table["config"].map(json.dumps)
    for name in table.columns:
        if table[name].dtype != object:
            continue
        kinds = {type(_plain(value)) if np.isscalar(value) else type(value) for value in table[name].dropna()}
        if len(kinds) > 1 and not kinds <= {int, float}:
            table[name] = table[name].map(str, na_action="ignore")
        elif kinds and kinds <= {int, float}:
            table[name] = pd.to_numeric(table[name])
    return table.convert_dtypes()


def write_tables(results: SweepTables) -> tuple[Path, Path]:
    """Write `front.csv` and `trials.parquet` into the sweep's folder, each atomically."""
    front, trials = results.folder / "front.csv", results.folder / "trials.parquet"
    write_whole(front, lambda path: front_table(results).to_csv(path, index=False))
    write_whole(trials, lambda path: trials_table(results).to_parquet(path, index=False))
    return front, trials


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: `write` fills a temporary file beside `path`, which then replaces it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
