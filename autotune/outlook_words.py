"""What a probe foretells, in the words of the terminal and the report."""

from __future__ import annotations

import math

from autotune.outlook import FACTORS, BaseOutlook, Expected, Outlook
from autotune.units import quantity

_LIKELY, _UNLIKELY = 0.8, 0.5


def expected_text(score: str, expected: Expected) -> str:
    """`81.6 % (79.9 % to 83.2 %)`, worst end first, or what was measured alone."""
    value = quantity(score, expected.value)
    if expected.measured:
        return value
    return f"{value} ({quantity(score, expected.worst)} to {quantity(score, expected.best)})"


def order_words(found: Outlook, base: BaseOutlook) -> str:
    """Whether the better of two neighbours on the front is expected to stay the better."""
    if math.isnan(base.holds[0]):
        return "One point has no order."
    said = [
        f"with {factor:g} × the data it {_verdict(share)} ({100 * share:.0f} %)"
        for factor, share in zip(FACTORS, base.holds, strict=True)
    ]
    return f"The order of the points along the front: {', '.join(said)}."


def _verdict(share: float) -> str:
    if share >= _LIKELY:
        return "is expected to hold"
    return "may change" if share >= _UNLIKELY else "is not expected to hold"


def rule_words(base: BaseOutlook) -> str:
    """How the curves were carried on, and how that did inside them."""
    test = base.backtest
    if math.isnan(test["used"]):
        return (
            f"Carried on by {base.rule}; the curves are too short for a test, so the intervals are a guess."
        )
    return (
        f"Carried on by {base.rule}: inside the curves it was {100 * test['used']:.1f} % off on average, the slope "
        f"of the last three points {100 * test['slope rule']:.1f} %, the last value {100 * test['last value']:.1f} %."
    )
