"""How much of its budget a sweep has used."""

from __future__ import annotations

from autotune.results.sweep_tables import SweepTables
from autotune.trial_attributes import SPENT

_MEASURES = ("trials", "hours", "flops")


def budget_used(results: SweepTables) -> dict[str, tuple[float, float | None]]:
    """Return the used amount and the limit of every measure of the budget.

    Trials that were lost, which run again, and those outside the hard limits spend nothing.

    Returns:
        (used, limit) for `trials`, `hours` (wall time of the search) and `flops` (of training); the limit is None if
        the sweep sets none.
    """
    trials = results.trials
    ended = trials[trials["status"].isin(SPENT)]
    flops = float((ended["cost.train_flops"] * ended["share"]).sum()) if "cost.train_flops" in ended else 0.0
    spent = {"trials": float(len(ended)), "hours": results.search_seconds / 3600, "flops": flops}
    return {name: (spent[name], getattr(results.sweep.budget, name)) for name in _MEASURES}
