"""What the search's surrogate knows about the scores of the finished trials, kept for the results.

Reports and commands read it from the ledger, so that they need neither torch nor a surrogate.
"""

from __future__ import annotations

from autotune.engine.samplers import pareto_sampler
from autotune.ledger.ledger import Ledger
from autotune.objectives import is_cost
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.trial_attributes import TrialAttributes

_FEWEST = 10
"""The least number of complete trials from which a surrogate may correct their values."""


def store_posterior(prepared: PreparedSweep, ledger: Ledger) -> None:
    """Write the posterior means of the scores where the noise is worth it, and else that there are none.

    The surrogate is that of the strategy `pareto`, whatever sampler searched.

    Args:
        prepared: the sweep.
        ledger: of its search.
    """
    objectives = prepared.sweep.objectives
    complete = [trial for trial in ledger.trials if TrialAttributes(trial).values is not None]
    scores: dict[str, dict[int, tuple[float, float]]] = {}
    if len(complete) >= _FEWEST and any(not is_cost(objective.name) for objective in objectives):
        from autotune.sampler.pareto.strategy import posterior_scores  # here, since it imports torch

        found = posterior_scores(pareto_sampler(prepared).study_view(ledger.study), is_noisy=True)
        for j, objective in enumerate(objectives):
            if found.is_worth_it and j in found.means and objective.scale == "linear":
                scores[objective.name] = {
                    number: (mean, found.deviations[j][number]) for number, mean in found.means[j].items()
                }
    ledger.set_posterior(scores)
