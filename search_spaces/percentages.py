"""Numbers, shares and percentages as sweep files, space files and command-line options write them."""

from __future__ import annotations

import math
from fractions import Fraction


def parse_number(text: str) -> float | None:
    """Return the finite number that a text holds, such as `16`, `0.5` or `1e9`, or None.

    Underscores between digits are refused, as YAML refuses them.
    """
    if "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse_percentage(text: str) -> float | None:
    """Return the share of 1 that a percentage stands for, or None if the text is no percentage.

    Example:
        >>> parse_percentage("0.5%")
        0.005
        >>> parse_percentage("0.5") is None
        True
    """
    number, sign, rest = text.strip().partition("%")
    value = parse_number(number) if sign and not rest else None
    return None if value is None else value / 100


def parse_share(text: str) -> float | None:
    """Return the number that a percentage (`12.5%`), a fraction (`1/8`) or a number (`0.125`) stands for, or None."""
    share = parse_percentage(text)
    if share is not None:
        return share
    try:
        return float(Fraction(text.strip()))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def format_percentage(share: float, digits: int = 4) -> str:
    """Write a share of 1 as a percentage with at most `digits` significant digits: `0.5%` for 0.005."""
    return f"{100 * share:.{digits}g}%"
