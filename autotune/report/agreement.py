"""How far the ranking of the search held in the confirmation: rank correlations, and the points that changed places.

A search ranks configurations by cheap runs: few examples, few epochs, one seed. The confirmation trains some of them
again, on other seeds and, with `confirm: {data: full}`, on all data. The correlation of the two rankings says how far
the cheap one can be trusted; its interval is a percentile bootstrap over points and, within each, over its runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autotune.formatting.units import counted, label, quantity, with_interval, within_sentence
from autotune.objectives import Objective
from autotune.rank_statistics import (
    ENOUGH,
    FEWEST,
    RESAMPLES,
    Correlation,
    interval,
    kendall,
    ranks,
    spearman,
)
from autotune.results.confirmation_runs import empty_confirmations, is_as_search
from autotune.results.estimates import searched_values
from autotune.results.recommendation import recommend
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics, quality

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RankedPoint:
    """A configuration in both rankings.

    Args:
        trial: its number.
        searched: its score in the search, by which the search ranked it.
        confirmed: the mean over confirmation runs.
        low, high: the ends of the 95 % interval of the mean; NaN where it is unknown.
        search_rank, rank: its places, 1 for the best.
        test: the mean on the test split; NaN without one.
    """

    trial: int
    searched: float
    confirmed: float
    low: float
    high: float
    search_rank: int
    rank: int
    test: float


@dataclass(frozen=True)
class RankAgreement:
    """The agreement of search and confirmation about the order of the confirmed points.

    Args:
        objective: the score that both rank by.
        points: the confirmed points, the best in the confirmation first.
        spearman: rank correlation.
        kendall: tau-b: the share of pairs in the same order, less that in the other.
        reversed_pairs: pairs of points in another order than in the search.
        clearly_reversed: those of them whose intervals do not overlap.
        is_as_search: whether the runs have the fidelity of the search.
        search_choice: the trial that the search alone would recommend; None for none.
        choice: the trial that the confirmation recommends; None for none.
    """

    objective: Objective
    points: tuple[RankedPoint, ...]
    spearman: Correlation
    kendall: Correlation
    reversed_pairs: int
    clearly_reversed: int
    is_as_search: bool
    search_choice: int | None
    choice: int | None

    @property
    def moved(self) -> tuple[RankedPoint, ...]:
        """The points with another place than in the search."""
        return tuple(point for point in self.points if point.rank != point.search_rank)

    @property
    def summary(self) -> str:
        """One sentence with the correlation, its interval and the number of points."""
        kind = "new seeds" if self.is_as_search else "the full budget"
        words = f"Spearman {self.spearman} and Kendall {self.kendall} between search and {kind}"
        words += f", over {counted(len(self.points), 'point')}"
        if math.isnan(self.spearman.low):
            words += f"; fewer than {ENOUGH} points are too few for an interval"
        pairs = math.comb(len(self.points), 2)
        words += f"; {self.reversed_pairs} of {pairs} pairs changed their order"
        return (
            f"{words}, {self.clearly_reversed} of them beyond their intervals"
            if self.reversed_pairs
            else words
        )

    @property
    def choice_words(self) -> str:
        """One sentence on the recommended points of search and confirmation."""
        if self.choice is None:
            return "The confirmed scores recommend no point."
        chosen = next((point for point in self.points if point.trial == self.choice), None)
        score = "" if chosen is None else f" ({self.score_text(chosen)})"
        if self.choice == self.search_choice:
            return f"Search and confirmation recommend the same point: trial {self.choice}{score}."
        before = "no point" if self.search_choice is None else f"trial {self.search_choice}"
        return f"The search alone recommends {before}, the confirmed scores trial {self.choice}{score}."

    def score_text(self, point: RankedPoint) -> str:
        """Return the confirmed mean of a point with its interval."""
        return with_interval(self.objective.name, point.confirmed, point.low, point.high)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table: trial, place in the search and now, both scores, and the score on the test split."""
        name = self.objective.name
        return [
            (
                str(point.trial),
                str(point.search_rank),
                str(point.rank),
                quantity(name, point.searched),
                self.score_text(point),
                quantity(name, point.test),
            )
            for point in self.points
        ]

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings of `rows`."""
        kind = "new seeds" if self.is_as_search else "full budget"
        score = within_sentence(label(self.objective.name))
        return (
            "Trial",
            "Place in the search",
            f"Place on {kind}" if self.is_as_search else f"Place at the {kind}",
            f"Search {score}",
            "Confirmed (95 % interval)",
            "Test",
        )


def rank_agreement(results: SweepTables) -> RankAgreement | None:
    """Return how far the search's ranking of the confirmed points held; None for fewer than `FEWEST` points."""
    objective = quality(results)
    found = confirmation_statistics(results, objective.name)
    trials = results.trials[results.trials["trial"].isin(found.index)].reset_index(drop=True)
    if len(trials) < FEWEST:
        return None
    j = results.objectives.index(objective)
    searched = searched_values(results.objectives, trials)[:, j]
    means = found.reindex(trials["trial"])
    here, there = objective.loss(searched), objective.loss(means["mean"].to_numpy(dtype=float))
    places, search_places = ranks(there[None])[0], ranks(here[None])[0]
    points = [
        RankedPoint(
            trial=int(trial),
            searched=float(searched[i]),
            confirmed=float(means["mean"].iloc[i]),
            low=float(means["low"].iloc[i]),
            high=float(means["high"].iloc[i]),
            search_rank=math.ceil(search_places[i]),
            rank=math.ceil(places[i]),
            test=float(means["test"].iloc[i]),
        )
        for i, trial in enumerate(trials["trial"])
    ]
    is_reversed = np.triu((here[:, None] - here) * (there[:, None] - there) < 0)
    low, high = (means[end].to_numpy(dtype=float) for end in ("low", "high"))
    is_apart = (low[:, None] > high) | (high[:, None] < low)
    spearman, kendall = _correlations(results, objective, trials, here, there)
    return RankAgreement(
        objective=objective,
        points=tuple(sorted(points, key=lambda point: (point.rank, point.search_rank))),
        spearman=spearman,
        kendall=kendall,
        reversed_pairs=int(is_reversed.sum()),
        clearly_reversed=int((is_reversed & is_apart).sum()),
        is_as_search=is_as_search(results.confirmations),
        search_choice=_search_choice(results),
        choice=recommend(results, results.front).trial,
    )


def _search_choice(results: SweepTables) -> int | None:
    """Return the trial that would be recommended without the confirmation."""
    trials = results.trials.assign(on_front=results.trials["on_search_front"])
    alone = replace(results, trials=trials, confirmations=empty_confirmations(), example_scores={})
    return recommend(alone, alone.front).trial


def _correlations(
    results: SweepTables, objective: Objective, trials: pd.DataFrame, here: Array, there: Array
) -> tuple[Correlation, Correlation]:
    """Return the correlations of n losses, `here` in the search and `there` in the confirmation, with intervals."""
    n = len(here)
    values = [float(measure(here[None], there[None])[0]) for measure in (spearman, kendall)]
    if n < ENOUGH:
        return Correlation(values[0], math.nan, math.nan), Correlation(values[1], math.nan, math.nan)
    rng = np.random.default_rng(0)
    chosen = rng.integers(n, size=(RESAMPLES, n))
    runs = results.confirmations.dropna(subset=[f"metric.{objective.name}"])
    losses = pd.Series(objective.loss(runs[f"metric.{objective.name}"]), runs.index)
    groups = [losses[runs["trial"] == trial].to_numpy(dtype=float) for trial in trials["trial"]]
    resampled = np.empty((RESAMPLES, n))
    for i, group in enumerate(groups):
        at = chosen == i
        draws = rng.integers(len(group), size=(int(at.sum()), len(group)))
        resampled[at] = group[draws].mean(axis=1)
    found = []
    for value, measure in zip(values, (spearman, kendall), strict=True):
        found.append(Correlation(value, *interval(measure(here[chosen], resampled))))
    return found[0], found[1]
