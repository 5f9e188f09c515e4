"""Sweeps that are light: for tests of what happens around the trials."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def light_sweeps() -> Iterator[None]:
    """Sweeps without a report, which probe few configurations for the corners of the objectives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autotune.engine.sweep_run.write_report", lambda results: None)
        patch.setattr("autotune.prepare.prepared_sweep._PROBES", 200)
        yield
