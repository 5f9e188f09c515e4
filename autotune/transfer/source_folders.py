"""Earlier sweeps, read from their folders for another sweep to start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.ledger.ledger import STORAGE_ERRORS
from autotune.objectives import Objective, is_cost
from autotune.results.completion import is_spent
from autotune.results.estimates import confirmed_values, is_first
from autotune.results.sweep_tables import SweepTables, read_tables
from search_spaces.errors import InvalidInputError, Problem, first_line
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration
from trials.tasks.model_spec import ModelSpec
from trials.tasks.specs import resolve_model

Array = NDArray[np.float64]
_FIX = "Check the path, or leave the sweep out."


@dataclass(frozen=True)
class SourceSweep:
    """An earlier sweep.

    Args:
        name: what messages and records call it.
        where: the field that names it, for problems.
        tables: its results.
    """

    name: str
    where: str
    tables: SweepTables

    @property
    def complete(self) -> pd.DataFrame:
        """The rows of its complete trials, each configuration once."""
        trials = self.tables.trials
        is_complete = (trials["status"] == "complete").to_numpy(dtype=bool)
        return trials[is_complete & is_first(self.tables.objectives, trials)]

    @property
    def space(self) -> Mapping[str, Any]:
        """Its space, as its sweep file has it."""
        return self.tables.sweep.space

    @property
    def is_finished(self) -> bool:
        """Whether its search has ended."""
        return is_spent(self.tables)

    def configurations(self) -> list[tuple[int, Configuration]]:
        """Return the complete trials with their configurations."""
        rows = self.complete
        return [
            (int(trial), dict(config)) for trial, config in zip(rows["trial"], rows["config"], strict=True)
        ]

    def values(self, objective: Objective, stands_for: Objective | None = None) -> Array | None:
        """Return the values of the complete trials for an objective, shape [n]; None where the sweep lacks it.

        Scores are confirmed means where there are any.

        Args:
            objective: of the sweep that starts.
            stands_for: the objective of this sweep whose values are used instead.
        """
        own = self.tables.objectives
        name = objective.name if stands_for is None else stands_for.name
        rows = self.tables.trials.index.isin(self.complete.index)
        found = next((j for j, each in enumerate(own) if each.name == name), None)
        if found is not None:
            if own[found].direction != objective.direction:
                return None
            values, _ = confirmed_values(own, self.tables.trials, self.tables.confirmations)
            return values[rows, found]
        column = f"cost.{name}" if is_cost(name) else f"metric.{name}"
        if column not in self.tables.trials:
            return None
        return self.tables.trials.loc[rows, column].to_numpy(dtype=float)

    def other_quality(self, objective: Objective) -> Objective | None:
        """Return the first score of this sweep, if it can stand for the first score of another one.

        It can if both are better in the same direction.
        """
        first = next((each for each in self.tables.objectives if not is_cost(each.name)), None)
        return first if first is not None and first.direction == objective.direction else None


def read_source(folder: Path, name: str, where: str) -> SourceSweep:
    """Read an earlier sweep.

    Args:
        folder: of the sweep.
        name: what messages call it.
        where: the field that names it.

    Raises:
        InvalidInputError: the folder holds no sweep that can be read, or no complete trial.
    """
    if not folder.is_dir():
        raise InvalidInputError(Problem(where, f"there is no folder {str(folder)!r}", _FIX))
    try:
        source = SourceSweep(name, where, read_tables(folder))
    except InvalidInputError as error:
        raise InvalidInputError([_of_source(where, folder, problem) for problem in error.problems]) from None
    except (*STORAGE_ERRORS, KeyError, TypeError, AssertionError) as error:
        what = f"the results in {str(folder)!r} cannot be read ({type(error).__name__}: {first_line(error)})"
        raise InvalidInputError(Problem(where, what, _FIX)) from error
    if source.complete.empty:
        what = f"{str(folder)!r} has no complete trial"
        fix = "Run that sweep first, or leave it out."
        raise InvalidInputError(Problem(where, what, fix))
    return source


def source_names(folders: Sequence[str]) -> list[str]:
    """Return the names of source folders: the last part of each path, with the one before it where two are equal.

    Example:
        >>> source_names(["sweeps/sst2", "a/cr", "b/cr"])
        ['sst2', 'a/cr', 'b/cr']
    """
    last = [Path(folder).name for folder in folders]
    parents = [f"{Path(folder).parent.name}/{Path(folder).name}" for folder in folders]
    names = [long if last.count(short) > 1 else short for short, long in zip(last, parents, strict=True)]
    return [folder if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)]


def shape_of_source(source: SourceSweep, own: ModelSpec, here: ModelShape) -> ModelShape:
    """Return the shape of the base model of an earlier sweep.

    Args:
        source: the earlier sweep.
        own: base model of the sweep that starts.
        here: its shape.

    Raises:
        InvalidInputError: the model cannot be read.
    """
    sweep = source.tables.sweep
    spec = sweep.model
    if (spec.name, spec.layers) == (own.name, own.layers):
        return here
    try:
        return read_shape(
            resolve_model(spec.name),
            sweep.task.shape_task,
            trust_remote_code=spec.trust_remote_code and own.trust_remote_code,
            layers=spec.share_of_layers,
        )
    except (ValueError, OSError) as error:
        what = f"the base model of {source.name}, {spec.name!r}, cannot be read ({first_line(error)})"
        fix = "Put the model back: its layers and matrices are needed to carry configurations over."
        raise InvalidInputError(Problem(source.where, what, fix)) from error


def _of_source(where: str, folder: Path, problem: Problem) -> Problem:
    if problem.where == "DIR":  # it says itself that it is about the folder
        return Problem(where, problem.what, problem.fix)
    return Problem(where, f"{str(folder)!r} cannot be read: {problem.where}: {problem.what}", _FIX)
