"""Scaling laws against published measurements, and against the simple rules that they must beat.

    python -m benchmarks.laws [--json FILE] [--only chinchilla,steplaw,finetuning,taskset,lora] [--starts 100]

The tables are public (Hoffmann et al. 2022 as read off by Besiroglu et al. 2024; Step Law 2025; Lin et al. 2024;
TaskSet 2020; the LoRA sweep of the tinker cookbook) and are read from ../shared/data, or from $AUTOTUNE_DATA.
Nothing is tuned on the values that are predicted: extrapolations see the visible part of their own table only, and a
learning rate for a cell or a model is predicted from the other cells or models.
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

from surrogates.laws import FORMS, BowlLaw, extrapolate, fit_bowl, fit_form, last_value, slope_rule

CHINCHILLA = {"E": 1.8172, "A": 477.8, "B": 2143.0, "a": 0.3473, "b": 0.3672}
"""The replication's coefficients, the five highest losses left out (Besiroglu et al. 2024)."""
CHINCHILLA_SUM = 0.0010182740
STEP_LAW = {"learning_rate": {"params": -0.713, "tokens": 0.307}, "batch": {"tokens": 0.571}}
UNNAMED_SIZES = {"deepseek-ai/DeepSeek-V3.1-Base": 671.0, "moonshotai/Kimi-K2.5": 1000.0}
"""Billions of parameters, from their model cards: all other names say it themselves."""
FIXED_RATE = 3e-4


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
    dearest = np.argsort([float(cell[sizes].iloc[0].prod()) for cell in cells])[-3:]
    rest = _step_fit([cell for i, cell in enumerate(cells) if i not in dearest])
    return {
        "cells": len(cells),
        "in_sample": _spread([_step_regret(law, cell) for cell in cells]),
        "leave_one_cell_out": _spread(
            [_step_regret(_step_fit(cells[:i] + cells[i + 1 :]), cell) for i, cell in enumerate(cells)]
        ),
        "largest_three": _spread([_step_regret(rest, cells[i]) for i in dearest]),
        "median_configuration": float(
            np.mean([100 * (cell["smooth_loss"].median() / cell["smooth_loss"].min() - 1) for cell in cells])
        ),
        "coefficients": law.table(),
    }


def _step_fit(cells: list[pd.DataFrame], jackknife: bool = False) -> BowlLaw:
    table = pd.concat(cells)
    knobs = {"learning_rate": table["learning_rate"], "batch": table["batch"]}
    scales = {"params": table["non_embedding_params"], "tokens": table["tokens"]}
    return fit_bowl(knobs, scales, table["smooth_loss"], {"batch": ("tokens",)}, jackknife=jackknife)


def _step_regret(law: BowlLaw, cell: pd.DataFrame) -> float:
    """Percent above the cell's best loss, at the grid point nearest to the law in logarithms."""
    best = law.optimum({"params": cell["non_embedding_params"].iloc[0], "tokens": cell["tokens"].iloc[0]})
    away = sum(np.log(cell[knob] / best[knob].value) ** 2 for knob in law.knobs)
    return float(100 * (cell["smooth_loss"].to_numpy()[np.argmin(away)] / cell["smooth_loss"].min() - 1))


def finetuning() -> dict[str, Any]:
    """The last loss of 30 models' curves over data, when the last 3, 5 or 7 doublings are hidden."""
    x, rows = 200 * 2.0 ** np.arange(14), []
    for name in ("flan", "gigaword"):
        table = pd.read_csv(data_folder() / "finetune_scaling" / f"{name}.csv")
        losses = table[[str(int(size)) for size in x]].to_numpy(dtype=float)
        for hidden in (3, 5, 7):
            row = _foretold(x[:-hidden], losses[:, :-hidden], x[-1], losses[:, -1])
            rows.append({"table": name, "times": 2**hidden, **row})
    found = pd.DataFrame(rows)
    numbers = ["law", "slope", "last", "coverage"]
    by_table = found.groupby("table")["coverage"].mean().to_dict()
    return {
        "rows": rows,
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
        row = _foretold(np.arange(1.0, 11.0), seen, 50.0, losses[:, 50])
        rows.append({"table": path.stem, "curves": len(losses), **row})
    return {"rows": rows}


def _foretold(x: np.ndarray, seen: np.ndarray, at: float, final: np.ndarray) -> dict[str, Any]:
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


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "max": float(np.max(values))}


def _print_chinchilla(found: dict[str, Any]) -> None:
    print("L = E + A/N^a + B/D^b,", ", ".join(f"{k} {v:.5g}" for k, v in found["coefficients"].items()))
    low, high = (100 * off for off in found["starts_sum_off"])
    print(
        f"  furthest from the published: {100 * found['worst_coefficient']:.3f} %; {found['cpu_seconds']:.2f} s"
    )
    print(f"  Huber sum {found['huber_sum']:.10f}, off by {100 * found['huber_sum_off']:+.5f} %")
    print(f"  {found['starts']} random starts: Huber sum off by {low:+.5f} % to {high:+.5f} %,")
    print(f"  furthest coefficient {100 * found['starts_worst_coefficient']:.3f} %,", end=" ")
    print(f"{found['starts_cpu_seconds'][1]:.2f} s at most")


def _print_steplaw(found: dict[str, Any]) -> None:
    print(f"learning rate and batch size of {found['cells']} cells, % above the best of the grid (mean, max)")
    for name in ("in_sample", "leave_one_cell_out", "largest_three"):
        print(f"  {name.replace('_', ' '):22s} {found[name]['mean']:.3f}  {found[name]['max']:.3f}")
    print(f"  {'median configuration':22s} {found['median_configuration']:.3f}")
    for knob, rows in found["coefficients"].items():
        for name, (value, low, high) in rows.items():
            known = STEP_LAW.get(knob, {}).get(name)
            beside = "" if known is None else f", published {known}"
            print(f"  {knob} {name}: {value:.3g} (80 %: {low:.3g} to {high:.3g}{beside})")


def _print_curves(found: dict[str, Any]) -> None:
    print("mean relative error (mean |log error|) of the final loss, and coverage of the 80 % intervals")
    for row in found["rows"]:
        label = row["table"] + (f" {row['times']}x" if "times" in row else "")
        parts = [f"{name} {row[name]:.4g} ({row['log_' + name]:.4f})" for name in ("law", "slope", "last")]
        print(f"  {label:38s} {', '.join(parts)}; {row['coverage']:.2f}; {row['settings']}")
    for row in found.get("mean", ()):
        print(
            f"  both {row['times']}x: law {row['law']:.4f}, slope {row['slope']:.4f}, last {row['last']:.4f}"
        )
    if "coverage" in found:
        print("  coverage:", ", ".join(f"{name} {value:.3f}" for name, value in found["coverage"].items()))


def _print_lora(found: dict[str, Any]) -> None:
    print(f"learning rate of each of {found['models']} models from the others, % above its best test NLL")
    for name in ("largest_rank", "all_ranks"):
        costs = found[name]
        print(
            f"  {name.replace('_', ' '):14s} law {costs['law']:.3f}, fixed {FIXED_RATE:g} {costs['fixed']:.3f}"
        )


PARTS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]] = {
    "chinchilla": (chinchilla, _print_chinchilla),
    "steplaw": (steplaw, _print_steplaw),
    "finetuning": (finetuning, _print_curves),
    "taskset": (taskset, _print_curves),
    "lora": (lora, _print_lora),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write all results there")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas")
    parser.add_argument("--starts", type=int, default=100, help="random starts of the chinchilla fit")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.only.split(","):
        measure, show = PARTS[name]
        results[name] = chinchilla(arguments.starts) if name == "chinchilla" else measure()
        print(f"\n{name}")
        show(results[name])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
