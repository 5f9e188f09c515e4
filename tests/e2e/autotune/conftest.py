"""Sweeps that are light: for tests of what happens around the trials."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import sweeps


@pytest.fixture(scope="module")
def light_sweeps() -> Iterator[None]:
    """Make the sweeps of a module light."""
    with sweeps.light_sweeps():
        yield
