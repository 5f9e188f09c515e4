"""Errors of executors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class ExecutorError(RuntimeError):
    """Trials cannot run here at all; what was told before stays told."""
