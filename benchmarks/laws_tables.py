"""The tables of `benchmarks.laws`: what was required beside what was reached, and the figures behind it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "RESULTS.md"
_START, _END = "<!-- laws -->", "<!-- end of laws -->"
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
    for (knob, scale), known in _EXPONENTS.items():
        value, low, high = found["coefficients"][knob][scale]
        yield Figure(
            f"steplaw: exponent of {scale} in the best {knob.replace('_', ' ')}", f"{known:g}, or why not",
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


_REQUIRED: dict[str, Callable[[dict[str, Any]], Iterable[Figure]]] = {
    "chinchilla": _chinchilla,
    "steplaw": _steplaw,
    "finetuning": _finetuning,
    "taskset": _taskset,
    "lora": _lora,
}


def tables(results: dict[str, Any]) -> str:
    """All tables as Markdown."""
    rows = [(f.what, f.required, f.value, "yes" if f.reached else "**no**") for f in required(results)]
    parts = [_table(("figure", "required", "measured", "reached"), rows)]
    parts += [_DETAILS[name](found) for name, found in results.items() if name in _DETAILS]
    return "\n\n".join(parts)


def write(text: str, page: Path = PAGE) -> None:
    """Put the tables between their marks on the page; the rest of the page stays."""
    old = page.read_text(encoding="utf-8")
    marked = re.compile(f"{_START}.*{_END}", re.DOTALL)
    if not marked.search(old):
        raise ValueError(f"{page}: no line {_START} and {_END}; add them where the tables belong")
    new = marked.sub(lambda _: f"{_START}\n\n{text}\n\n{_END}", old)
    page.write_text(new, encoding="utf-8")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def _steplaw_details(found: dict[str, Any]) -> str:
    names = {
        "in_sample": "this law, fitted to all cells",
        "leave_one_cell_out": "this law, fitted to the other cells",
        "largest_three": "this law, the three dearest cells from the rest",
        "published": "the published law",
    }
    rows = [
        (words, f"{found[name]['mean']:.3f}", f"{found[name]['max']:.3f}") for name, words in names.items()
    ]
    rows.append(("the median configuration", f"{found['median_configuration']:.3f}", ""))
    costs = found["published_by_our_bowl"]
    return (
        _table(("steplaw: nearest grid point above the cell's best, %", "mean", "max"), rows)
        + "\n\nOur bowl puts the published law's settings "
        + f"{costs['mean']:.3f} % above its bottom on average ({costs['max']:.3f} % at most)."
    )


def _curve_details(found: dict[str, Any]) -> str:
    rows = [
        _curve_row(row["table"] + (f", {row['times']}x" if "times" in row else ""), row)
        for row in found["rows"]
    ]
    rows += [
        _curve_row(f"{row['table']}, {row['times']}x, each curve alone", row)
        for row in found.get("alone", ())
    ]
    rows += [_curve_row(f"both, {row['times']}x", row) for row in found.get("mean", ())]
    head = ("curves", "this law", "slope rule", "last value", "coverage", "settings")
    return _table(head, rows)


def _curve_row(label: str, row: dict[str, Any]) -> Sequence[str]:
    errors = [
        f"{row[name]:.3g}" + (f" ({row['log_' + name]:.3f})" if "log_" + name in row else "")
        for name in ("law", "slope", "last")
    ]
    return label, *errors, f"{row['coverage']:.2f}", row.get("settings", "")


def _lora_details(found: dict[str, Any]) -> str:
    rows = [
        (name.replace("_", " "), f"{found[name]['law']:.3f}", f"{found[name]['fixed']:.3f}")
        for name in ("largest_rank", "all_ranks")
    ]
    return _table(
        (f"lora grid, {found['models']} models: NLL above the best, %", "this law", "fixed 3e-4"), rows
    )


_DETAILS: dict[str, Callable[[dict[str, Any]], str]] = {
    "steplaw": _steplaw_details,
    "finetuning": _curve_details,
    "taskset": _curve_details,
    "lora": _lora_details,
}
