"""Values that JSON can represent."""

from __future__ import annotations

import math


def finite(value: object) -> object:
    """Replace infinities and NaN, which JSON does not have, by None, inside of mappings and lists as well."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
