"""The attributes that a search keeps with an Optuna trial, and how they are read."""

from __future__ import annotations

from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from trials.records import TrialResult, TrialStatus

RUNGS = "rungs"
"""The attribute with one record a rung: rung, fidelity, values, curves, metrics, cost, and in a file the state."""


def trial_result(trial: FrozenTrial) -> TrialResult | None:
    """What a trial brought, or None before it brought anything."""
    told = trial.user_attrs.get("result")
    if told is not None:
        return TrialResult.from_json(told)
    rungs = trial.user_attrs.get(RUNGS)
    if not rungs:
        return None
    reached = TrialResult.from_json(rungs[-1]["result"])
    given_up = trial.state == TrialState.PRUNED
    return replace(reached, status=TrialStatus.STOPPED) if given_up else reached


FIRST_RUNG = "first_rung"
"""The attribute with the rung where a trial is judged first, where the smaller bases say more than its family."""


SPENT = (TrialStatus.COMPLETE, TrialStatus.FAILED, TrialStatus.PAUSED, TrialStatus.STOPPED)
"""The trials that count towards a budget."""
