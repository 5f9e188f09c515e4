"""The tables of the measurements, for a terminal and for the page of results."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.gpu.comparison import TRAINER
from benchmarks.gpu.parts import Outcome
from benchmarks.result_files import Setup, Table, this_run

_PARTS = ("part", "state", "seconds", "message")
_SPEED = (
    "base model", "tokens", "weights, precision", "trials at a time", "trials per round", "examples/s",
    "ratio to Trainer (range)", "trials/h", "ratio to Trainer (range)", "utilization of the nominal peak",
    "of the measured peak", "peak memory, GB", "validation loss of the first trial", "rounds",
)  # fmt: skip
_MEMORY = (
    "base model", "weights", "configurations", "tokens per text", "tokens per chunk", "base model, GB: predicted",
    "measured", "step, GB: predicted", "measured", "ratio of the step", "ratio of both together",
)  # fmt: skip
_OPERATIONS = (
    "base model", "configurations", "seconds per step", "operations", "kernels", "waits for the GPU",
    "seconds in kernels",
)  # fmt: skip
_QUICKSTART = ("seconds", "trials", "trials/h", "points of the front")
_SHOWN = 2000
"""Characters of a traceback on the page, from its end; gpu.json has more."""
_TESTS = ("tests of a GPU", "passed", "failed", "skipped", "why")


def tables_of(outcomes: Sequence[Outcome]) -> dict[str, Table]:
    """Return the tables for which anything was measured, by name."""
    peaks, nominal = _peaks(outcomes)
    made = {
        "speed": Table(_speed_caption(peaks, nominal), _SPEED, tuple(_speed_rows(outcomes, peaks, nominal))),
        "memory": Table(
            "The first two steps of a pack. A chunk is one forward and backward pass. Predicted is the closed form "
            "of `trials/packing/memory_model.py`.",
            _MEMORY,
            tuple(_memory_rows(outcomes)),
        ),
        "operations": Table(
            "One step of a pack. Operations are PyTorch's, nested ones included; the seconds of a step were measured "
            "without the profiler.",
            _OPERATIONS,
            tuple(_operation_rows(outcomes)),
        ),
        "quickstart": Table(
            "`autotune run quickstart`, from the command to the report; the points of the front are trained again.",
            _QUICKSTART,
            tuple(_quickstart_rows(outcomes)),
        ),
        "tests": Table("`pytest -m gpu`.", _TESTS, tuple(_test_rows(outcomes))),
    }
    return {name: table for name, table in made.items() if table.rows}


def parts_table(outcomes: Sequence[Outcome]) -> Table:
    """Return how each part went."""
    rows = ((o.part, o.state, f"{o.seconds:.0f}", o.message.replace("\n", " ")) for o in outcomes)
    return Table("All parts, in their order.", _PARTS, tuple(rows))


def setup_of(outcomes: Sequence[Outcome]) -> Setup:
    """Return how the tables were measured: the running command, and the card with its software."""
    setup = this_run()
    return Setup(setup.command, hardware(outcomes), setup.commit, setup.date)


def hardware(outcomes: Sequence[Outcome]) -> str:
    """Return the card, its driver and the versions of CUDA and torch."""
    card = _fact(outcomes, "card", {})
    if not card:
        return "unknown card"
    if "driver" not in card:
        return f"{card['card']}, torch {card['torch']}"
    memory = f"{card['memory'] / 1e9:.0f} GB"
    versions = f"driver {card['driver']}, CUDA {card['cuda']}, torch {card['torch']}"
    return f"{card['card']} ({memory}), {versions}, {card['processor']}"


def page(run: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Return the Markdown page of a run."""
    command = shlex.join(run["command"])
    lines = [
        f"# {hardware(outcomes)}",
        f"`{command}`, commit `{run['commit']}`, {datetime.now(UTC).date().isoformat()}; "
        f"{run['seconds']:.0f} s in all.",
    ]
    if run["tiny"]:
        lines.append("**Tiny models: this run shows that the script works, and says nothing of speed.**")
    for name, table in {**tables_of(outcomes), "parts": parts_table(outcomes)}.items():
        lines += [f"## {name.capitalize()}", table.as_markdown(), f"*{table.caption}*"]
    for outcome in outcomes:
        for error in outcome.data.get("errors", ()):
            lines += [
                f"### {outcome.part}, {error['what']}",
                f"```\n{error['traceback'][-_SHOWN:].strip()}\n```",
            ]
    return "\n\n".join(lines) + "\n"


def _fact(outcomes: Sequence[Outcome], name: str, default: Any) -> Any:
    return next((outcome.data[name] for outcome in outcomes if name in outcome.data), default)


def _peaks(outcomes: Sequence[Outcome]) -> tuple[dict[str, float], float | None]:
    """Return the measured peaks by dtype, and the nominal one in bf16."""
    return _fact(outcomes, "peaks", {}), _fact(outcomes, "card", {}).get("nominal_peak")


def _speed_caption(peaks: Mapping[str, float], nominal: float | None) -> str:
    of_card = f"{nominal / 1e12:.0f} TFLOP/s" if nominal else "not known for this card"
    measured = ", ".join(f"{value / 1e12:.1f} TFLOP/s in {name}" for name, value in peaks.items())
    return (
        "LoRA of ranks 4 to 32 on all matrices. examples/s counts training only; trials/h counts everything from "
        "loading the base model, which Trainer does for each trial and autotune once, to the last validation score. "
        "Medians of the rounds; ratios are within a round, in brackets the lowest and the highest. Utilization is "
        f"the FLOPs of the cost model over training time and a peak: the nominal one (dense bf16), {of_card}; the "
        f"measured one, {measured or 'unknown'}, that in fp32 for rows in fp32. Peak memory includes the base model "
        "and evaluation."
    )


def _rows(
    outcomes: Sequence[Outcome], table: str
) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
    """Yield the data of each part that has rows of a table, and these rows."""
    for outcome in outcomes:
        found = outcome.data.get("rows", {}).get(table, [])
        if found:
            yield outcome.data, found


def _speed_rows(
    outcomes: Sequence[Outcome], peaks: Mapping[str, float], nominal: float | None
) -> Iterator[tuple[str, ...]]:
    for data, rows in _rows(outcomes, "speed"):
        case = data["case"]
        by_round = {row["round"]: row for row in rows if row["arm"] == TRAINER}
        for arm in dict.fromkeys(row["arm"] for row in rows):
            own = [row for row in rows if row["arm"] == arm]
            flops = _median(own, "flops_per_second")
            in_bf16 = case["precision"] == "bf16"
            measured = peaks.get("bf16" if in_bf16 else "fp32")
            yield (
                data["model"],
                str(case["tokens"] or "5 to 60 words"),
                f"{case['weights']}, {case['precision']}",
                arm,
                str(own[0]["trials"]),
                f"{_median(own, 'examples_per_second'):.1f}",
                _ratio(own, by_round, "examples_per_second"),
                f"{_median(own, 'trials_per_hour'):.0f}",
                _ratio(own, by_round, "trials_per_hour"),
                f"{flops / nominal:.1%}" if nominal and in_bf16 else "–",
                f"{flops / measured:.1%}" if measured else "–",
                f"{max(row['peak_memory'] for row in own) / 1e9:.2f}",
                f"{_median(own, 'loss'):.4f}",
                str(len(own)),
            )


def _median(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.median([row[name] for row in rows]))


def _ratio(rows: Sequence[Mapping[str, Any]], trainer: Mapping[int, Mapping[str, Any]], name: str) -> str:
    """Return the median, lowest and highest ratio to Trainer in the same round."""
    ratios = [row[name] / trainer[row["round"]][name] for row in rows if row["round"] in trainer]
    if not ratios:
        return "–"
    return f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _memory_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for data, rows in _rows(outcomes, "memory"):
        for row in rows:
            both = [row[f"base_{side}"] + row[side] for side in ("predicted", "measured")]
            yield (
                data["model"],
                f"{data['case']['weights']}, {data['case']['precision']}",
                str(row["k"]),
                str(row["length"]),
                str(row["tokens"]),
                *(
                    f"{row[name] / 1e9:.3f}"
                    for name in ("base_predicted", "base_measured", "predicted", "measured")
                ),
                f"{row['predicted'] / row['measured']:.2f}" if row["measured"] else "–",
                f"{both[0] / both[1]:.2f}",
            )


def _operation_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for data, rows in _rows(outcomes, "operations"):
        for row in rows:
            counts = (str(row[name]) for name in ("k", "operations", "kernels", "waits"))
            k, operations, kernels, waits = counts
            in_kernels = f"{row['kernel_seconds']:.4f}" if row["kernels"] else "–"
            yield data["model"], k, f"{row['seconds']:.4f}", operations, kernels, waits, in_kernels


def _quickstart_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for _, rows in _rows(outcomes, "quickstart"):
        for row in rows:
            counts = (str(row["trials"]), f"{row['trials_per_hour']:.0f}", str(row["points"]))
            yield (f"{row['seconds']:.0f}", *counts)


def _test_rows(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    for _, rows in _rows(outcomes, "tests"):
        for row in rows:
            counts = (str(row[name]) for name in ("tests", "passed", "failed", "skipped"))
            yield (*counts, "; ".join([*row["failures"], *row["reasons"]]) or "–")
