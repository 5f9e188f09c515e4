"""Texts of a probe's forecast, for the terminal and the report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from autotune.formatting.units import label, quantity, si
from autotune.probe.excluded_points import ExcludedPoint
from autotune.probe.forecast import FACTORS, BaseForecast, Expected, ProbeForecast, Swap, is_bounded
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality
from surrogates.laws import FEWEST_POINTS


def expected_text(score: str, expected: Expected) -> str:
    """Return a predicted score as `81.6 % (79.9 % to 83.2 %)`, worst end first, and a measured score alone."""
    value = quantity(score, expected.value)
    if expected.is_measured:
        return value
    worst, best = quantity(score, expected.worst), quantity(score, expected.best)
    if best.endswith("%"):
        worst = worst.removesuffix("%").rstrip()
    return f"{value} ({worst} to {best})"


def order_text(base: BaseForecast) -> str:
    """Return whether the better of two neighbors on the front is expected to remain the better one."""
    return " ".join(
        f"With {factor:g} × the data {_order(swaps)}."
        for factor, swaps in zip(FACTORS, base.swaps, strict=True)
        if len(base.points) > 1
    )


def _order(swaps: Sequence[Swap]) -> str:
    if not swaps:
        return "the order along the front is expected to remain"
    pairs = [f"{swap.cheaper} and {swap.costlier} ({100 * swap.probability:.0f} %)" for swap in swaps]
    return f"these neighbors along the front may swap (probability): {', '.join(pairs)}"


def method_text(base: BaseForecast) -> str:
    """Return how the curves were extrapolated, and the error of that method within the measured curves."""
    test = base.backtest
    used, *others = [f"{100 * off:.1f} %" for off in test.values()]
    rules = [f"the {name} {off}" for name, off in zip(list(test)[1:], others, strict=True)]
    return (
        f"Extrapolated by {base.rule}. Mean error when predicting measured points from earlier ones, relative to the "
        f"distance from the best possible score: {used}; {', '.join(rules)}."
    )


def no_forecast(results: SweepTables) -> str:
    """Return why there is no forecast, and the command that makes one."""
    score = quality(results).name
    if not is_bounded(results.metric_of(score)):
        return f"The best possible value of {score} is not known, so there is no forecast. State it in task.scores."
    command = f"autotune probe {shlex.quote(str(results.folder))}"
    few = "was trained on shares of the data"
    if not (results.probes.empty and results.failed_probes.empty):
        few = f"has a score on {FEWEST_POINTS} shares of the data yet"
    return f"No point {few}, so there is no forecast. Run: {command}"


def exclusions_text(excluded: Sequence[ExcludedPoint]) -> str:
    """Return the points that a forecast excludes, with the reasons; empty if it excludes none."""
    points = "; ".join(f"trial {point.trial} on {point.model} ({point.reason})" for point in excluded)
    return f"Left out: {points}." if points else ""


def base_title(found: ProbeForecast, base: BaseForecast) -> str:
    """Return the title of the table of a base model."""
    return f"{label(found.score)} of {base.model} ({si(base.params)} parameters), {100 * found.level:.0f} % intervals"


def columns(base: BaseForecast) -> list[str]:
    """Return the headings of the table of a base model."""
    return ["Trial", f"{base.examples:,} examples", *(f"{factor:g} × the data" for factor in FACTORS)]


def rows(found: ProbeForecast, base: BaseForecast) -> list[list[str]]:
    """Return the cells of the table of a base model, one row per point."""
    return [
        [str(point.trial), *(expected_text(found.score, each) for each in (point.now, *point.later))]
        for point in base.points
    ]
