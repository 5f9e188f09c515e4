"""What a probe foretells, in the words of the terminal and the report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from autotune.formatting.units import label, quantity, si
from autotune.probe.excluded_points import Missing
from autotune.probe.forecast import FACTORS, BaseForecast, Expected, ProbeForecast, Swap
from autotune.results.sweep_tables import SweepTables
from surrogates.laws import FEWEST_POINTS


def expected_text(score: str, expected: Expected) -> str:
    """`81.6 % (79.9 % to 83.2 %)`, worst end first, or what was measured alone."""
    value = quantity(score, expected.value)
    if expected.measured:
        return value
    worst, best = quantity(score, expected.worst), quantity(score, expected.best)
    if best.endswith("%"):
        worst = worst.removesuffix("%").rstrip()
    return f"{value} ({worst} to {best})"


def order_words(base: BaseForecast) -> str:
    """Whether the better of two neighbors on the front is expected to stay the better."""
    return " ".join(
        f"With {factor:g} × the data {_order(swaps)}."
        for factor, swaps in zip(FACTORS, base.swaps, strict=True)
        if len(base.points) > 1
    )


def _order(swaps: Sequence[Swap]) -> str:
    if not swaps:
        return "the order along the front is expected to hold"
    pairs = [f"{swap.cheaper} and {swap.dearer} ({100 * swap.chance:.0f} %)" for swap in swaps]
    return f"these neighbors along the front may change places: {', '.join(pairs)}"


def rule_words(base: BaseForecast) -> str:
    """How the curves were carried on, and how that did inside them."""
    test = base.backtest
    used, *others = [f"{100 * off:.1f} %" for off in test.values()]
    rules = [f"the {name} {off}" for name, off in zip(list(test)[1:], others, strict=True)]
    return (
        f"Carried on by {base.rule}: within the curves it was {used} off on average (of the distance from the best "
        f"possible score), {', '.join(rules)}."
    )


def no_forecast(results: SweepTables) -> str:
    """What it takes to foretell anything."""
    command = f"autotune probe {shlex.quote(str(results.folder))}"
    few = "was trained on parts of the data"
    if not (results.probes.empty and results.failed_probes.empty):
        few = f"has a score on {FEWEST_POINTS} shares of the data yet"
    return f"No point {few}, so nothing can be foretold. Run {command} for that."


def missing_words(gaps: Sequence[Missing]) -> str:
    """The points that an outlook leaves out, and why; empty where it has all that were probed."""
    said = "; ".join(f"trial {gap.trial} on {gap.model} ({gap.why})" for gap in gaps)
    return f"Left out: {said}." if said else ""


def base_title(found: ProbeForecast, base: BaseForecast) -> str:
    """Which base and what is foretold of it."""
    return f"{label(found.score)} of {base.model} ({si(base.params)} parameters), {100 * found.level:.0f} % intervals"


def columns(base: BaseForecast) -> list[str]:
    """The headings of the table of a base."""
    return ["Trial", f"{base.examples:,} examples", *(f"{factor:g} × the data" for factor in FACTORS)]


def rows(found: ProbeForecast, base: BaseForecast) -> list[list[str]]:
    """The cells of the table of a base, a row a point."""
    return [
        [str(point.trial), *(expected_text(found.score, each) for each in (point.now, *point.later))]
        for point in base.points
    ]
