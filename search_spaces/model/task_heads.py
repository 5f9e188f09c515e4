"""Detection of a task for which transformers has no head on an architecture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from search_spaces.errors import AutotuneError, first_line

_MESSAGE = "Unrecognized configuration class"
"""The beginning of the ValueError with which transformers' auto classes report a missing head."""


class MissingHeadError(AutotuneError, ValueError):
    """The architecture has no head for the task in transformers."""


@contextmanager
def missing_heads() -> Iterator[None]:
    """Raise MissingHeadError in place of the ValueError of transformers' auto classes."""
    try:
        yield
    except ValueError as error:
        if _MESSAGE not in str(error):
            raise
        raise MissingHeadError(first_line(error)) from error
