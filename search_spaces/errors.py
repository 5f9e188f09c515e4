"""One way to say that an input is wrong: where, what, and how to mend it; all problems at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: the path of the field in the file (`task.text`, `objectives[1].max`), or of the file itself.
        what: what is wrong, with the value.
        fix: what would be right.
    """

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"


class InvalidInputError(ValueError):
    """A sweep, a space or its data cannot be used; `problems` says everything that was found."""

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        assert self.problems, "an error needs a problem"
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[list[Problem]]]:
        """Problems stay problems on the way out of a worker process."""
        return type(self), (self.problems,)


def first_line(error: BaseException, limit: int | None = 300) -> str:
    """What an exception says, in one line of at most so many characters."""
    text = str(error).strip()
    return text.splitlines()[0][:limit] if text else type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` where a known word is close, else the list of known words."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Use one of: {', '.join(known)}."
