"""Errors of executors."""

from __future__ import annotations

from search_spaces.errors import AutotuneError


class ExecutorError(AutotuneError, RuntimeError):
    """Trials cannot run here at all; what was told before stays told."""
