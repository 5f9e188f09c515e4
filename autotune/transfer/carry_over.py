"""The trials of an earlier sweep, carried over into the space and the objectives of another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune.formatting.units import counted
from autotune.objectives import Objective, is_cost
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.transfer.carried_source import CarriedSource
from autotune.transfer.source_folders import SourceSweep, shape_of_source
from autotune.transfer.source_settings import SourceSettings
from autotune.transfer.value_mapping import (
    Changes,
    NotCarriedError,
    SpaceMapping,
    without_repeats,
)
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.parameters.types import Configuration
from trials.tasks.model_spec import CHOSEN

Array = NDArray[np.float64]
_UNKNOWN = "its folder does not tell the number of training examples that they belong to"


def carry_over(source: SourceSweep, prepared: PreparedSweep) -> CarriedSource:
    """Carry the complete trials of an earlier sweep over.

    Args:
        source: the earlier sweep.
        prepared: the sweep that starts.

    Raises:
        InvalidInputError: no trial can be carried over, or no score of the earlier sweep is one of this one.
    """
    values, said = _values(source, prepared.sweep.objectives)
    mapping = SpaceMapping(
        source.space,
        shape_of_source(source, prepared.sweep.model, prepared.shape),
        prepared.sweep.space,
        prepared.space,
        prepared.shape,
    )
    settings = SourceSettings.read(source.tables, prepared.sweep.model, prepared.space)
    kept, configs, reasons, changes = list[int](), list[Configuration](), Counter[str](), Changes()
    found = source.configurations()
    earlier_model = source.tables.sweep.model
    for row, (_, config) in enumerate(found):
        try:
            if CHOSEN not in prepared.space and earlier_model.choice_of(config) is not None:
                raise NotCarriedError(Problem(source.where, "trained another base model", ""))
            mapped = mapping.map(config, changes, settings.implied(config))
        except NotCarriedError as error:
            reasons[error.problems[0].what] += 1
            continue
        if broken := prepared.broken_limits(mapped):
            reasons[broken.replace("breaks", "break", 1).partition(" (")[0]] += 1
            continue
        kept.append(row)
        configs.append(mapped)
    if not kept:
        what = f"none of the {counted(len(found), 'trial')} of {source.name} can be carried over: {_listed(reasons)}"
        fix = "Leave the sweep out, or widen space."
        raise InvalidInputError(Problem(source.where, what, fix))
    groups = without_repeats(configs)
    first = [configs[group[0]] for group in groups]
    table = np.full((len(groups), len(prepared.sweep.objectives)), np.nan)
    for j, objective in enumerate(prepared.sweep.objectives):
        if objective.known:
            table[:, j] = [float(getattr(prepared.costs(config), objective.name)) for config in first]
        elif (column := values[j]) is not None:
            table[:, j] = [float(np.mean(column[[kept[i] for i in group]])) for group in groups]
    table[~np.isfinite(table)] = np.nan
    unknown = [any(settings.lacks_examples(found[kept[i]][1]) for i in group) for group in groups]
    uncertain = [not objective.known for objective in prepared.sweep.objectives]
    table[np.ix_(unknown, uncertain)] = np.nan
    front = set(source.tables.front["trial"])
    lost = front - {found[row][0] for row in kept}
    repeated = len(configs) - len(groups)
    parts = [
        f"{source.name}: {len(kept)} of {counted(len(found), 'trial')} carried over"
        + ("" if source.is_finished else ", of a search that has not ended"),
        *([_listed(reasons)] if reasons else []),
        *([f"{len(lost)} of {counted(len(front), 'point')} of its front left out"] if lost else []),
        *([f"{repeated} become equal to others"] if repeated else []),
        *changes.sentences(len(kept)),
        *settings.notes,
        *([f"{sum(unknown)} without scores: {_UNKNOWN}"] if any(unknown) else []),
        *said,
    ]
    return CarriedSource(
        name=source.name,
        folder=str(Path(source.tables.folder).absolute()),
        trials=tuple(found[kept[group[0]]][0] for group in groups),
        configs=tuple(first),
        values=table,
        is_on_front=tuple(any(found[kept[i]][0] in front for i in group) for group in groups),
        note="; ".join(parts),
    )


def _listed(reasons: Counter[str]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def _values(source: SourceSweep, objectives: Sequence[Objective]) -> tuple[list[Array | None], list[str]]:
    """Return the values of the earlier trials by objective of this sweep, and what stands for what.

    Raises:
        InvalidInputError: no score is known.
    """
    found: list[Array | None] = []
    said: list[str] = []
    scores = [objective for objective in objectives if not is_cost(objective.name)]
    for objective in objectives:
        values = None if objective.known else source.values(objective)
        if values is None and scores and objective is scores[0]:
            other = source.other_quality(objective)
            if other is not None:
                values = source.values(objective, other)
                said.append(f"its {other.name} stands for {objective.name}")
        if values is None and not objective.known:
            said.append(f"it has no {objective.name}")
        found.append(values)
    uncertain = [v for v, objective in zip(found, objectives, strict=True) if not objective.known]
    if uncertain and not any(v is not None and np.isfinite(v).any() for v in uncertain):
        names = ", ".join(objective.name for objective in objectives if not objective.known)
        what = f"{source.name} has no values of {names}, and no score that is better in the same direction"
        raise InvalidInputError(Problem(source.where, what, "Leave the sweep out, or share an objective."))
    return found, said
