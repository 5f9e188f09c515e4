"""The cases of the contract suite, built when a test asks for them."""

from __future__ import annotations

import re

import pytest

from tests.support.tiny_models import parameters


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests marked `cases` their cases: of thousands only those that `-m` asks for."""
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is not None:
        expression = metafunc.config.option.markexpr
        slow = not re.search(r"\bnot slow\b", expression) or " or " in expression
        metafunc.parametrize("case", parameters(slow=slow, **marker.kwargs))
