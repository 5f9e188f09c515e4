"""Whether a sweep has ended: its budget is spent and its confirmation has no run left."""

from __future__ import annotations

from autotune.results.budget import budget_used
from autotune.results.confirmation_plan import ConfirmationPlan, plan_confirmation
from autotune.results.confirmation_runs import RunKey
from autotune.results.sweep_tables import SweepTables


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
