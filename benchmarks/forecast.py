"""Predictions of a probe against later runs: sweeps whose points were trained on more data than their search had.

    autotune probe DIR --rates 1
    autotune probe DIR --rates 1 --shares 1,1.41,2,4,8
    python -m benchmarks.forecast DIR [DIR ...]

Runs beyond the searched data are held out, predicted from the others, and compared: the mean absolute error of the
logarithm of a score's distance from the best possible one, by the forecast of `autotune probe`, by the slope of the
last three points and by the last value; and how many of the new runs lie in their 80 % intervals.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autotune.probe.forecast import Curves, curves
from autotune.results.sweep_tables import read_tables
from autotune.results.tables import quality
from surrogates.laws import extrapolate_noisy, last_value, slope_rule


@dataclass(frozen=True)
class Row:
    """One score of one sweep at one multiple of the searched data."""

    sweep: str
    score: str
    ahead: float
    points: int
    error: float
    slope: float
    last: float
    inside: int


def compare(sweep: str, score: str, seen: Curves, searched: int) -> list[Row]:
    """A row for each number of examples beyond those that the search trained on."""
    known = seen.examples <= searched
    x, y = seen.examples[known], seen.errors[:, known]
    rows = []
    for place in np.flatnonzero(~known):
        at, truth = float(seen.examples[place]), seen.errors[:, place]
        found = extrapolate_noisy(x, y, at)

        def off(predicted: np.ndarray, truth: np.ndarray = truth) -> float:
            return float(np.abs(np.log(predicted / truth)).mean())

        rows.append(
            Row(
                sweep, score, at / searched, len(truth), off(found.value), off(slope_rule(x, y, at)),
                off(last_value(y)), int(((found.low <= truth) & (truth <= found.high)).sum()),
            )
        )  # fmt: skip
    return rows


def measure(folder: Path) -> list[Row]:
    """All rows of a sweep's folder; its score and its loss."""
    results = read_tables(folder)
    own = results.probes[results.probes["model"] == results.sweep.model.name]
    searched = int(own.loc[own["share"] == 1.0, "examples"].iloc[0])
    scores = dict.fromkeys([quality(results).name, "eval_loss"])
    return [
        row
        for score in scores
        for row in compare(
            results.sweep.name, score, curves(results, results.sweep.model.name, score), searched
        )
    ]


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| sweep | score | data | error of the prediction | last three points' slope | last value | within 80 % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        errors = " | ".join(f"{100 * each:.1f} %" for each in (row.error, row.slope, row.last))
        lines.append(
            f"| {row.sweep} | {row.score} | × {row.ahead:.3g} | {errors} | {row.inside} of {row.points} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    rows = [row for folder in parser.parse_args().folders for row in measure(folder)]
    print(table(rows))


if __name__ == "__main__":
    main()
