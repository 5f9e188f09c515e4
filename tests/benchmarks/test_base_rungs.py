"""The benchmark of smaller bases as rungs."""

from __future__ import annotations

import pytest

from benchmarks.base_rungs import measure


@pytest.mark.slow
def test_every_rung_is_measured_for_every_trial(tmp_path):
    rows = measure(3, 32, tmp_path)
    assert [row.rung.split(" ", 2)[2] for row in rows] == [
        "(25%)",
        "(50%)",
        "of the examples",
        "of the examples",
    ]
    assert all(row.trials == 3 for row in rows)
    assert 0.15 < rows[0].spent < 0.4 < rows[1].spent < 0.7
    assert [row.spent for row in rows[2:]] == pytest.approx([0.25, 0.5])
