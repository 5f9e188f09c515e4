"""Comparison of sweeps: whether a folder's sweep can be resumed with another sweep file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autotune.objectives import BOUNDS, Objective
from autotune.sweep.schema import Sweep
from autotune.sweep.start_spec import START_FROM, comparable_folders
from autotune.sweep.sweep_file import as_mapping
from trials.tasks.model_spec import model_labels
from trials.tasks.specs import AUTO

_FREE = ("budget", "confirm", "executor")
"""Fields in which a resumed sweep may differ from the one that was started."""
_PATHS = (("model", "name"), *(("task", field) for field in ("dataset", "train", "validation", "test")))
"""Fields that may hold a path."""


def search_differences(a: Sweep, b: Sweep, *, compare_paths: bool = True) -> list[str]:
    """Return the paths of the fields in which two sweeps differ; empty if `a` can be resumed as `b`.

    Budget, confirmation and executor may differ, and so may what either side leaves open until the sweep starts:
    the precision, the fidelity, the positive class, an objective's bounds, the costs of a ladder's bases, and a limit
    given in percent on one side and as the resulting number on the other.

    Args:
        a: a sweep.
        b: another.
        compare_paths: whether two paths of the base model, or of a data file, differ if their texts do; otherwise the
            caller compares what is there.
    """
    first, second = _comparable(a, b), _comparable(b, a)
    if not compare_paths:
        for section, field in _PATHS:
            pair = first[section].get(field), second[section].get(field)
            if all(isinstance(path, str) and Path(path).is_absolute() for path in pair):
                first[section][field] = second[section][field]
        _same_choices(first["model"], second["model"])
    for mapping in (first, second):
        mapping[START_FROM] = comparable_folders(mapping[START_FROM], compare_paths=compare_paths)
    return _differences(first, second)


def _same_choices(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Give two sweeps the same texts of those of their base models to choose from whose labels are equal."""
    names = first.get("choices") or (), second.get("choices") or ()
    if model_labels(names[0]) == model_labels(names[1]):
        first["choices"] = second["choices"] = list(names[1])


def _comparable(sweep: Sweep, other: Sweep) -> dict[str, Any]:
    """Return the sweep as a mapping without the fields in which it and `other` may differ."""
    kept = {key: value for key, value in as_mapping(sweep).items() if key not in _FREE}
    for entry, mine, theirs in zip(kept["objectives"], sweep.objectives, other.objectives, strict=False):
        for field in ("derived", *_left_open(mine, theirs)):
            entry.pop(field, None)
    if None in (sweep.task.positive, other.task.positive):
        kept["task"].pop("positive", None)
    for field in ("precision", "attn_implementation"):
        if AUTO in (getattr(sweep.model, field), getattr(other.model, field)):
            kept["model"].pop(field, None)
    if sweep.is_fidelity_open or other.is_fidelity_open:
        kept.pop("fidelity", None)
    if sweep.ladder and other.ladder and None in (sweep.ladder.costs, other.ladder.costs):
        kept["ladder"].pop("costs", None)
    if sweep.sampler.name != other.sampler.name:  # their options have nothing in common
        kept["sampler"] = sweep.sampler.name
    return kept


def _left_open(mine: Objective, theirs: Objective) -> list[str]:
    """Return the fields of two objectives that only one side has resolved."""
    bounds = [field for field in BOUNDS if None in (getattr(mine, field), getattr(theirs, field))]
    pairs = {field: (getattr(mine, field), getattr(theirs, field)) for field in ("max", "min")}
    in_percent = [
        field
        for field, pair in pairs.items()
        if None not in pair and isinstance(pair[0], str) != isinstance(pair[1], str)
    ]
    return bounds + in_percent


def _differences(a: object, b: object, path: str = "") -> list[str]:
    """Return the paths at which two nested mappings and lists differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = list(dict.fromkeys([*a, *b]))
        return [d for k in keys for d in _differences(a.get(k), b.get(k), f"{path}.{k}".removeprefix("."))]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i in range(len(a)) for d in _differences(a[i], b[i], f"{path}[{i}]")]
    return [] if a == b else [path]
