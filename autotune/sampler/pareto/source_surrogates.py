"""Surrogates of earlier studies, which inform those of this one.

One Gaussian process per source and uncertain objective is fitted to the source's trials in the encoding of this
study, with values that are standardized by themselves. It is a function of these trials, so it is fitted once per
process and kept. Of a source with more than 200 trials, the front and a random part of the rest are used.

Shapes: n trials of a source, d encoded dimensions, m objectives, k constraints.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.pareto import non_dominated
from autotune.sampler.proposal import Proposer
from autotune.sampler.sources import SourceTrials
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, standardization

Array = NDArray[np.float64]

_MOST = 200
"""Maximum number of trials of a source that a process is fitted to."""
_FEWEST = 4
"""Least number of trials with a value; a source with fewer does not inform an objective."""
_KEPT = 64
"""Number of fitted processes that are kept in memory."""

_fitted: OrderedDict[str, GaussianProcess] = OrderedDict()


@dataclass(frozen=True)
class SourceData:
    """The trials of one source in the form that surrogates are fitted to.

    Args:
        name: name of the source.
        X: encoded configurations, shape [n, d].
        outcomes: objectives, minimized, shape [n, m + k]: known ones as this study computes them, NaN where the
            source has no value and in the columns of constraints.
        is_front: which trials are on the source's front, shape [n].
    """

    name: str
    X: Array
    outcomes: Array
    is_front: NDArray[np.bool_]


def source_data(proposer: Proposer, sources: Sequence[SourceTrials]) -> list[SourceData]:
    """Return the trials of sources in the encoding and the directions of a study.

    Trials whose known objectives are not finite in this study are left out, and so are sources without a trial.
    """
    found = [_source_data(proposer, source) for source in sources if len(source.configs)]
    return [source for source in found if len(source.X)]


def _source_data(proposer: Proposer, source: SourceTrials) -> SourceData:
    objectives, configs = proposer.objectives, list(source.configs)
    outcomes = proposer.known(configs)
    for j in set(range(len(objectives))) - set(objectives.known):
        outcomes[:, j] = objectives.minimized(source.values[:, j], j)
    is_known = np.isfinite(outcomes[:, sorted(objectives.known)]).all(axis=1)
    X, outcomes = proposer.space.encode(configs)[is_known], outcomes[is_known]
    ranked = outcomes[:, : len(objectives)]
    ranked = ranked[:, ~np.isnan(ranked).all(axis=0)]
    return SourceData(source.name, X, outcomes, non_dominated(ranked))


def source_process(
    X: Array, y: Array, is_front: NDArray[np.bool_], embedding: Embedding
) -> GaussianProcess | None:
    """Return the process of one objective of a source, which predicts standardized values to maximize.

    Args:
        X: inputs of the process, shape [n, d'].
        y: the objective, maximized, shape [n]; NaN where the source does not have it.
        is_front: which trials are kept if there are too many, shape [n].
        embedding: of the columns of X.

    Returns:
        The process; None where fewer than four trials have a value, or where all values agree.
    """
    has_value = np.flatnonzero(np.isfinite(y))
    rows = _thinned(has_value, is_front)
    if len(rows) < _FEWEST or np.ptp(y[rows]) == 0:
        return None
    X, y = X[rows], y[rows]
    key = _key(X, y, embedding)
    if key in _fitted:
        _fitted.move_to_end(key)
    else:
        offset, scale = standardization(y)
        _fitted[key] = GaussianProcess.fit(X, (y - offset) / scale, embedding)
        if len(_fitted) > _KEPT:
            _fitted.popitem(last=False)
    return _fitted[key]


def _thinned(rows: NDArray[np.int_], is_front: NDArray[np.bool_]) -> NDArray[np.int_]:
    if len(rows) <= _MOST:
        return rows
    order = np.random.default_rng(0).permutation(rows)
    return np.sort(order[np.argsort(~is_front[order], kind="stable")][:_MOST])


def _key(X: Array, y: Array, embedding: Embedding) -> str:
    digest = hashlib.sha256()
    for array in (X, y, embedding.counts.astype(np.int64)):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
