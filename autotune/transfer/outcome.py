"""How far what earlier sweeps found held here: scores and ranks of their points there and here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.ledger.folder_reader import FolderReader
from autotune.objectives import Objective, is_cost
from autotune.rank_statistics import ENOUGH, FEWEST, Correlation, correlations
from autotune.results.estimates import confirmed_values, on_front
from autotune.results.sweep_tables import SweepTables
from autotune.sampler.sources import SourceTrust, source_trust
from autotune.transfer.carried_source import CarriedSource
from autotune.transfer.stored_sources import read_stored
from autotune.trial_attributes import Origin, TrialAttributes
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration
from trials.records import TrialStatus

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TransferredPoint:
    """A configuration that an earlier sweep and this one have both trained.

    Args:
        trial: of this sweep.
        earlier_trial: of the earlier sweep.
        config: as this sweep trained it.
        earlier_score: its estimate there when it was carried over: the confirmed mean with the search as one further
            run; without a confirmation the posterior mean of the search, or its score less the selection bias.
        score: its estimate here, likewise; the observed score as long as the search stored no posterior.
        earlier_rank: its place by the earlier score among the transferred points, 1 for the best.
        rank: its place by the score here.
        costs: the objectives here that are costs, by name.
        was_on_front: whether it was on the front that the earlier sweep reported.
        is_on_front: whether no other transferred point dominates it here.
    """

    trial: int
    earlier_trial: int
    config: Configuration
    earlier_score: float
    score: float
    earlier_rank: int
    rank: int
    costs: dict[str, float]
    was_on_front: bool
    is_on_front: bool


@dataclass(frozen=True)
class SourceOutcome:
    """What an earlier sweep has said, and how far it held.

    Args:
        name: of the earlier sweep.
        folder: where it was when this sweep began.
        note: how much was carried over and what changed.
        objective: the score that both are ranked by.
        points: the points that both have trained, the best here first.
        failed: number of its points that failed here.
        waiting: number of its points that are still to be trained here.
        spearman: rank correlation of the scores there and here.
        kendall: tau-b.
        regret: by how much the best of the points here beats the one that was best there, in the unit of the score.
        on_final_front: number of points of this sweep's front that come from it.
        trust: how far the sampler relied on it in its latest proposal; None where it has not.
    """

    name: str
    folder: str
    note: str
    objective: Objective
    points: tuple[TransferredPoint, ...]
    failed: int
    waiting: int
    spearman: Correlation
    kendall: Correlation
    regret: float
    on_final_front: int
    trust: SourceTrust | None = None

    @property
    def summary(self) -> str:
        """One sentence on the agreement, with its interval and the number of points."""
        n = len(self.points)
        if n < FEWEST:
            return f"{n} points of {self.name} have a score here; a rank correlation needs {FEWEST}"
        if math.isnan(self.spearman.value):
            return f"no rank correlation: all {n} points have equal scores, there or here"
        words = f"Spearman {self.spearman} and Kendall {self.kendall} over {n} points"
        if math.isnan(self.spearman.low):
            words += f"; fewer than {ENOUGH} points are too few for an interval"
        return words

    @property
    def best_before(self) -> TransferredPoint | None:
        """The point with the best earlier score; None without points."""
        return min(self.points, key=lambda point: point.earlier_rank, default=None)

    @property
    def trust_words(self) -> str:
        """How far the sampler relied on the source, in words; empty where it has not."""
        if self.trust is None or self.name not in self.trust.weights:
            return ""
        agreement = self.trust.agreement.get(self.name)
        measured = "" if agreement is None else f", rank agreement {agreement:.2f} over {self.trust.n} trials"
        if self.name in self.trust.dropped:
            return f"dropped by the sampler{measured}"
        return f"weight {100 * self.trust.weights[self.name]:.0f} % in the sampler{measured}"

    def as_mapping(self) -> dict[str, Any]:
        """Return the outcome as values that JSON can represent; NaN becomes None."""
        return {
            "name": self.name,
            "folder": self.folder,
            "carried_over": self.note,
            "score": self.objective.name,
            "n": len(self.points),
            "failed": self.failed,
            "waiting": self.waiting,
            "spearman": {key: _plain(value) for key, value in asdict(self.spearman).items()},
            "kendall": {key: _plain(value) for key, value in asdict(self.kendall).items()},
            "regret": _plain(self.regret),
            "on_final_front": self.on_final_front,
            "sampler": None if self.trust is None else self._trust_mapping(),
            "points": [
                {**asdict(point), "costs": {name: _plain(cost) for name, cost in point.costs.items()}}
                for point in self.points
            ],
        }

    def _trust_mapping(self) -> dict[str, Any] | None:
        trust = self.trust
        if trust is None or self.name not in trust.weights:
            return None
        return {
            "weight": trust.weights[self.name],
            "rank_agreement": trust.agreement.get(self.name),
            "n": trust.n,
            "dropped": self.name in trust.dropped,
        }


def source_outcomes(results: SweepTables) -> list[SourceOutcome]:
    """Return what each earlier sweep that a sweep started from has said; empty for one that started from none.

    Args:
        results: the sweep, finished or not.

    Raises:
        InvalidInputError: the file that keeps what was carried over is missing or changed.
    """
    reader = FolderReader(results.folder, results.sweep)
    if (digest := reader.sources_digest) is None:
        return []
    sources = read_stored(results.folder, digest, [objective.name for objective in results.objectives])
    study = reader.study()
    trials = [] if study is None else study.get_trials(deepcopy=False)
    newest: dict[Origin, int] = {}
    for trial in trials:
        attributes = TrialAttributes(trial)
        if attributes.origin is not None and attributes.status != TrialStatus.LOST:
            newest[attributes.origin] = trial.number
    score = next((j for j, each in enumerate(results.objectives) if not is_cost(each.name)), 0)
    trust = source_trust(trials).get(score)
    return [_outcome(results, source, newest, score, trust) for source in sources]


def readable_outcomes(results: SweepTables) -> tuple[list[SourceOutcome], str]:
    """Return what `source_outcomes` returns, and in place of its error a sentence, for pages on a finished sweep."""
    try:
        return source_outcomes(results), ""
    except InvalidInputError as error:
        return [], f"What earlier sweeps said cannot be read: {error.problems[0].what}"


def _outcome(
    results: SweepTables,
    source: CarriedSource,
    trial_of: dict[Origin, int],
    score: int,
    trust: SourceTrust | None,
) -> SourceOutcome:
    objectives = results.objectives
    objective = objectives[score]
    values, _ = confirmed_values(objectives, results.trials, results.confirmations)
    row_of = {int(trial): row for row, trial in enumerate(results.trials["trial"])}
    statuses = dict(zip(results.trials["trial"], results.trials["status"], strict=True))
    pairs: list[tuple[int, int]] = []  # (place in the source, row here)
    started = failed = 0
    for place, number in enumerate(source.trials):
        trial = trial_of.get(Origin(number, source.name))
        if trial is None:
            continue
        started += 1
        failed += statuses.get(trial) == "failed"
        row = row_of.get(trial)
        if row is not None and np.isfinite(values[row]).all() and np.isfinite(source.values[place, score]):
            pairs.append((place, row))
    before = np.asarray(objective.loss(source.values[[place for place, _ in pairs], score]))
    here = values[[row for _, row in pairs]]
    now = np.asarray(objective.loss(here[:, score]))
    spearman, kendall = correlations(before, now)
    fronts = on_front(objectives, here) if pairs else np.zeros(0, bool)
    regret = math.nan if not pairs else float(abs(here[now.argmin(), score] - here[before.argmin(), score]))
    reported = set(results.front["trial"])
    of_source = {trial for origin, trial in trial_of.items() if origin.source == source.name}
    return SourceOutcome(
        name=source.name,
        folder=source.folder,
        note=source.note,
        objective=objective,
        points=_points(results, source, pairs, here, before, now, fronts, score),
        failed=failed,
        waiting=started - failed - len(pairs),
        spearman=spearman,
        kendall=kendall,
        regret=regret,
        on_final_front=len(of_source & reported),
        trust=trust,
    )


def _points(
    results: SweepTables,
    source: CarriedSource,
    pairs: Sequence[tuple[int, int]],
    here: Array,
    before: Array,
    now: Array,
    fronts: NDArray[np.bool_],
    score: int,
) -> tuple[TransferredPoint, ...]:
    if not pairs:
        return ()
    earlier, later = ((losses[:, None] > losses).sum(axis=1) + 1 for losses in (before, now))
    points = [
        TransferredPoint(
            trial=int(results.trials["trial"].iloc[row]),
            earlier_trial=source.trials[place],
            config=source.configs[place],
            earlier_score=float(source.values[place, score]),
            score=float(here[i, score]),
            earlier_rank=int(earlier[i]),
            rank=int(later[i]),
            costs={o.name: float(here[i, j]) for j, o in enumerate(results.objectives) if is_cost(o.name)},
            was_on_front=source.is_on_front[place],
            is_on_front=bool(fronts[i]),
        )
        for i, (place, row) in enumerate(pairs)
    ]
    return tuple(sorted(points, key=lambda point: (point.rank, point.earlier_rank)))


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
