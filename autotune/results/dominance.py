"""How probable it is that one point of a front dominates another, given noisy scores.

Shapes: p points, m objectives in loss coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from autotune.results.confirmation_runs import ExampleScores, RunKey

Array = NDArray[np.float64]

_TINY = 1e-300


def dominance_probabilities(
    losses: Array, variances: Array, freedoms: Sequence[float], pairs: Array
) -> Array:
    """Return the probability that the point of each row dominates the point of each column, shape [p, p].

    Exact objectives decide between 0 and 1. For a noisy one, the probability is that of a t test of the difference;
    over several noisy objectives the probabilities are multiplied, as if their errors were independent.

    Args:
        losses: estimates, shape [p, m].
        variances: variances of their errors, shape [p, m]; NaN where unknown, which leaves the order of two points
            open (probability 0.5).
        freedoms: degrees of freedom of the variances, one per objective; 0 for an exact objective.
        pairs: further variances of the difference of two points, shape [p, p, m].
    """
    probability = 1.0 - np.eye(len(losses))
    for j, freedom in enumerate(freedoms):
        worse_by = losses[None, :, j] - losses[:, None, j]
        if not freedom:
            probability *= worse_by >= 0
            continue
        variance = variances[:, None, j] + variances[None, :, j] + pairs[:, :, j]
        statistic = worse_by / np.sqrt(np.maximum(variance, _TINY))
        probability *= np.nan_to_num(stdtr(freedom, statistic), nan=0.5)
    return probability


def paired_variances(example_scores: ExampleScores, runs: Mapping[int, Sequence[int]], metric: str) -> Array:
    """Return the variance that the choice of the validation examples gives the difference of two points' scores.

    The points are compared example by example, on the runs with the same seeds, so that the difficulty of an example,
    which all points share, cancels.

    Args:
        example_scores: see `SweepTables.example_scores`.
        runs: the seeds of each of the p points, by trial.
        metric: the score.

    Returns:
        shape [p, p]; 0 where the two points have no run with the same seed and scores per example.
    """
    found = np.zeros((len(runs), len(runs)))
    scores = {
        trial: {
            seed: each
            for seed in seeds
            if (each := _scores_of(example_scores, trial, seed, metric)) is not None
        }
        for trial, seeds in runs.items()
    }
    for i, first in enumerate(scores.values()):
        for k, second in enumerate(list(scores.values())[:i]):
            differences = [
                first[seed] - second[seed]
                for seed in first.keys() & second.keys()
                if len(first[seed]) == len(second[seed]) > 1
            ]
            if differences:
                mean = np.mean(differences, axis=0)
                found[i, k] = found[k, i] = mean.var(ddof=1) / len(mean)
    return found


def _scores_of(example_scores: ExampleScores, trial: int, seed: int, metric: str) -> Array | None:
    return example_scores.get(RunKey(trial, seed), {}).get(metric)
