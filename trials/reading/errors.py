"""The error of data that cannot be read."""

from .tables.errors import DataError

__all__ = ["DataError"]
