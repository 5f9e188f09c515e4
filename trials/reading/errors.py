"""The errors of data that cannot be read."""

from .tables.errors import DataError

__all__ = ["DataError", "RowError"]


class RowError(DataError):
    """One row that has another form than its task says, or that the chat template refuses."""
