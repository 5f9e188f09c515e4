"""Rows of data: a table of plain Python values."""

from .tables.rows import Places, Row, Rows

__all__ = ["Places", "Row", "Rows"]
