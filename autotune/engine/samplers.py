"""The sampler of a sweep, built from its description in the sweep file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sampler.named_samplers import build_sampler
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.sources import SourceTrials
from autotune.sampler.strategies import strategy_entry
from autotune.sweep.prior_spec import prior_notes, sampler_prior
from autotune.sweep.sampler_spec import ParetoSpec
from autotune.sweep.start_spec import FRONT_SHARE
from search_spaces.parameters.types import Categorical, Value
from search_spaces.space import SearchSpace

_FEWEST_STARTUP = 4
"""Startup trials of a sweep that has hardly more trials."""
_STARTUP_SHARE = 2
"""At most one in so many trials of the budget is a startup trial; with sources, one in `FRONT_SHARE`."""


def make_sampler(
    prepared: PreparedSweep, sources: Sequence[SourceTrials] = ()
) -> optuna.samplers.BaseSampler:
    """Return the sampler that a sweep names, with the sweep's seed.

    Args:
        prepared: the sweep.
        sources: trials of earlier sweeps, for a sampler that learns from them.

    Raises:
        InvalidInputError: the sampler cannot be imported or does not accept its arguments.
    """
    spec = prepared.sweep.sampler
    if isinstance(spec, ParetoSpec):
        return pareto_sampler(prepared, spec, sources)
    return build_sampler(spec.name, spec.arguments, prepared.sweep.seed)


def pareto_sampler(
    prepared: PreparedSweep, spec: ParetoSpec | None = None, sources: Sequence[SourceTrials] = ()
) -> ParetoSampler:
    """Return a `ParetoSampler` with the space, the known costs, the limits and the references of a sweep.

    Args:
        prepared: the sweep.
        spec: options of the sampler; the defaults if None.
        sources: trials of earlier sweeps; a strategy that does not learn from them is given none.
    """
    objectives = prepared.sweep.objectives
    spec = spec or ParetoSpec()
    entry = strategy_entry(spec.strategy)

    def cost(name: str) -> Callable[[Mapping[str, Value]], float]:
        return lambda config: float(getattr(prepared.costs(config), name))

    return ParetoSampler(
        space=prepared.space,
        known_objectives={i: cost(o.name) for i, o in enumerate(objectives) if o.known},
        log_objectives={i: o.floor or 1.0 for i, o in enumerate(objectives) if o.scale == "log"},
        references=prepared.references,
        limits={i: o.limits for i, o in enumerate(objectives) if o.max is not None or o.min is not None},
        constraints=prepared.limits if len(prepared.limits) else None,
        trial_cost=cost("train_flops"),
        models_constraints=False,  # the ledger's are the limits once more, for other samplers
        is_noisy=True,
        prior=sampler_prior(prepared.sweep.priors, prepared.space) if "prior" in entry.settings else None,
        sources=sources if "sources" in entry.settings else (),
        seed=prepared.sweep.seed,
        **_with_startup(spec, prepared, has_sources=bool(sources)),
    )


def _with_startup(spec: ParetoSpec, prepared: PreparedSweep, *, has_sources: bool) -> dict[str, Any]:
    """Return the arguments of the sampler, with a share of the budgeted trials at most for startup by default.

    The share with sources is that of the points of earlier fronts, which are trained first and take the place of a
    startup design. Startup trials after them delayed a search that starts from a related one
    (`docs/results/transfer.md`).
    """
    arguments, trials = spec.arguments, prepared.sweep.budget.trials
    if trials is not None:
        usual = strategy_entry(spec.strategy).default_startup(prepared.space)
        most = trials // (FRONT_SHARE if has_sources else _STARTUP_SHARE)
        arguments.setdefault("n_startup", min(usual, max(_FEWEST_STARTUP, most)))
    return arguments


def sampler_notes(prepared: PreparedSweep) -> list[str]:
    """Return what the sampler cannot use of a sweep, in sentences for the user."""
    name, space = prepared.sweep.sampler.name, prepared.space
    notes = [*_startup_notes(prepared), *_small_space_notes(prepared)]
    notes += prior_notes(prepared.sweep.priors, space)
    if name in ("gp", "cmaes"):
        ignored = _drawn_at_random(name, space)
        if ignored:
            shown = ", ".join(ignored[:4]) + (f" and {len(ignored) - 4} more" if len(ignored) > 4 else "")
            notes.append(f"sampler {name} draws {shown} at random; sampler pareto models them")
    if name != "pareto" and len(prepared.limits):
        notes.append(
            f"sampler {name} does not know the limits: proposals outside them count as pruned trials"
        )
    return notes


def _startup_notes(prepared: PreparedSweep) -> list[str]:
    """Return a note if the sweep file asks for no fewer startup trials than the budget has trials."""
    spec, trials = prepared.sweep.sampler, prepared.sweep.budget.trials
    if (
        not isinstance(spec, ParetoSpec)
        or spec.n_startup is None
        or trials is None
        or spec.n_startup < trials
    ):
        return []
    return [
        f"sampler.n_startup is {spec.n_startup} and budget.trials is {trials}: every trial is a startup trial, so "
        "the surrogate never proposes one; lower n_startup"
    ]


def _small_space_notes(prepared: PreparedSweep) -> list[str]:
    """Return a note if the budget has more trials than the space has configurations."""
    small, trials = prepared.small_space, prepared.sweep.budget.trials
    if small is None or (trials is not None and trials <= len(small)):
        return []
    size = "1 configuration" if len(small) == 1 else f"{len(small):,} configurations"
    budget = "" if trials is None else f" and the budget {trials:,} trials"
    if prepared.ends_when_tried:
        return [f"the space has {size}{budget}: the search ends when each was trained once"]
    return [
        f"the space has {size}{budget}: later trials train them again with new seeds, by sampler.resample"
    ]


def _drawn_at_random(name: str, space: SearchSpace) -> list[str]:
    """Return the parameters that Optuna's sampler draws by its independent sampler.

    Both samplers model the parameters that all trials share; CMA-ES models the numbers among them.
    """
    distributions = space.distributions()
    shared: set[str] = set()
    for each in space.parameters:
        parents = each.when.items()
        if all(parent in shared and _has_no_other(distributions[parent], v) for parent, v in parents):
            shared.add(each.name)
    return [
        each.name
        for each in space.parameters
        if not distributions[each.name].single()
        and (each.name not in shared or (name == "cmaes" and isinstance(each, Categorical)))
    ]


def _has_no_other(distribution: BaseDistribution, values: Collection[Value]) -> bool:
    """Return whether a distribution has no other values than these."""
    return isinstance(distribution, CategoricalDistribution) and set(distribution.choices) <= set(values)
