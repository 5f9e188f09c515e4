"""A plausible finished sweep, generated without training.

Quality rises with the adapter's size and falls away from the family's best learning rate; costs follow from
the configuration; some trials fail, some are pruned. Everything is fixed by the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autotune.results.estimates import feasible_rows, on_front
from autotune.results.probe_runs import ProbeRun, probe_table
from autotune.results.sweep_tables import TRIAL_COLUMNS, SweepTables
from autotune.sweep.schema import Sweep

OBJECTIVES = {
    2: ("accuracy", "trainable_params"),
    3: ("accuracy", "trainable_params", "train_flops"),
    4: ("accuracy", "trainable_params", "train_flops", "peak_memory"),
}
_BOXES: dict[str, dict[str, Any]] = {
    "accuracy": {"reference": 0.509, "ideal": 1.0},
    "trainable_params": {"reference": 1.2e6, "ideal": 0.0, "floor": 200.0, "max": 9e5},
    "train_flops": {"reference": 9e12, "ideal": 1e12, "floor": 1e12},
}
_FAMILIES = ("bottleneck", "head_only", "ia3", "lora")
_BEST_RATE = {"bottleneck": 4e-4, "head_only": 2e-3, "ia3": 4e-3, "lora": 3e-4}
_HIDDEN, _DEPTH, _SAMPLES, _HEAD = 384, 6, 2_000, 148_610


def synthetic_sweep(objectives: Sequence[str] = OBJECTIVES[2], **changes: Any) -> Sweep:
    """A resolved sweep with these objectives."""
    return Sweep.model_validate(
        {
            "name": "reviews",
            "model": "sentence-transformers/all-MiniLM-L6-v2",
            "task": {"train": "data/train.tsv", "text": ["sentence"], "label": "label", "metric": "accuracy"},
            "objectives": [{"name": name, **_BOXES.get(name, {})} for name in objectives],
            "budget": {"trials": 30, "hours": 2},
            "seed": 0,
            **changes,
        }
    )


def synthetic_results(
    folder: Path,
    *,
    objectives: int | Sequence[str] = 2,
    trials: int = 30,
    confirm_seeds: int = 5,
    statuses: Sequence[str] | None = None,
    seed: int = 0,
    sweep: dict[str, Any] | None = None,
    probed: bool = True,
) -> SweepTables:
    """The results of a finished sweep.

    Args:
        folder: where they claim to be from.
        objectives: how many, or their names.
        trials: how many.
        confirm_seeds: confirmation runs of each point on the front; 0 for a sweep that was not confirmed.
        statuses: of the trials, in order; by default every tenth fails and every tenth is pruned.
        seed: of everything random.
        sweep: changes to the sweep.
        probed: whether the front's points were trained on parts of the data.
    """
    names = OBJECTIVES[objectives] if isinstance(objectives, int) else tuple(objectives)
    resolved = synthetic_sweep(names, **{"budget": {"trials": max(trials, 1), "hours": 2}, **(sweep or {})})
    rng = np.random.default_rng(seed)
    if statuses is None:
        statuses = [{4: "failed", 7: "pruned"}.get(number % 10, "complete") for number in range(trials)]
    rows = [_trial(number, status, names, rng) for number, status in enumerate(statuses)]
    table = pd.DataFrame(rows, columns=None if rows else [*TRIAL_COLUMNS, *names])
    values = table[list(names)].to_numpy(dtype=float)
    table["runs"] = np.isfinite(values).all(axis=1).astype(int)
    table["feasible"] = feasible_rows(resolved.objectives, values)
    table["on_search_front"] = on_front(resolved.objectives, values)
    table["on_front"] = table["on_search_front"]
    return SweepTables(
        folder=folder,
        sweep=resolved,
        trials=table,
        curves=_curves(table, rng),
        confirmations=_confirmations(table, confirm_seeds, rng),
        baselines={"majority class": 0.509},
        probes=probes_of(table[table["on_front"]], resolved.model.name, rng) if probed else probe_table([]),
    )


def probes_of(front: pd.DataFrame, model: str, rng: np.random.Generator) -> pd.DataFrame:
    """Runs of a front's points on seven shares of the data, whose errors fall by a power law and end where the
    trial's own is."""
    rows = []
    for _, trial in front.iterrows():
        for share in 2.0 ** (-np.arange(6, -1, -1) / 2):
            error = (1 - trial["metric.accuracy"]) * share**-0.2 * np.exp(0.02 * rng.normal())
            rows.append({
                **asdict(ProbeRun(trial["trial"], model, share, 1.0, 1.0, 1_000_000)),
                "examples": round(_SAMPLES * share), "tokens": round(50 * _SAMPLES * share), "params": 22_713_216,
                "learning_rate": 1e-3, "batch_size": trial["param.batch_size"],
                "metric.accuracy": 1 - error, "metric.eval_loss": 2 * error,
            })  # fmt: skip
    return pd.DataFrame(rows) if rows else probe_table([])


def _config(number: int, rng: np.random.Generator) -> dict[str, Any]:
    family = _FAMILIES[number % len(_FAMILIES)]
    config: dict[str, Any] = {"family": family, "batch_size": int(rng.choice([8, 16, 32, 64]))}
    config[f"{family}.learning_rate"] = float(_BEST_RATE[family] * 10 ** rng.normal(0, 0.5))
    if family == "lora":
        config["lora.rank"] = int(2 ** rng.integers(0, 7))
        config["lora.targets"] = str(rng.choice(["query,value", "all-linear"]))
    if family == "bottleneck":
        config["bottleneck.size"] = int(3 * 2 ** rng.integers(0, 7))
        config["bottleneck.parallel"] = bool(rng.random() < 0.5)
    if family != "head_only":
        config["top_layers"] = int(rng.integers(1, _DEPTH + 1))
    return config


def adapter_parameters(config: dict[str, Any]) -> int:
    """Trainable parameters of the made-up adapter."""
    layers = config.get("top_layers", 0)
    match config["family"]:
        case "lora":
            per_layer = (
                config["lora.rank"] * 2 * _HIDDEN * (2 if config["lora.targets"] == "query,value" else 8)
            )
        case "bottleneck":
            per_layer = 2 * (2 * config["bottleneck.size"] * _HIDDEN + config["bottleneck.size"] + _HIDDEN)
        case "ia3":
            per_layer = 2 * _HIDDEN + 4 * _HIDDEN
        case _:
            per_layer = 0
    return layers * per_layer


def _trial(number: int, status: str, names: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    config = _config(number, rng)
    parameters = adapter_parameters(config)
    rate = config[f"{config['family']}.learning_rate"]
    miss = np.log10(rate / _BEST_RATE[config["family"]]) ** 2
    loss = 0.62 - 0.026 * np.log10(1 + parameters) * (1 - 0.5 * miss) + 0.04 * miss + rng.normal(0, 0.008)
    accuracy = 1 - 0.33 * loss**0.8 + rng.normal(0, 0.004)
    share = 0.33 + 0.67 * config.get("top_layers", 0) / _DEPTH
    seconds = float(11 + 14 * share + rng.normal(0, 0.8))
    costs = {
        "trainable_params": float(parameters),
        "stored_bytes": 4.0 * (parameters + _HEAD),
        "train_flops": 1.0e12 + 3.1e12 * share + 6.0 * parameters * _SAMPLES * 13,
        "inference_flops": 5.5e8 + 2.0 * parameters,
        "head_params": float(_HEAD),
        "train_seconds": 0.8 * seconds,
        "peak_memory": 4.1e8 + 2.4e8 * share + 16.0 * parameters,
    }
    metrics = {"accuracy": round(float(accuracy) * 872) / 872, "eval_loss": float(loss)}
    known = {**metrics, **costs} if status == "complete" else {}
    started = pd.Timestamp("2026-01-01 12:00") + pd.Timedelta(seconds=30 * number)
    error = "the loss is not finite after 40 steps (learning rate 0.031)" if status == "failed" else None
    return {
        "trial": number,
        "status": status,
        "started": started,
        "finished": started + pd.Timedelta(seconds=seconds),
        "elapsed": 30 * number + seconds,
        "seconds": seconds,
        "seed": number,
        "origin": None,
        "error": error,
        "failure": None if error is None else "diverged",
        "traceback": None
        if error is None
        else f"Traceback (most recent call last):\nDivergedError: {error}\n",
        "share": 1.0,
        "chunk_tokens": np.nan,
        "config": config,
        **{name: known.get(name, np.nan) for name in names},
        **{f"param.{name}": value for name, value in config.items()},
        **{f"metric.{name}": known.get(name, np.nan) for name in metrics},
        **{f"cost.{name}": value for name, value in costs.items()},
    }


def _curves(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for _, trial in table.iterrows():
        if trial["status"] == "failed":
            continue
        final = trial["metric.eval_loss"] if trial["status"] == "complete" else 0.66
        for step in range(1, 5 if trial["status"] == "complete" else 3):
            loss = (
                final
                + 0.3 * np.exp(-1.1 * step)
                - 0.3 * np.exp(-4.4)
                + (rng.normal(0, 0.004) if step < 4 else 0)
            )
            rows.append(
                {
                    "trial": trial["trial"],
                    "step": step * 16,
                    "samples": step * _SAMPLES // 4,
                    "metric.eval_loss": loss,
                    "metric.accuracy": 1 - 0.33 * loss**0.8,
                }
            )
    return pd.DataFrame(rows, columns=None if rows else ["trial", "step", "samples"])


def _confirmations(table: pd.DataFrame, seeds: int, rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        {
            "trial": trial["trial"],
            "seed": 1_000_000 + index,
            "elapsed": 1.0 + index,
            "metric.accuracy": trial["metric.accuracy"] - 0.008 + rng.normal(0, 0.005),
            "metric.eval_loss": trial["metric.eval_loss"] + 0.01 + rng.normal(0, 0.008),
            "test.accuracy": trial["metric.accuracy"] - 0.012 + rng.normal(0, 0.006),
            "test.eval_loss": trial["metric.eval_loss"] + 0.014 + rng.normal(0, 0.01),
        }
        for _, trial in table[table["on_front"]].iterrows()
        for index in range(seeds)
    ]
    return pd.DataFrame(rows, columns=None if rows else ["trial", "seed", "elapsed"])
