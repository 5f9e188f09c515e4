"""What two sequences have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def shared_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the length of the longest common beginning of two texts or lists."""
    if isinstance(first, str) and isinstance(second, str) and (second.startswith(first)):
        return len(first)  # the usual case, without a loop over characters
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count
