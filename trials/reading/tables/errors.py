"""The errors of data that cannot be read."""

from __future__ import annotations


class DataError(ValueError):
    """Data that cannot be read or used.

    Args:
        what: The cause, with the file and the row where there is one.
        fix: The edit that resolves it.
    """

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}. {fix}")
        self.what, self.fix = what, fix

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str]]:
        """Keep both parts when the error is pickled in a worker process."""
        return type(self), (self.what, self.fix)


class RowError(DataError):
    """One row that has another form than its task says, or that the chat template refuses."""


def first_line(error: BaseException, limit: int = 200) -> str:
    """Return the first line of an exception's message, cut to `limit` characters, or else its type's name."""
    text = str(error).strip()
    return text.splitlines()[0][:limit] if text else type(error).__name__
