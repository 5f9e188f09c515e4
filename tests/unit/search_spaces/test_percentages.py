"""Numbers and percentages as files and options write them."""

from __future__ import annotations

import pytest

from search_spaces.percentages import format_percentage, parse_number, parse_percentage, parse_share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("0.5%", 0.005),
        (" 100 % ", 1.0),
        (".5%", 0.005),
        ("1e1%", 0.1),
        ("-1%", -0.01),
        ("0.5", None),
        ("%", None),
        ("5%%", None),
        ("5% of it", None),
        ("nan%", None),
        ("1_0%", None),
    ],
)
def test_percentages(text: str, share: float | None) -> None:
    assert parse_percentage(text) == (share if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("text", "number"), [("16", 16), ("1e9", 1e9), ("inf", None), ("x", None), ("", None)]
)
def test_numbers(text: str, number: float | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(
    ("text", "share"), [("1/8", 0.125), ("12.5%", 0.125), ("0.125", 0.125), ("1/0", None), ("half", None)]
)
def test_shares(text: str, share: float | None) -> None:
    assert parse_share(text) == share


def test_a_percentage_is_written_as_it_is_read() -> None:
    assert format_percentage(0.005) == "0.5%"
    assert parse_percentage(format_percentage(0.123456789, digits=12)) == pytest.approx(0.123456789)
