"""The trials of `benchmarks.time_to_front`: hypervolume over time, and the time to a share of the reference."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from autotune.pareto import hypervolume
from benchmarks.result_files import Table

ARMS = {
    "gp": "GPSampler, Trainer, peft",
    "tpe": "TPESampler, Trainer, peft",
    "default": "autotune, defaults",
    "plain": "autotune, neither",
    "ladder": "autotune, ladder",
    "packed": "autotune, packed",
    "both": "autotune, ladder and packed",
    "int8": "autotune, packed, int8 products",
    "plain8": "autotune, neither, int8 products",
}
BY_HAND = ("gp", "tpe")
SHARE = 0.95
SMALLEST = 100.0
"""Adapters with fewer parameters count as this many: there is no logarithm of none."""


@dataclass
class Done:
    """One trial that ended or stopped on a rung: the clocks of its arm at that moment, and what it brought.

    Args:
        number: of the trial; on a ladder it may come several times.
        wall, cpu: seconds since the arm began.
        flops: of the whole training of its configuration.
        share: of that which is behind.
        accuracy, parameters: None for a trial that is not complete.
    """

    number: int
    wall: float
    cpu: float
    flops: float
    share: float
    accuracy: float | None = None
    parameters: float | None = None


@dataclass
class Record:
    """All trials of one arm with one seed, in the order in which they ended."""

    arm: str
    seed: int
    complete: bool = False
    trials: list[Done] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Record:
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**data, "trials": [Done(**trial) for trial in data["trials"]]})

    def save(self, path: Path) -> None:
        draft = path.with_suffix(".tmp")
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(draft, path)


@dataclass(frozen=True)
class Moment:
    """Where an arm stands when a trial has ended; `volume` is the hypervolume so far."""

    wall: float
    cpu: float
    flops: float
    trials: int
    volume: float


def losses(trials: Sequence[Done]) -> np.ndarray:
    """(1 - accuracy, log10 parameters) of the complete trials, shape [n, 2]; lower is better."""
    rows = [
        (1.0 - trial.accuracy, math.log10(max(trial.parameters, SMALLEST)))
        for trial in trials
        if trial.accuracy is not None and trial.parameters is not None
    ]
    return np.array(rows, dtype=float).reshape(-1, 2)


def reference_volume(records: Sequence[Record], corner: Sequence[float]) -> float:
    """Of the trials of all records together."""
    return hypervolume(losses([trial for record in records for trial in record.trials]), corner)


def moments(record: Record, corner: Sequence[float]) -> list[Moment]:
    """After each trial that ended or stopped."""
    shares: dict[int, tuple[float, float]] = {}
    found = []
    for count, trial in enumerate(record.trials, start=1):
        shares[trial.number] = (trial.flops, trial.share)
        flops = sum(whole * share for whole, share in shares.values())
        volume = hypervolume(losses(record.trials[:count]), corner)
        found.append(Moment(trial.wall, trial.cpu, flops, len(shares), volume))
    return found


def first_at(path: Sequence[Moment], volume: float) -> Moment | None:
    """The first moment with so much hypervolume, or None."""
    return next((moment for moment in path if moment.volume >= volume), None)


def table(
    records: Sequence[Record], corner: Sequence[float], share: float = SHARE, caption: str = ""
) -> Table:
    """Return one row per arm, with its median wall time relative to that of the arms by hand."""
    reference = reference_volume(records, corner)
    first = {
        arm: [(path[-1], first_at(path, share * reference)) for record in records if record.arm == arm
              and (path := moments(record, corner))]
        for arm in ARMS
    }  # fmt: skip
    peers = {arm: _wall(first[arm]) for arm in BY_HAND if first[arm]}
    titles = ["arm", "seeds", "wall time, s", *(f"{peer}'s time, relative" for peer in peers)]
    titles += ["processor time, s", "10¹² FLOPs", "trials", "share at the end"]
    rows = [_row(arm, ends, reference, list(peers.values())) for arm, ends in first.items() if ends]
    return Table(caption, tuple(titles), tuple(rows))


def _wall(ends: Sequence[tuple[Moment, Moment | None]]) -> tuple[str, float]:
    """Median wall seconds; behind a sign the least that it can be, where too few seeds got there."""
    median = float(np.median([math.inf if found is None else found.wall for _, found in ends]))
    if math.isfinite(median):
        return "", median
    return "> ", float(np.median([last.wall if found is None else found.wall for last, found in ends]))


def _row(
    arm: str,
    ends: Sequence[tuple[Moment, Moment | None]],
    reference: float,
    peers: Sequence[tuple[str, float]],
) -> tuple[str, ...]:
    there = [found for _, found in ends if found is not None]
    final = [last.volume / reference for last, _ in ends]
    cells = [f"`{arm}`", f"{len(there)} of {len(ends)}"]
    if len(there) * 2 > len(ends):
        walls = [found.wall if found is not None else math.inf for _, found in ends]
        cells.append(_spread(walls, [last.wall for last, _ in ends]))
        cells += [f"{sign}{wall / float(np.median(walls)):.1f}×" for sign, wall in peers]
        for name, unit in (("cpu", 1.0), ("flops", 1e12), ("trials", 1.0)):
            values = [getattr(found, name) / unit if found is not None else math.inf for _, found in ends]
            cells.append(_spread(values, [getattr(last, name) / unit for last, _ in ends]))
    else:
        trials = max(last.trials for last, _ in ends)
        seconds = max(last.wall for last, _ in ends)
        cells += [f"not within {trials} trials / {seconds:.0f} s", *[""] * (len(peers) + 3)]
    return *cells, f"{np.mean(final):.3f} ({min(final):.3f} to {max(final):.3f})"


def _spread(values: Sequence[float], ends: Sequence[float]) -> str:
    """Median and range over the seeds; a seed that did not get there took more than where it ended."""
    shown = [f"> {end:.3g}" if math.isinf(v) else f"{v:.3g}" for v, end in zip(values, ends, strict=True)]
    order = np.argsort(values, kind="stable")
    middle = float(np.median(values))
    text = shown[order[len(order) // 2]] if math.isinf(middle) or len(values) % 2 else f"{middle:.3g}"
    return f"{text} ({shown[order[0]]} to {shown[order[-1]]})" if len(values) > 1 else text
