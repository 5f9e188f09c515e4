"""The samplers that a sweep file can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import optuna

from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sampler.pareto_sampler import ParetoSampler
from search_spaces.parameters.types import Value


def make_sampler(prepared: PreparedSweep) -> optuna.samplers.BaseSampler:
    """Return the sampler that a sweep names, with the sweep's seed.

    Raises:
        ValueError: the name is unknown.
    """
    name, seed = prepared.sweep.sampler, prepared.sweep.seed
    match name:
        case "pareto":
            return pareto_sampler(prepared)
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case _:
            raise ValueError(f"sampler: {name!r} is not pareto, tpe, nsga2 or random")


def pareto_sampler(prepared: PreparedSweep) -> ParetoSampler:
    """Return a `ParetoSampler` with the space, the known costs, the limits and the references of a sweep."""
    objectives = prepared.sweep.objectives

    def known(name: str) -> Callable[[Mapping[str, Value]], float]:
        return lambda config: float(getattr(prepared.costs(config), name))

    return ParetoSampler(
        space=prepared.space,
        known_objectives={i: known(o.name) for i, o in enumerate(objectives) if o.known},
        log_objectives={i: o.floor or 1.0 for i, o in enumerate(objectives) if o.scale == "log"},
        references=prepared.references,
        limits={i: o.limits for i, o in enumerate(objectives) if o.max is not None or o.min is not None},
        constraints=prepared.limits if len(prepared.limits) else None,
        seed=prepared.sweep.seed,
    )
