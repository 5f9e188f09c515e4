"""How much of its budget a sweep has used, and whether it has ended: no budget and no confirmation run is left."""

from __future__ import annotations

from autotune.results.confirmation_plan import ConfirmationPlan, plan_confirmation
from autotune.results.confirmation_runs import RunKey
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


def is_finished(results: SweepTables) -> bool:
    """Return whether a limit of the budget is reached and no run of the confirmation is left, if there is one."""
    return is_spent(results) and has_confirmed(confirmation_plan(results))


def has_confirmed(plan: ConfirmationPlan | None) -> bool:
    """Return whether the confirmation has no run left, or there is none."""
    return plan is None or not plan.runs


def is_spent(results: SweepTables) -> bool:
    """Return whether a limit of the budget is reached, so that the search is over.

    With a ladder, the number of trials limits how many are started; the search also ends their promotions.
    """
    reached = {
        name for name, (used, limit) in budget_used(results).items() if limit is not None and used >= limit
    }
    if results.has_tried_all:
        reached.add("trials")
    if reached == {"trials"} and results.ladder is not None:
        return results.ladder.settled
    return bool(reached)


def confirmation_plan(results: SweepTables) -> ConfirmationPlan | None:
    """Return what is left of the confirmation; None before the end of the search and for a sweep without one."""
    runs = results.confirmations
    if not results.sweep.confirm.seeds or (runs.empty and not is_spent(results)):
        return None
    complete = map(RunKey, runs["trial"], runs["seed"])
    return plan_confirmation(results, results.ended_confirmations | frozenset(complete))
