"""Errors about arguments of Python functions, which the rest of the package names after command-line options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from search_spaces.errors import InvalidInputError

_ARGUMENTS = {
    "--pick": "pick",
    "--where": "where",
    "--to": "folder",
    "--scale-to": "scale_to",
    "DIR": "folder",
}
"""Option or argument of a command -> argument of the Python function."""


@contextmanager
def python_argument_names() -> Iterator[None]:
    """Name the arguments of Python functions in the problems of an `InvalidInputError`."""
    try:
        yield
    except InvalidInputError as error:
        problems = [replace(p, where=_ARGUMENTS.get(p.where, p.where)) for p in error.problems]
        raise InvalidInputError(problems, error.source) from error.__cause__
