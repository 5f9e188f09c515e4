"""Keys that tell configurations apart."""

from __future__ import annotations

import json
from collections.abc import Mapping

from search_spaces.parameters.types import Value


def config_key(config: Mapping[str, Value]) -> str:
    """Return a string that is equal for equal configurations, in any order; floats to 12 significant digits."""
    return json.dumps(
        {name: float(f"{v:.12g}") if isinstance(v, float) else v for name, v in sorted(config.items())}
    )
