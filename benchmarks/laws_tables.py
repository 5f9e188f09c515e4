"""The tables of `benchmarks.laws`: what was required beside what was reached, and the figures behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.result_files import Table

_EXPONENTS = {
    ("learning_rate", "params"): -0.713,
    ("learning_rate", "tokens"): 0.307,
    ("batch", "tokens"): 0.571,
}
"""Of Step Law (arXiv 2503.04715), eq. 1."""


@dataclass(frozen=True)
class Figure:
    """One required figure: what it is, the limit as written, the value as written, and whether it was reached."""

    what: str
    required: str
    value: str
    reached: bool


def _at_most(what: str, value: float, limit: float, unit: str = "") -> Figure:
    return Figure(what, f"≤ {limit:g}{unit}", f"{value:.3g}{unit}", value <= limit)


def required(results: dict[str, Any]) -> list[Figure]:
    """Every required figure of the parts that were measured, in their order."""
    return [figure for name, found in results.items() for figure in _REQUIRED[name](found)]


def _chinchilla(found: dict[str, Any]) -> Iterable[Figure]:
    sums = 100 * max(abs(off) for off in found["starts_sum_off"])
    starts = f"{found['starts']} random starts"
    yield _at_most("chinchilla: coefficients off the published", 100 * found["worst_coefficient"], 0.5, " %")
    yield _at_most("chinchilla: Huber sum off", 100 * abs(found["huber_sum_off"]), 0.01, " %")
    yield _at_most("chinchilla: CPU time of a fit", found["cpu_seconds"], 1.0, " s")
    yield _at_most(
        f"chinchilla: coefficients off, {starts}", 100 * found["starts_worst_coefficient"], 0.5, " %"
    )
    yield _at_most(f"chinchilla: Huber sum off, {starts}", sums, 0.01, " %")


def _steplaw(found: dict[str, Any]) -> Iterable[Figure]:
    for name, limit in (("in_sample", 0.10), ("leave_one_cell_out", 0.15), ("largest_three", 0.20)):
        words = name.replace("_", " ")
        yield _at_most(f"steplaw: {words}, above the cell's best, mean", found[name]["mean"], limit, " %")
    for (setting, scale), known in _EXPONENTS.items():
        value, low, high = found["coefficients"][setting][scale]
        yield Figure(
            f"steplaw: exponent of {scale} in the best {setting.replace('_', ' ')}", f"{known:g}, or why not",
            f"{value:.3f} (80 %: {low:.3f} to {high:.3f})", low <= known <= high,
        )  # fmt: skip


def _finetuning(found: dict[str, Any]) -> Iterable[Figure]:
    limits = {8: 0.025, 32: 0.055, 128: 0.14}
    reported = [row for row in found["rows"] if row["table"] == "gigaword"]
    for row in reported:
        yield _at_most(f"gigaword, {row['times']}x: mean relative error", row["law"], limits[row["times"]])
    for row in found["mean"]:
        yield _at_most(f"both tables, {row['times']}x: mean relative error", row["law"], limits[row["times"]])
    for row in found["rows"]:
        if row["table"] == "flan":
            yield _at_most(f"flan, {row['times']}x: mean relative error", row["law"], limits[row["times"]])
    for name, value in found["coverage"].items():
        words = "both tables" if name == "all" else name
        yield _coverage(f"{words}: coverage of the 80 % intervals", value)


def _coverage(what: str, value: float) -> Figure:
    return Figure(what, "0.72 to 0.88", f"{value:.3f}", 0.72 <= value <= 0.88)


def _taskset(found: dict[str, Any]) -> Iterable[Figure]:
    for row in found["rows"]:
        for key, words in (("", "mean relative error"), ("log_", "mean log error")):
            rival = min(row[key + "slope"], row[key + "last"])
            name = f"taskset {row['table']}: {words}"
            yield Figure(name, f"< {rival:.3g}", f"{row[key + 'law']:.3g}", row[key + "law"] < rival)
        yield _coverage(f"taskset {row['table']}: coverage", row["coverage"])


def _lora(found: dict[str, Any]) -> Iterable[Figure]:
    for name in ("largest_rank", "all_ranks"):
        words = name.replace("_", " ")
        yield _at_most(f"lora grid: NLL above the best, {words}, mean", found[name]["law"], 0.25, " %")


def _sweep(found: dict[str, Any]) -> Iterable[Figure]:
    times = found["params"] / found["largest_seen"]
    yield _at_most(
        f"scale sweep: loss of a model {times:.1f} times the largest seen",
        100 * abs(found["error"]),
        3.0,
        " %",
    )
    interval = f"{found['low']:.3f} to {found['high']:.3f}"
    yield Figure(
        "scale sweep: that loss in its 80 % interval", interval, f"{found['measured']:.3f}", found["within"]
    )


_REQUIRED: dict[str, Callable[[dict[str, Any]], Iterable[Figure]]] = {
    "chinchilla": _chinchilla,
    "steplaw": _steplaw,
    "finetuning": _finetuning,
    "taskset": _taskset,
    "lora": _lora,
    "sweep": _sweep,
}


def tables(results: dict[str, Any]) -> dict[str, Table]:
    """Return all tables by their names on the page of results."""
    rows = [(f.what, f.required, f.value, "yes" if f.reached else "**no**") for f in required(results)]
    caption = "Required and measured figures on published tables; coverage is of 80 % intervals."
    found = {"required": _table(caption, ("figure", "required", "measured", "reached"), rows)}
    return found | {
        _PAGE_NAMES[name]: _DETAILS[name](part) for name, part in results.items() if name in _DETAILS
    }


def _table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    return Table(caption, tuple(columns), tuple(map(tuple, rows)))


def _steplaw_details(found: dict[str, Any]) -> Table:
    names = {
        "in_sample": "this law, fitted to all cells",
        "leave_one_cell_out": "this law, fitted to the other cells",
        "largest_three": "this law, the three most expensive cells from the rest",
        "published": "the published law",
    }
    rows = [
        (words, f"{found[name]['mean']:.3f}", f"{found[name]['max']:.3f}") for name, words in names.items()
    ]
    rows.append(("the median configuration", f"{found['median_configuration']:.3f}", ""))
    costs = found["published_by_our_bowl"]
    caption = (
        "Excess loss of the nearest grid point over the best of its cell, in %, mean and maximum over cells. The "
        f"fitted bowl puts the published law's settings {costs['mean']:.3f} % above its bottom on average "
        f"({costs['max']:.3f} % at most)."
    )
    return _table(caption, ("configuration", "mean", "maximum"), rows)


def _curve_details(found: dict[str, Any]) -> Table:
    rows = [
        _curve_row(row["table"] + (f", {row['times']}x" if "times" in row else ""), row)
        for row in found["rows"]
    ]
    rows += [
        _curve_row(f"{row['table']}, {row['times']}x, each curve separately", row)
        for row in found.get("alone", ())
    ]
    rows += [_curve_row(f"both, {row['times']}x", row) for row in found.get("mean", ())]
    columns = (
        "curves", "law", "slope of the last three points", "last value", "coverage of the 80 % interval",
        "settings of the law",
    )  # fmt: skip
    return _table("Mean relative error, with the mean absolute log error in brackets.", columns, rows)


def _curve_row(label: str, row: dict[str, Any]) -> Sequence[str]:
    errors = [
        f"{row[name]:.3g}" + (f" ({row['log_' + name]:.3f})" if "log_" + name in row else "")
        for name in ("law", "slope", "last")
    ]
    return label, *errors, f"{row['coverage']:.2f}", row.get("settings", "")


def _lora_details(found: dict[str, Any]) -> Table:
    rows = [
        (name.replace("_", " "), f"{found[name]['law']:.3f}", f"{found[name]['fixed']:.3f}")
        for name in ("largest_rank", "all_ranks")
    ]
    models = found["models"]
    caption = f"Excess negative log-likelihood over the best of the grid, in %, mean over {models} models."
    return _table(caption, ("ranks", "law", "fixed rate of 3e-4"), rows)


_DETAILS: dict[str, Callable[[dict[str, Any]], Table]] = {
    "steplaw": _steplaw_details,
    "finetuning": _curve_details,
    "taskset": _curve_details,
    "lora": _lora_details,
}
_PAGE_NAMES = {
    "steplaw": "step-law",
    "finetuning": "fine-tuning-curves",
    "taskset": "taskset-curves",
    "lora": "lora-grid",
}
