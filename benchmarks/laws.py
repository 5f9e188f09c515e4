"""Scaling laws against published measurements, and against the simple rules that they must beat.

    python -m benchmarks.laws [--json FILE] [--write] [--only chinchilla,steplaw,…] [--starts 100]

It prints what was required beside what was reached; `--write` stores the tables in benchmarks/results.

The tables are public (Hoffmann et al. 2022 as read off by Besiroglu et al. 2024; Step Law 2025; Lin et al. 2024;
TaskSet 2020; the LoRA sweep of the tinker cookbook) and are read from ../shared/data, or from $AUTOTUNE_DATA.
Nothing is tuned on the values that are predicted: extrapolations see the visible part of their own table only, and a
learning rate for a cell or a model is predicted from the other cells or models. The constants of `extrapolate` were
set on FLAN, how it compares settings on FLAN and TaskSet; gigaword set nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autotune.laws.scaling_experiment import check_largest
from benchmarks import laws_tables
from benchmarks.result_files import store
from surrogates.laws import FORMS, BowlLaw, extrapolate, fit_bowl, fit_form, last_value, slope_rule

CHINCHILLA = {"E": 1.8172, "A": 477.8, "B": 2143.0, "a": 0.3473, "b": 0.3672}
"""The replication's coefficients, the five highest losses left out (Besiroglu et al. 2024)."""
CHINCHILLA_SUM = 0.0010182740
UNNAMED_SIZES = {"deepseek-ai/DeepSeek-V3.1-Base": 671.0, "moonshotai/Kimi-K2.5": 1000.0}
"""Billions of parameters, from their model cards: all other names say it themselves."""
FIXED_RATE = 3e-4
SCALE_SWEEP = Path(__file__).parent / "scale_sweep.csv"


def data_folder() -> Path:
    """Where the tables lie.

    Raises:
        FileNotFoundError: they do not; says where they were sought.
    """
    folder = Path(os.environ.get("AUTOTUNE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: set AUTOTUNE_DATA to that of the measurements")
    return folder


def chinchilla(starts: int = 100) -> dict[str, Any]:
    """One fit, and the spread of fits that each start at one random pair of exponents."""
    table = pd.read_csv(data_folder() / "chinchilla" / "points.csv").sort_values("loss").iloc[:-5]
    X, loss = table[["params", "tokens"]].to_numpy(), table["loss"].to_numpy()
    began = time.process_time()
    law = fit_form(FORMS["chinchilla"], X, loss)
    seconds = time.process_time() - began
    found = law.coefficients
    rng, sums, each, worst = np.random.default_rng(0), [], [], 0.0
    for _ in range(starts):
        began = time.process_time()
        one = fit_form(
            FORMS["chinchilla"], X, loss, start=np.exp(rng.uniform(np.log(0.02), np.log(2.5), size=2))
        )
        each.append(time.process_time() - began)
        sums.append(one.objective)
        worst = max(worst, max(abs(v / CHINCHILLA[k] - 1) for k, v in one.coefficients.items()))
    return {
        "coefficients": found,
        "worst_coefficient": max(abs(found[name] / value - 1) for name, value in CHINCHILLA.items()),
        "huber_sum": law.objective,
        "huber_sum_off": law.objective / CHINCHILLA_SUM - 1,
        "cpu_seconds": seconds,
        "starts": starts,
        "starts_sum_off": [min(sums) / CHINCHILLA_SUM - 1, max(sums) / CHINCHILLA_SUM - 1],
        "starts_worst_coefficient": worst,
        "starts_cpu_seconds": [min(each), max(each)],
    }


def steplaw() -> dict[str, Any]:
    """Learning rate and batch size of each cell: in sample, from the other cells, and from the smaller cells."""
    table = pd.read_csv(data_folder() / "steplaw" / "dense.csv")
    table["batch"] = table["batch_size_sequences"] * 2048.0
    sizes = ["non_embedding_params", "tokens"]
    cells = [cell for _, cell in table.groupby(sizes)]
    law = _step_fit(cells, jackknife=True)
    most_expensive = np.argsort([float(cell[sizes].iloc[0].prod()) for cell in cells])[-3:]
    rest = _step_fit([cell for i, cell in enumerate(cells) if i not in most_expensive])
    published = [_published_step(*cell[sizes].iloc[0].astype(float)) for cell in cells]
    costs = [
        100
        * law.excess(
            settings, dict(zip(("params", "tokens"), cell[sizes].iloc[0].astype(float), strict=True))
        )
        for settings, cell in zip(published, cells, strict=True)
    ]
    return {
        "cells": len(cells),
        "in_sample": _spread([_step_regret(law, cell) for cell in cells]),
        "leave_one_cell_out": _spread(
            [_step_regret(_step_fit(cells[:i] + cells[i + 1 :]), cell) for i, cell in enumerate(cells)]
        ),
        "largest_three": _spread([_step_regret(rest, cells[i]) for i in most_expensive]),
        "median_configuration": float(
            np.mean([100 * (cell["smooth_loss"].median() / cell["smooth_loss"].min() - 1) for cell in cells])
        ),
        "coefficients": law.table(),
        "published": _spread(
            [_regret_at(cell, settings) for cell, settings in zip(cells, published, strict=True)]
        ),
        "published_by_our_bowl": _spread(costs),
    }


def _published_step(params: float, tokens: float) -> dict[str, float]:
    """Step Law (arXiv 2503.04715), eq. 1."""
    return {"learning_rate": 1.79 * params**-0.713 * tokens**0.307, "batch": 0.58 * tokens**0.571}


def _step_fit(cells: list[pd.DataFrame], jackknife: bool = False) -> BowlLaw:
    table = pd.concat(cells)
    settings = {"learning_rate": table["learning_rate"], "batch": table["batch"]}
    scales = {"params": table["non_embedding_params"], "tokens": table["tokens"]}
    return fit_bowl(settings, scales, table["smooth_loss"], {"batch": ("tokens",)}, jackknife=jackknife)


def _step_regret(law: BowlLaw, cell: pd.DataFrame) -> float:
    """Percent above the cell's best loss, at the grid point nearest to the law in logarithms."""
    best = law.optimum({"params": cell["non_embedding_params"].iloc[0], "tokens": cell["tokens"].iloc[0]})
    return _regret_at(cell, {name: best[name].value for name in law.hyperparameters})


def _regret_at(cell: pd.DataFrame, settings: dict[str, float]) -> float:
    away = sum(np.log(cell[name] / value) ** 2 for name, value in settings.items())
    return float(100 * (cell["smooth_loss"].to_numpy()[np.argmin(away)] / cell["smooth_loss"].min() - 1))


def finetuning(alone: bool = True) -> dict[str, Any]:
    """The last loss of 30 models' curves over data, when the last 3, 5 or 7 doublings are hidden.

    Args:
        alone: whether to continue each curve by itself too, as if the others were not known.
    """
    x, rows, singles = 200 * 2.0 ** np.arange(14), [], []
    for name in ("flan", "gigaword"):
        table = pd.read_csv(data_folder() / "finetune_scaling" / f"{name}.csv")
        losses = table[[str(int(size)) for size in x]].to_numpy(dtype=float)
        for hidden in (3, 5, 7):
            row = _predicted(x[:-hidden], losses[:, :-hidden], x[-1], losses[:, -1])
            rows.append({"table": name, "times": 2**hidden, **row})
            if alone:
                each = [_predicted(x[:-hidden], one[:-hidden], x[-1], one[-1:]) for one in losses]
                part = pd.DataFrame(each)[["law", "slope", "last", "coverage"]].mean()
                singles.append({"table": name, "times": 2**hidden, **part.to_dict()})
    found = pd.DataFrame(rows)
    numbers = ["law", "slope", "last", "coverage"]
    by_table = found.groupby("table")["coverage"].mean().to_dict()
    return {
        "rows": rows,
        "alone": singles,
        "mean": found.groupby("times")[numbers].mean().reset_index().to_dict("records"),
        "coverage": {**by_table, "all": float(found["coverage"].mean())},
    }


def taskset() -> dict[str, Any]:
    """The final loss from the first fifth of the checkpoints, four tasks of 1,000 configurations."""
    rows = []
    for path in sorted((data_folder() / "taskset").glob("*.parquet")):
        table = pd.read_parquet(path)
        losses = table[[f"loss_{i:02d}" for i in range(51)]].to_numpy(dtype=float)
        # Checkpoint 0 is before the first step. Diverged runs have no final loss to predict.
        losses = losses[(np.isfinite(losses) & (losses > 0)).all(axis=1)]
        seen = losses[:, 1:11]
        row = _predicted(np.arange(1.0, 11.0), seen, 50.0, losses[:, 50])
        rows.append({"table": path.stem, "curves": len(losses), **row})
    return {"rows": rows}


def _predicted(x: np.ndarray, seen: np.ndarray, at: float, final: np.ndarray) -> dict[str, Any]:
    """Mean |relative error| and mean |log error| of the law, the slope rule and the last value, and coverage."""
    forecast = extrapolate(x, seen, at)
    rules = {"law": forecast.value, "slope": slope_rule(x, seen, at), "last": last_value(seen)}
    return {
        **{name: float(np.mean(np.abs(value / final - 1))) for name, value in rules.items()},
        **{f"log_{name}": float(np.mean(np.abs(np.log(value / final)))) for name, value in rules.items()},
        "coverage": float(np.mean((forecast.low <= final) & (final <= forecast.high))),
        "settings": str(forecast.settings),
    }


def lora() -> dict[str, Any]:
    """The learning rate of a model from all the others, by size and rank, against a fixed one."""
    table = pd.read_csv(data_folder() / "lora_grid" / "sft_sweep.csv")
    keys = ["model", "lora_rank", "learning_rate"]
    table = table.groupby(keys, as_index=False)["test_nll"].mean()
    table["size"] = table["model"].map(_billions)
    rows = []
    for model, own in table.groupby("model"):
        rest = table[table["model"] != model]
        law = fit_bowl(
            {"learning_rate": rest["learning_rate"]},
            {"size": rest["size"], "rank": rest["lora_rank"]},
            rest["test_nll"],
            groups=rest["model"],
            jackknife=False,
        )
        for rank, cell in own.groupby("lora_rank"):
            best = law.optimum({"size": cell["size"].iloc[0], "rank": float(rank)})["learning_rate"].value
            largest = bool(rank == own["lora_rank"].max())
            costs = [_rate_regret(cell, rate) for rate in (best, FIXED_RATE)]
            rows.append(
                {"model": model, "rank": int(rank), "largest": largest, "law": costs[0], "fixed": costs[1]}
            )
    found = pd.DataFrame(rows)
    top = found[found["largest"]]
    return {
        "models": int(found["model"].nunique()),
        "all_ranks": {name: float(found[name].mean()) for name in ("law", "fixed")},
        "largest_rank": {name: float(top[name].mean()) for name in ("law", "fixed")},
    }


def _billions(name: str) -> float:
    found = re.search(r"(?<![\d.A-Za-z])(\d+(?:\.\d+)?)[bB]", name)
    return float(found.group(1)) if found else UNNAMED_SIZES[name]


def _rate_regret(cell: pd.DataFrame, rate: float) -> float:
    nearest = np.argmin(np.abs(np.log(cell["learning_rate"].to_numpy() / rate)))
    return float(100 * (cell["test_nll"].to_numpy()[nearest] / cell["test_nll"].min() - 1))


def sweep() -> dict[str, Any]:
    """The largest model of `autotune law sweep --out benchmarks/scale_sweep.csv`, predicted from the others."""
    frame = pd.read_csv(SCALE_SWEEP)
    found = check_largest(frame)
    return {
        "predicted": found.predicted,
        "low": found.low,
        "high": found.high,
        "measured": found.largest.loss,
        "error": found.error,
        "within": found.is_within,
        "params": found.largest.params,
        "largest_seen": int(frame["params"][frame["params"] < found.largest.params].max()),
        "points": len(found.law.points.loss),
        "seconds": float(frame.groupby("params")["seconds"].max().sum()),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "max": float(np.max(values))}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "chinchilla": chinchilla,
    "steplaw": steplaw,
    "finetuning": finetuning,
    "taskset": taskset,
    "lora": lora,
    "sweep": sweep,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write all results there")
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas")
    parser.add_argument("--starts", type=int, default=100, help="random starts of the chinchilla fit")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"--only: {', '.join(unknown)} is not among {', '.join(PARTS)}")
    if arguments.write and set(names) != set(PARTS):
        parser.error("--write: the committed tables hold all parts; leave --only out")
    try:
        data_folder()
    except FileNotFoundError as missing:
        parser.error(str(missing))
    results = {
        name: chinchilla(arguments.starts) if name == "chinchilla" else PARTS[name]() for name in names
    }
    tables = laws_tables.tables(results)
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in tables.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")
    if arguments.write:
        store("scaling-laws", tables)


if __name__ == "__main__":
    main()
