"""Printed names, numbers with units, and configurations.

`label` is the printed name of a column, `quantity` one of its values with the unit, and `axis` the layout of a plotly
axis for it. Shares such as accuracy are in [0, 1] in tables and printed in percent. Bytes use powers of 1,000.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

_LABELS = {
    "accuracy": "Accuracy",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "average_precision": "Average precision",
    "roc_auc": "Area under the ROC curve",
    "brier": "Brier score",
    "ece": "Calibration error",
    "ece_calibrated": "Calibration error at its temperature",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "mse": "Mean squared error",
    "perplexity": "Perplexity",
    "token_accuracy": "Token accuracy",
    "exact_match": "Exact match",
    "teacher_forced_exact_match": "Teacher-forced exact match",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "eval_loss": "Validation loss",
    "forgetting": "Forgetting",
    "trainable_params": "Adapter parameters",
    "head_params": "Head parameters",
    "stored_bytes": "Stored size",
    "train_flops": "Training FLOPs",
    "inference_flops": "Inference FLOPs",
    "train_seconds": "Training time",
    "peak_memory": "Peak memory",
}
_SHARES = ("accuracy", "token_accuracy", "exact_match", "teacher_forced_exact_match")
_COUNTS = ("trainable_params", "head_params")
_FLOPS = ("train_flops", "inference_flops")
_BYTES = ("stored_bytes", "peak_memory")
_SECONDS = ("train_seconds", "seconds")
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")
_SPACE = "\u00a0"  # no line break between a number and its unit


def is_share(name: str) -> bool:
    """Return whether a score is a share in [0, 1], printed as percent."""
    return name in _SHARES


def label(name: str) -> str:
    """Return the printed name of an objective, metric or cost."""
    own = name if ":" in name else name.replace("_", " ").capitalize()  # a function keeps its reference
    return _LABELS.get(name, own)


def within_sentence(words: str) -> str:
    """Return a label for the middle of a sentence: in lower case, unless it starts with an acronym."""
    return words if words[:2].isupper() or words[1:2].isdigit() else words[:1].lower() + words[1:]


def quantity(name: str, value: float) -> str:
    """Return a value with its unit: `91.3 %`, `1.2 M`, `3.4 TFLOPs`, `12.3 s`; a dash for None and NaN.

    Args:
        name: the objective, metric or cost that decides the unit.
        value: the value.
    """
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if name in _SHARES:
        return percent(value)
    if name in _COUNTS:
        return si(value)
    if name in _FLOPS:
        return si(value, "FLOPs")
    if name in _BYTES:
        return si(value, "B")
    if name in _SECONDS:
        return duration(value)
    return significant(value)


def plus_minus(name: str, mean: float, half: float) -> str:
    """Return a mean with the half-width of its interval, `0.459 ± 0.009`, rounded to the digits of the interval."""
    if name in _SHARES or half <= 0 or not math.isfinite(half) or abs(mean) >= 1000:
        return f"{quantity(name, mean)} ± {quantity(name, half)}"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{mean:.{digits}f} ± {half:.{digits}f}".replace("-", "−")


def with_interval(name: str, mean: float, low: float, high: float) -> str:
    """Return a mean with its interval: `81.6 % ± 0.7 %`, or `98.0 % (96.1 % to 100.0 %)` if it is not symmetric.

    Where there is no interval (NaN), it is the mean alone.
    """
    if math.isnan(low) or math.isnan(high):
        return quantity(name, mean)
    below, above = mean - low, high - mean
    if math.isclose(below, above, rel_tol=1e-6, abs_tol=1e-12):
        return plus_minus(name, mean, (high - low) / 2)
    return f"{quantity(name, mean)} ({quantity(name, low)} to {quantity(name, high)})"


def difference(name: str, value: float) -> str:
    """Return a difference with its sign and two significant digits: `+0.8 %`, `−0.012`; a dash for NaN."""
    if math.isnan(value):
        return "–"
    size = quantity(name, abs(value)) if name in _SHARES else significant(abs(value), 2)
    return f"{'−' if value < 0 else '+'}{size}"


def counted(number: int, noun: str) -> str:
    """Return a number with a noun: `1 trial`, `2 trials`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float, digits: int = 1) -> str:
    """Return a share in [0, 1] in percent: `61.0 %`."""
    return f"{100 * share:.{digits}f}{_SPACE}%"


def significant(value: float, digits: int = 4) -> str:
    """Return a number with a number of significant digits and a typographic minus; very small ones as `3e−5`."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, power = text.split("e")
        exponent = int(power)
        if 0 < exponent < 7:
            text = f"{value:.0f}"
        else:
            sign = "−" if exponent < 0 else ""
            return f"{mantissa.replace('-', '−')}e{sign}{abs(exponent)}"
    return text.replace("-", "−")


def si(value: float, unit: str = "") -> str:
    """Return a number with three significant digits and an SI prefix: `1.2 M`, `3.4 TFLOPs`, `850`."""
    step = 0
    scaled = float(value)
    # 999.5 and above would be rounded to 1000.
    while abs(scaled) >= 999.5 and step < len(_PREFIXES) - 1:
        scaled, step = scaled / 1000, step + 1
    text = significant(float(f"{scaled:.3g}"), 3)
    tail = f"{_PREFIXES[step]}{unit}"
    return f"{text}{_SPACE}{tail}" if tail else text


def duration(seconds: float) -> str:
    """Return a duration: `0.42 s`, `12.3 s`, `4 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 60 and round(seconds, 1) < 60:
        return f"{seconds:.2f}{_SPACE}s" if seconds < 1 else f"{seconds:.1f}{_SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min{_SPACE}{whole % 60:02d}{_SPACE}s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60}{_SPACE}h{_SPACE}{minutes % 60:02d}{_SPACE}min"
    hours = round(seconds / 3600)
    return f"{hours // 24}{_SPACE}d{_SPACE}{hours % 24}{_SPACE}h"


def axis(name: str) -> dict[str, Any]:
    """Return the layout of a plotly axis for a column: its title, and tick formats that remain valid when zoomed."""
    title = {"text": label(name)}
    if name in _SHARES:
        return {"title": title, "tickformat": "~%"}
    if name in _COUNTS or name in _FLOPS:
        return {"title": title, "tickformat": "~s"}
    if name in _BYTES:
        return {"title": title, "tickformat": "~s", "ticksuffix": "B"}
    if name in _SECONDS:
        return {"title": title, "ticksuffix": " s"}
    return {"title": title}


def value_text(value: object) -> str:
    """Return the value of a search parameter: numbers with four significant digits, switches as on and off."""
    if isinstance(value, str):
        return value
    if pd.api.types.is_bool(value):
        return "on" if value else "off"
    if pd.api.types.is_number(value):
        return significant(float(value))  # type: ignore[arg-type]
    return str(value)


def config_lines(config: Mapping[str, object]) -> list[str]:
    """Return a configuration as `name: value` lines, with one line of ranges for the switches of a layer mask."""
    lines: list[str] = []
    masks: dict[str, list[int]] = {}
    for name, value in config.items():
        mask = mask_of(name, value)
        if mask is None:
            lines.append(f"{name}: {value_text(value)}")
            continue
        stem, layer = mask
        if stem not in masks:
            masks[stem] = []
            lines.append(stem)  # the ranges are added at the end
        if value:
            masks[stem].append(layer)
    return [f"{line}: {ranges(masks[line])}" if line in masks else line for line in lines]


def mask_of(name: str, value: object) -> tuple[str, int] | None:
    """Return (`layers`, 3) for the switch `layers.3` of a layer mask, and None for any other parameter."""
    match = re.fullmatch(r"(.+)\.(\d+)", name)
    if match is None or not pd.api.types.is_bool(value):
        return None
    return match[1], int(match[2])


def ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges: `0, 3–5` for 0, 3, 4, 5, and `none` for no numbers."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{low}–{high}" if high > low else str(low) for low, high in runs) or "none"
