"""The types of cells: a column is of numbers only if nothing is lost by it."""

from __future__ import annotations

import pytest

from trials.reading.tables.cell_types import as_text, typed


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["0", "1", ""], [0, 1, None]),
        (["-1", "+1"], [-1, 1]),
        ([" 1", "0 "], [1, 0]),
        (["9007199254740993"], [9007199254740993]),  # 2**53 + 1, which a float cannot hold
        (["9007199254740993", "0.5"], ["9007199254740993", "0.5"]),
        (["1", "2.5", ""], [1.0, 2.5, None]),
        (["1e5", "2.5E-3", ".5", "3."], [1e5, 2.5e-3, 0.5, 3.0]),
        (["3.50", "2.25"], [3.5, 2.25]),  # two decimals throughout
        (["3.9", "3.10"], ["3.9", "3.10"]),  # versions
        (["1.0", "2.5"], [1.0, 2.5]),
        (["1.0", "2.55"], [1.0, 2.55]),
        (["007", "8"], ["007", "8"]),
        (["1", "x"], ["1", "x"]),
        (["1", "nan"], ["1", "nan"]),
        (["1", "inf"], ["1", "inf"]),
        (["1e999"], ["1e999"]),
        (["true", "false"], ["true", "false"]),
        (["1_000", "2"], ["1_000", "2"]),
        (["1,5", "2"], ["1,5", "2"]),
        (["٣", "1"], ["٣", "1"]),
        (["1" * 5_000], ["1" * 5_000]),
        (["", ""], [None, None]),
        ([], []),
    ],
)
def test_columns(cells: list[str], expected: list[object]) -> None:
    assert typed(cells) == expected
    assert [type(value) for value in typed(cells)] == [type(value) for value in expected]


def test_numbers_as_text() -> None:
    values = [1, 1.0, 2.5, True, None, "x", [1]]
    assert as_text(values) == ["1", "1", "2.5", True, None, "x", [1]]
