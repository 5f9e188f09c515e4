"""Scaling of every hyperparameter of a point along the laws of the sweep's own trials.

The point's own value is one more observation of the best value at its cost, and the result is the posterior mean at
the target's cost, with a trend that is zero with the probability that nothing changes (`SearchLaw.moved`). So a law
without evidence moves little, no threshold is needed, and a value that is best by luck gives way to a law that is
certain. Learning rates and batch sizes may leave the tried range; other values end at its ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.export.scaling import Change, rounded_batch
from autotune.laws.sweep_law_text import interval_text, missing, trend_text
from autotune.laws.sweep_laws import FLOPS, POOLED_RATE, SweepLaws, laws_of_sweep
from autotune.results.sweep_tables import SweepTables
from search_spaces.language.loader import load_space
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Categorical, Configuration, Parameter, Value
from surrogates.laws import NoLaw, SearchLaw

_BATCH = "batch_size"
_OF_TARGET = ("epochs", TRAIN_SAMPLES.name, "model")
"""Parameters that the target sets."""


@dataclass(frozen=True)
class CostChange:
    """The training FLOPs of a point in the search and at the target."""

    searched: float
    target: float


def along_laws(
    config: Configuration,
    laws: SweepLaws,
    cost: CostChange,
    parameters: Mapping[str, Parameter],
    skip: Collection[str] = (),
) -> tuple[Configuration, list[Change]]:
    """Scale the hyperparameters of a configuration that have a law.

    Args:
        config: the active parameters, on the target's base model.
        laws: the laws of the sweep over training FLOPs.
        cost: the FLOPs in the search and at the target.
        parameters: the parameters of the search space by name, as far as they are known without the model.
        skip: names that another law scaled already.

    Returns:
        The scaled configuration, and one entry per numeric hyperparameter with the reason, or one for all of them if
        the sweep has no law.
    """
    names = [
        name
        for name, value in config.items()
        if name not in skip and name not in _OF_TARGET and not isinstance(value, bool | str)
    ]
    if not laws.found:
        return dict(config), [Change("other hyperparameters", "–", "–", f"kept: {missing(laws)}")]
    found, changes = dict(config), []
    for name in names:
        law = laws.law_of(name)
        if law is None:
            continue
        value, why = _scaled(name, config[name], law, cost, parameters.get(name))
        found[name] = value
        changes.append(Change(name, _text(config[name]), _text(value), why))
    return found, changes


def scaled_by_trials(
    results: SweepTables,
    trial: int,
    config: Configuration,
    growth: float,
    changes: Sequence[Change],
    scaled: Collection[str],
) -> tuple[Configuration, list[Change]]:
    """Scale by the laws of a sweep's own trials what no other law scaled.

    Args:
        results: the sweep.
        trial: number of the point.
        config: the active parameters on the target's base model.
        growth: training FLOPs at the target, as a multiple of those of the point in the search.
        changes: the entries of learning rate and batch size by the other law.
        scaled: names of the parameters that the other law scaled.

    Returns:
        The scaled configuration, and the entries; those of learning rate and batch size are replaced where the laws
        of the trials scale them instead.
    """
    column = f"cost.{FLOPS}" if f"cost.{FLOPS}" in results.trials else FLOPS
    if column not in results.trials:
        return config, list(changes)
    [searched] = results.trials.loc[results.trials["trial"] == trial, column].astype(float)
    laws = laws_of_sweep(results, FLOPS)
    spec = load_space(results.sweep.space, loss=results.sweep.task.loss).space
    parameters = {parameter.name: parameter for parameter in spec.parameters}
    cost = CostChange(searched, growth * searched)
    found, more = along_laws(config, laws, cost, parameters, skip=scaled)
    by_label = {"learning rate": learning_rate_name(config), "batch size": _BATCH}
    replaced = {each.name for each in more}
    kept = [change for change in changes if by_label.get(change.name) not in replaced]
    flops = Change(
        "training FLOPs", f"{searched:.3g}", f"{cost.target:.3g}", "from the closed-form cost model"
    )
    return found, [*kept, *more, flops]


def _scaled(
    name: str, value: Value, law: SearchLaw | NoLaw, cost: CostChange, parameter: Parameter | None
) -> tuple[Value, str]:
    """Return the value at the target and the reason."""
    if isinstance(law, NoLaw):
        return value, f"kept: there is no law for it ({law.reason})"
    if law.is_flat and law.name == POOLED_RATE:
        low, high = law.tried  # multiples of the mean rate of each family
        return (
            value,
            f"kept: rates {low:.2g} to {high:.2g} times the mean of their family do as well in the search",
        )
    if law.is_flat:
        low, high = law.tried
        return value, f"kept: any value from {low:.3g} to {high:.3g} does as well in the search"
    if not law.is_in_domain(float(value)):
        return value, f"kept: {_text(value)} is not on the {law.scale} scale of its law"
    move = law.scaled if law.name == POOLED_RATE else law.moved  # the pooled law is of multiples of rates
    moved = move(float(value), cost.searched, cost.target)
    words = (
        f"the best value goes {trend_text(law)} and changes with a probability of {100 * law.changes:.0f} %"
    )
    if law.name == POOLED_RATE:
        words += ", from the rates of all families"
    else:
        words += f"; the best at the target is {interval_text(law.at(cost.target))}"
    accepted, limit = _accepted(name, moved, value, law, parameter)
    if limit:
        words += f"; {limit}"
    if accepted == value:
        return value, f"kept: {words}"
    return accepted, f"{words}; from {law.trials} trials"


def _accepted(
    name: str, moved: float, value: Value, law: SearchLaw, parameter: Parameter | None
) -> tuple[Value, str]:
    """Return the nearest value that the parameter accepts, and what limited it."""
    if name == _BATCH:
        return rounded_batch(moved), ""
    limit = ""
    if not name.endswith("learning_rate"):
        inside = float(np.clip(moved, *law.tried))
        if not np.isclose(inside, moved):
            limit = f"{moved:.3g} is outside the tried range, so it ends at {inside:.3g}"
        moved = inside
    if isinstance(parameter, Categorical):
        return min(parameter.choices, key=lambda choice: abs(float(choice) - moved)), limit
    if isinstance(value, int):
        return max(1, round(moved)) if value >= 1 else round(moved), limit
    return float(f"{moved:.4g}"), limit


def _text(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
