"""The root of the project's exceptions, and the exception for invalid input.

`InvalidInputError` reports every problem of an input at once, each with its place, its cause and its fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DISTRIBUTION = "autotune-peft"
"""The name that pip installs; the packages are imported under other names."""


class AutotuneError(Exception):
    """Root of every exception that the project raises for its users.

    A subclass also derives from the built-in exception that describes it (`ValueError`, `RuntimeError`, ...), so
    that code which catches the built-in one keeps working.
    """


@dataclass(frozen=True)
class Problem:
    """One problem of an input.

    Args:
        where: the path of the field in the file (`task.text`, `objectives[1].max`), or of the file itself.
        what: the cause, with the value.
        fix: the edit or command that resolves it.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"


class InvalidInputError(AutotuneError, ValueError):
    """An invalid sweep, space, argument or data set.

    Args:
        problems: every problem found, at least one.
        source: the file that the problems are in; empty where they are in arguments.
    """

    def __init__(self, problems: Problem | Sequence[Problem], source: str = "") -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        self.source = source
        assert self.problems, "an error needs a problem"
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[list[Problem], str]]:
        """Keep the problems when the error is pickled in a worker process."""
        return type(self), (self.problems, self.source)


def first_line(error: BaseException, limit: int | None = 300) -> str:
    """Return the first line of an exception's message, cut to `limit` characters, or else its type's name."""
    text = str(error).strip()
    return text.splitlines()[0][:limit] if text else type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean 'x'?` where a known word is close, and otherwise the list of known words."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Use one of: {', '.join(known)}."


def install_hint(extra: str) -> str:
    """Return the command that installs an extra of this project, such as `pip install 'autotune-peft[ray]'`.

    Every message takes it from here: on PyPI the name `autotune` belongs to another project.
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'"
