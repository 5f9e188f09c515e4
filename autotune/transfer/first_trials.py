"""The trials that a search begins with, before its sampler proposes any: those of `try` in the sweep file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autotune.formatting.units import config_lines, counted
from autotune.ledger.ledger import Ledger
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sweep.start_spec import TRY
from autotune.transfer.written_configuration import ConfigurationReader
from autotune.trial_attributes import Origin, TrialAttributes, stored
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.parameters.types import Configuration


@dataclass(frozen=True)
class FirstTrial:
    """A configuration that is trained before the sampler proposes any.

    Args:
        config: complete in the space of the sweep, and within its limits.
        origin: where it comes from.
    """

    config: Configuration
    origin: Origin


@dataclass(frozen=True)
class FirstTrials:
    """The trials that a search begins with, in order.

    Args:
        trials: the trials, without repetitions.
        notes: what was filled in or left out, in sentences for the user.
    """

    trials: tuple[FirstTrial, ...] = ()
    notes: tuple[str, ...] = ()


def read_tries(prepared: PreparedSweep) -> FirstTrials:
    """Return the configurations of `try`, each complete and within the limits of the sweep.

    Args:
        prepared: the sweep.

    Raises:
        InvalidInputError: a configuration is not one of the space, breaks a limit, or is beyond the budget.
    """
    given, budget = prepared.sweep.try_, prepared.sweep.budget.trials
    if not given:
        return FirstTrials()
    reader = ConfigurationReader(prepared.sweep.space, prepared.space, prepared.shape, prepared.broken_limits)
    problems, notes = list[Problem](), list[str]()
    found: dict[int, Configuration] = {}
    for place, raw in enumerate(given):
        where = f"{TRY}[{place}]"
        written = reader.read(raw, where, problems)
        if written is None:
            continue
        if written.filled:
            filled = ", ".join(config_lines(written.filled))
            notes.append(f"{where}: defaults of the space fill in {filled}")
        same = next((earlier for earlier, config in found.items() if config == written.config), None)
        if same is not None:
            notes.append(f"{where} is the same configuration as {TRY}[{same}]; it is trained once")
        else:
            found[place] = written.config
    if problems:
        raise InvalidInputError(problems)
    if budget is not None and len(found) > budget:
        what = f"has {counted(len(found), 'configuration')}, and budget.trials is {budget}"
        fix = f"Raise budget.trials to at least {len(found)}, or remove configurations."
        raise InvalidInputError(Problem(TRY, what, fix))
    trials = tuple(FirstTrial(config, Origin(place)) for place, config in found.items())
    return FirstTrials(trials, tuple(notes))


def enqueue_first(ledger: Ledger, trials: Sequence[FirstTrial]) -> None:
    """Put the first trials into the queue of a search, each once, however often the search is resumed.

    Args:
        ledger: of the search.
        trials: in order.
    """
    queued = ledger.study.get_trials(deepcopy=False)
    known = {origin for trial in queued if (origin := TrialAttributes(trial).origin) is not None}
    for trial in trials:
        if trial.origin not in known:
            ledger.study.enqueue_trial(dict(trial.config), user_attrs=stored(origin=trial.origin))
    ledger.changed()
