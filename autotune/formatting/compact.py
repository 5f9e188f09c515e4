"""Short texts for a terminal: a configuration on one line, a curve as a sparkline, a time as on a clock.

Numbers with units come from `autotune.formatting.units`, so that the terminal and the report show the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autotune.formatting.units import mask_of, ranges, si, significant
from search_spaces.model.parts import SIDES
from search_spaces.parameters.amounts import TRAIN_SAMPLES

_BARS = "▁▂▃▄▅▆▇█"
_SHORT = {
    "rank": "r{}",
    "scale": "×{}",
    "tokens": "{} tokens",
    "layers": "top {}",
    "count": "{} layers",
    "start": "from {}",
    "level": "r{}",
    "slope": "slope {}",
    "bump": "bump {}",
    "dropout": "drop {}",
    "learning_rate": "lr {}",
    "batch_size": "batch {}",
    "epochs": "{} ep",
    "sequence_length": "{} long",
    "train_samples": "{} ex",
    "learning_rate_factor": "lr ×{}",
}
_LEFT_OUT = ("family", "model", "weight_decay", "warmup", "schedule", "cooldown")


def short_config(config: Mapping[str, object]) -> str:
    """Return a configuration on one line: `lora all · top 4 · r8 · ×2 · dora · lr 3e-4 · batch 32 · 3 ep`.

    Weight decay, warm-up, schedule and switches that are off are left out. A chosen base model comes first.
    """
    parts: list[str] = []
    masks: dict[str, list[int]] = {}
    for name, value in config.items():
        words = name.split(".")
        side = f"{words.pop()} " if words[-1] in SIDES else ""
        parameter = words[-1]
        mask = mask_of(name, value)
        if mask is not None:
            stem, layer = mask
            if stem not in masks:
                masks[stem] = []
                parts.append(stem)  # replaced by the range of layers at the end
            masks[stem] += [layer] if value else []
        elif name in _LEFT_OUT or value is False or (parameter == "dropout" and value == 0):
            continue
        else:
            other = "{}" if isinstance(value, str) else parameter.replace("_", " ") + " {}"
            shown = _short_value(value)
            if name == TRAIN_SAMPLES.name and isinstance(value, int):
                shown = si(value)
            text = parameter if value is True else _SHORT.get(parameter, other).format(shown)
            parts.append(side + text)
    parts = [f"layers {ranges(masks[part])}" if part in masks else part for part in parts]
    family = str(config.get("family", ""))
    model = f"{config['model']}:" if "model" in config else ""
    return " ".join(filter(None, [model, family, " · ".join(parts)]))


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Return values as a row of bars, from the lowest value to the highest.

    Args:
        values: in order.
        width: the maximum number of bars; more values are subsampled evenly.
    """
    if not values:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    if high == low:
        return _BARS[0] * len(values)
    return "".join(_BARS[round((value - low) / (high - low) * (len(_BARS) - 1))] for value in values)


def points(count: int) -> str:
    """Return `1 point` or `5 points`."""
    return "1 point" if count == 1 else f"{count} points"


def clock(seconds: float | None) -> str:
    """Return seconds as `0:42`, `12:05` or `2:10:00`, and None as `?`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _short_value(value: object) -> str:
    if isinstance(value, float):
        if 0 < abs(value) < 0.01:
            mantissa, exponent = f"{value:.1e}".split("e")
            return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
        return significant(value, 2)
    return str(value)
