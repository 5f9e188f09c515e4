"""The space of `autotune.optimize`: distributions, or adapter families bound to a model with their costs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np
from optuna.distributions import BaseDistribution

from autotune.api.adapter import model_task_and_shape
from autotune.blackbox.objectives import Objective
from autotune.blackbox.preparations import without_preparations
from autotune.prepare.hard_limits import HardLimits
from search_spaces.costs.cost_model import KNOWN_COSTS, CostModel
from search_spaces.costs.workload import Workload
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.language.constraints import Constraint
from search_spaces.language.loader import load_space
from search_spaces.parameters.amounts import TRAIN_SAMPLES, TrainSamples
from search_spaces.parameters.types import Value
from search_spaces.space import SearchSpace

SpaceLike = SearchSpace | Mapping[str, BaseDistribution] | Mapping[str, object] | str | PathLike[str]
"""A bound space, Optuna distributions by name, or a space of adapter families: a preset, a file or its mapping."""

_NEEDS_LENGTHS = ("train_flops", "inference_flops")
"""The costs that depend on the number of tokens."""


@dataclass(frozen=True)
class BlackBoxSpace:
    """The space of a search, with what is known about its configurations without an evaluation.

    Args:
        space: of the configurations.
        costs: returns the costs of a configuration; None where no model is known.
        constraints: of the space.
    """

    space: SearchSpace
    costs: CostModel | None = None
    constraints: tuple[Constraint, ...] = ()
    has_lengths: bool = False

    def with_costs(self, objectives: Sequence[Objective]) -> tuple[Objective, ...]:
        """Return the objectives; those that are costs of the model are known, in closed form.

        Raises:
            InvalidInputError: a cost needs the lengths of the training examples.
        """
        problems = [
            Problem(
                f"objectives[{i}]",
                f"{objective.name} depends on the number of tokens, which is unknown",
                "Give lengths: the number of tokens of each training example.",
            )
            for i, objective in enumerate(objectives)
            if self._prices(objective) and objective.name in _NEEDS_LENGTHS and not self.has_lengths
        ]
        if problems:
            raise InvalidInputError(problems)
        return tuple(self._priced(o) if self._prices(o) else o for o in objectives)

    def limits(self) -> HardLimits | None:
        """Return the constraints of the space as limits that every proposal keeps; None where there are none."""
        if not self.constraints:
            return None
        assert self.costs is not None, "a space with constraints is bound to a model"
        return HardLimits(self.constraints, (), self.costs)

    def _prices(self, objective: Objective) -> bool:
        return self.costs is not None and objective.known is None and objective.name in KNOWN_COSTS

    def _priced(self, objective: Objective) -> Objective:
        costs, name = self.costs, objective.name
        assert costs is not None, "it is priced"

        def known(config: Mapping[str, Value]) -> float:
            return float(getattr(costs(config), name))

        # An adapter may have no parameter at all, which has no logarithm.
        return replace(
            objective, known=known, log=True, floor=1.0 if objective.floor is None else objective.floor
        )


def read_space(
    space: SpaceLike,
    model: object | None = None,
    task: str | None = None,
    lengths: Sequence[int] | None = None,
) -> BlackBoxSpace:
    """Read the space of a search.

    Of adapter families it keeps those that work on the model and that `autotune.peft_config` describes in full; a
    warning names the others.

    Args:
        space: see `SpaceLike`.
        model: a hub id, a folder, a transformers configuration or a transformers model, for the costs and for a
            space of adapter families, which is bound to it.
        task: of the model; by default that of its class.
        lengths: number of tokens of each training example, for costs in FLOPs.

    Raises:
        InvalidInputError: the space cannot be read, needs a model, or no family is left.
        ValueError: a distribution is none of Optuna's.
    """
    shape = None
    if model is not None:
        kind, shape = model_task_and_shape(model, task)
    costs = None if shape is None else CostModel(shape, kind, _workload(lengths))
    if isinstance(space, SearchSpace):
        return BlackBoxSpace(_described(space), costs, has_lengths=lengths is not None)
    if isinstance(space, Mapping) and not _is_specification(space):
        given = SearchSpace.from_distributions(cast(Mapping[str, BaseDistribution], space))
        return BlackBoxSpace(_described(given), costs, has_lengths=lengths is not None)
    if shape is None:
        fix = "Give model: a hub id, a folder, or the transformers model that is trained."
        what = "missing: a space of adapter families is bound to a model"
        raise InvalidInputError(Problem("model", what, fix))
    source = space if isinstance(space, str | Mapping) else Path(space)
    loaded = load_space(
        cast("str | Path | Mapping[str, object]", source),
        shape=shape,
        task=kind,
        examples=None if lengths is None else len(lengths),
    )
    if any(isinstance(parameter, TrainSamples) for parameter in loaded.space.parameters):
        fix = "Give lengths: the number of tokens of each training example. Or give numbers of examples."
        what = "has shares of training data whose size is unknown"
        raise InvalidInputError(Problem(f"space.parameters.{TRAIN_SAMPLES.name}", what, fix))
    if loaded.left_out:
        words = "; ".join(f"{family}: {reason}" for family, reason in loaded.left_out.items())
        warnings.warn(f"space: families that cannot work on this model are left out ({words})", stacklevel=3)
    return BlackBoxSpace(_described(loaded.space), costs, loaded.constraints, lengths is not None)


def _described(space: SearchSpace) -> SearchSpace:
    """Return a space without what `autotune.peft_config` cannot set, and warn about it."""
    kept, notes = without_preparations(space)
    if notes:
        warnings.warn(f"space: left out, because a sweep alone can do it ({'; '.join(notes)})", stacklevel=4)
    return kept


def _is_specification(space: Mapping[str, object]) -> bool:
    """Return whether a mapping holds what a space file holds, and not distributions by name."""
    return not any(isinstance(value, BaseDistribution) for value in space.values()) and bool(
        {"families", "include"} & set(space)
    )


def _workload(lengths: Sequence[int] | None) -> Workload:
    """Return one epoch of training examples of these lengths without padding; of one token where none is given.

    Raises:
        InvalidInputError: there is no example, or one without tokens.
    """
    if lengths is None:
        return Workload(tokens=1.0, tokens_square=1.0, train_samples=1)
    tokens = np.asarray(lengths, dtype=float)
    if tokens.ndim != 1 or not len(tokens) or not (tokens > 0).all():
        what = f"{len(tokens) if tokens.ndim else 0} examples, and not all have a positive number of tokens"
        raise InvalidInputError(
            Problem("lengths", what, "Give the number of tokens of each training example.")
        )
    return Workload(float(tokens.mean()), float((tokens**2).mean()), len(tokens))
