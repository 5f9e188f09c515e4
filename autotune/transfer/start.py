"""What a search starts from, together: the user's own configurations, then the fronts of earlier sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import FrozenTrial

from autotune.formatting.units import counted
from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import Ledger
from autotune.objectives import Objective
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sampler.sources import first_configurations
from autotune.sampler.strategies import strategy_entry
from autotune.sweep.budget_spec import Budget
from autotune.sweep.sampler_spec import ParetoSpec
from autotune.sweep.start_spec import FRONT_SHARE, START_FROM
from autotune.transfer.carried_source import CarriedSource
from autotune.transfer.carry_over import carry_over
from autotune.transfer.first_trials import FirstTrial, enqueue_first, read_tries
from autotune.transfer.old_front import OldFront, check_has_front, chosen_points
from autotune.transfer.source_folders import read_source, source_names
from autotune.transfer.stored_sources import digest_of, read_stored, sources_text, write_sources
from autotune.trial_attributes import SPENT, Origin, TrialAttributes, trial_result
from search_spaces.errors import InvalidInputError, Problem

_FEWEST, _MOST = 3, 12
"""Bounds of the number of points of earlier fronts that are trained first; the upper one also holds without a budget
of trials."""


@dataclass(frozen=True)
class SearchStart:
    """What a search starts from.

    Args:
        first: what is trained before the sampler proposes anything.
        sources: what was carried over from earlier sweeps.
        notes: what was carried over, filled in or left out, in sentences for the user.
        ends_after_first: whether nothing but the first trials is trained.
    """

    first: tuple[FirstTrial, ...] = ()
    sources: tuple[CarriedSource, ...] = ()
    notes: tuple[str, ...] = ()
    ends_after_first: bool = False


def search_start(prepared: PreparedSweep, folder: Path, old_front: OldFront | None = None) -> SearchStart:
    """Read what a search starts from. Nothing is written.

    A sweep that has begun uses what its folder keeps of the earlier ones, which may be gone.

    Args:
        prepared: the sweep.
        folder: that it runs in.
        old_front: the front of an earlier sweep that is trained alone, without a search; None for a search.

    Raises:
        InvalidInputError: a configuration or an earlier sweep cannot be used, with every problem.
    """
    if old_front is not None:
        return old_front_start(prepared, folder, old_front)
    tries = read_tries(prepared)
    sources = read_sources(prepared, folder)
    room = None if (trials := prepared.sweep.budget.trials) is None else trials - len(tries.trials)
    own = [each.config for each in tries.trials]
    first = [each for each in front_trials(sources, prepared, _front_count(trials)) if each.config not in own]
    first = first if room is None else first[: max(0, room)]
    notes = [*tries.notes, *(source.note for source in sources)]
    if sources:
        notes.append(_front_note(sources, first))
        notes += _sampler_notes(prepared)
    return SearchStart((*tries.trials, *first), tuple(sources), tuple(notes))


def read_sources(prepared: PreparedSweep, folder: Path) -> list[CarriedSource]:
    """Return what is carried over from the earlier sweeps of `start_from`, or was when the sweep began.

    Raises:
        InvalidInputError: an earlier sweep cannot be used, with every problem.
    """
    folders = prepared.sweep.start_from
    if not folders:
        return []
    if digest := FolderReader(folder, prepared.sweep).sources_digest:
        return read_stored(folder, digest, names_of(prepared.sweep.objectives), prepared.space)
    found, problems = list[CarriedSource](), list[Problem]()
    for place, (each, name) in enumerate(zip(folders, source_names(folders), strict=True)):
        where = f"{START_FROM}[{place}]"
        if Path(each).resolve() == folder.resolve():
            problems.append(
                Problem(where, "is the folder of this sweep itself", "Use --out with another folder.")
            )
            continue
        try:
            found.append(carry_over(read_source(Path(each), name, where), prepared))
        except InvalidInputError as error:
            problems += error.problems
    if problems:
        raise InvalidInputError(problems)
    return found


def old_front_start(prepared: PreparedSweep, folder: Path, old_front: OldFront) -> SearchStart:
    """Return the trials that say how far the order of an earlier front holds, and nothing else.

    Raises:
        InvalidInputError: the earlier sweep cannot be used, or the sweep starts from other ones, too.
    """
    where, given = old_front.where, prepared.sweep.start_from
    if given and [Path(each).resolve() for each in given] != [old_front.folder.resolve()]:
        fix = f"Remove start_from, or write start_from: {old_front.folder}."
        raise InvalidInputError(Problem(START_FROM, "names other sweeps than the one to transfer", fix))
    if folder.resolve() == old_front.folder.resolve():
        fix = "Use --out with another folder."
        raise InvalidInputError(Problem("--out", "is the folder of the earlier sweep", fix))
    if digest := FolderReader(folder, prepared.sweep).sources_digest:
        sources = read_stored(folder, digest, names_of(prepared.sweep.objectives), prepared.space)
    else:
        [name] = source_names([str(old_front.folder.resolve())])
        sources = [carry_over(read_source(old_front.folder, name, where), prepared)]
        check_has_front(sources[0], where)
    first, note = chosen_points(sources[0], prepared, old_front.points)
    return SearchStart(first, tuple(sources), (sources[0].note, note), ends_after_first=True)


def names_of(objectives: Sequence[Objective]) -> list[str]:
    """Return the names of objectives."""
    return [objective.name for objective in objectives]


def front_trials(sources: Sequence[CarriedSource], prepared: PreparedSweep, count: int) -> list[FirstTrial]:
    """Return points of the fronts of earlier sweeps and next to them, at most `count`, cheapest first."""
    configs = first_configurations(
        [source.for_sampler for source in sources],
        count,
        directions=[objective.direction for objective in prepared.sweep.objectives],
        cost=lambda config: float(prepared.costs(config).train_flops),
    )
    found = []
    for config in configs:
        source, trial = next((s, t) for s in sources if (t := s.trial_of(config)) is not None)
        found.append(FirstTrial(config, Origin(trial, source.name)))
    return found


def _front_note(sources: Sequence[CarriedSource], first: Sequence[FirstTrial]) -> str:
    """Return how many points of earlier fronts, and of the fronts below them, are trained first."""
    if not first:
        return "no configuration of the earlier sweeps is trained first"
    on_front = {
        Origin(trial, source.name)
        for source in sources
        for trial, is_on_front in zip(source.trials, source.is_on_front, strict=True)
        if is_on_front
    }
    points = sum(each.origin in on_front for each in first)
    below = len(first) - points
    counts = (
        "is trained first and counts as a trial"
        if len(first) == 1
        else "are trained first and count as trials"
    )
    parts = [counted(points, "point") + " of the earlier fronts"] if points else []
    parts += [f"{below} of the fronts that follow when these are left out"] if below else []
    return f"{counted(len(first), 'configuration')} {counts}: {', and '.join(parts)}"


def keep_start(start: SearchStart, prepared: PreparedSweep, folder: Path, ledger: Ledger) -> None:
    """Keep what was carried over in the folder of the sweep, and put the first trials into the queue, each once.

    Args:
        start: what the search starts from.
        prepared: the sweep.
        folder: of the sweep, which this process has claimed.
        ledger: of the search.
    """
    if start.sources:
        text = sources_text(start.sources, names_of(prepared.sweep.objectives))
        digest = digest_of(text)
        if ledger.sources_digest != digest:
            write_sources(folder, text)
            ledger.set_sources_digest(digest)
    enqueue_first(ledger, start.first)


def first_trials_alone(
    prepared: PreparedSweep, start: SearchStart, trials: Sequence[FrozenTrial]
) -> PreparedSweep:
    """Return a sweep that trains its first trials in full and nothing else.

    Args:
        prepared: the sweep.
        start: what it starts from.
        trials: of its folder.
    """
    wanted = {each.origin for each in start.first}
    spent = [t for t in trials if (result := trial_result(t)) is not None and result.status in SPENT]
    others = sum(TrialAttributes(trial).origin not in wanted for trial in spent)
    changes = {
        "budget": Budget(trials=others + len(wanted)),
        "ladder": None,
        "confirm": prepared.sweep.confirm.model_copy(update={"seeds": 0}),
    }
    return replace(prepared, sweep=prepared.sweep.model_copy(update=changes))


def _front_count(trials: int | None) -> int:
    """Return how many points of earlier fronts are trained first, by the budget of trials."""
    return _MOST if trials is None else min(_MOST, max(_FEWEST, trials // FRONT_SHARE))


def uses_sources(prepared: PreparedSweep) -> bool:
    """Return whether the sampler of a sweep learns from the trials of earlier sweeps."""
    spec = prepared.sweep.sampler
    return isinstance(spec, ParetoSpec) and "sources" in strategy_entry(spec.strategy).settings


def _sampler_notes(prepared: PreparedSweep) -> list[str]:
    spec = prepared.sweep.sampler
    if uses_sources(prepared):
        return []
    name = f"strategy {spec.strategy}" if isinstance(spec, ParetoSpec) else f"sampler {spec.name}"
    return [f"{name} does not learn from the other trials of earlier sweeps; sampler pareto does"]
