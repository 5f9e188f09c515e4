"""Local search for the candidate with the largest score, from several starts at once.

It follows AutoPEFT (Zhou et al. 2024): the starts are neighbors of the front, and each search moves to the best of
its neighbors as long as that is an improvement. The published code records the configuration of a start with the
score of the end of its search, and takes as k-th neighbor a change of the previous neighbor, which drifts away from
the front. Here every score is that of its own configuration, and each neighbor changes the current configuration.

Shapes: c candidates, d encoded dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.proposal import Candidates, Proposer

Array = NDArray[np.float64]
Score = Callable[[Candidates], Array]
"""A function from c candidates to their scores, shape [c], larger is better."""

_RESTARTS = 10
_MAX_EVALUATIONS = 2_000
_STARTS_DRAWN = 200
"""Neighbors of the front that the starts are chosen from."""
_WIDTH = 12
"""Neighbors of each search per round."""
_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01)
"""Step sizes of ordered parameters, in units of the encoded range; a round without improvement leads to the next."""


@dataclass
class Search:
    """One local search.

    Args:
        current: the best candidate so far, one row.
        score: its score.
        step: index of the step size.
    """

    current: Candidates
    score: float
    step: int = 0

    def advance(self, neighbors: Candidates, scores: Array) -> None:
        """Move to the best neighbor if it is better, with its own score; otherwise reduce the step."""
        best = int(scores.argmax()) if len(scores) else -1
        if best >= 0 and scores[best] > self.score:
            self.current, self.score = neighbors.take(np.array([best])), float(scores[best])
        else:
            self.step += 1


def local_search(
    proposer: Proposer, score: Score, front: Array, *, max_evaluations: int = _MAX_EVALUATIONS
) -> Search:
    """Return the best of several local searches that start next to the front.

    Args:
        proposer: the source of feasible, new candidates.
        score: the score of candidates.
        front: encoded rows of the front, shape [k, d], k >= 1.
        max_evaluations: maximum number of candidates that are scored.

    Raises:
        ValueError: No configuration satisfies the hard limits.
    """
    drawn = min(_STARTS_DRAWN, max_evaluations)
    pool = proposer.at_least_one(proposer.columns.neighbors(front, drawn, _STEPS[0], proposer.rng))
    starts, scores = pool.best(score(pool), _RESTARTS)
    used = len(pool.configs)
    searches = [Search(starts.take(np.array([i])), float(value)) for i, value in enumerate(scores)]
    while active := [search for search in searches if search.step < len(_STEPS)]:
        width = min(_WIDTH, (max_evaluations - used) // len(active))
        if width < 1:
            break
        rounds = [neighbors_of(proposer, search, width) for search in active]
        counts = [len(each.configs) for each in rounds]
        used += sum(counts)
        joined = Candidates.concatenated(rounds)
        values = score(joined) if joined.configs else np.empty(0)
        for search, neighbors, part in zip(
            active, rounds, np.split(values, np.cumsum(counts)[:-1]), strict=True
        ):
            search.advance(neighbors, part)
    return max(searches, key=lambda search: search.score)


def neighbors_of(proposer: Proposer, search: Search, count: int) -> Candidates:
    """Return up to `count` feasible, new configurations that differ from the current one in one or two parameters."""
    parents = np.repeat(search.current.rows, count, axis=0)
    return proposer.feasible(proposer.columns.perturb(parents, _STEPS[search.step], proposer.rng))
