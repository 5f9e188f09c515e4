"""Repeated runs of uncertain points near the front, and whether the noise makes them worth it.

The best of k noisy scores exceeds the truth by about s sqrt(2 ln k) where s is the standard deviation of the noise:
by two standard deviations among eight similar configurations. So the noise matters once s is a twentieth of the range
of the front's posterior means: a tenth of all that the front distinguishes may then be luck. Below that, a trial is
better spent on a new configuration.

The noise is measured by the repeats in the study, once they have two degrees of freedom. The noise that the
surrogate fits may be roughness of a deterministic objective, so it counts only if the objectives are known to be
noisy, and only as long as the repeats do not contradict it. So no trial of a deterministic objective is repeated, and
where noise was assumed, two repeats that agree end the repetitions.

Shapes: n distinct finished configurations, m objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtr, ndtr

from autotune.sampler.pareto.posterior import Posterior
from autotune.sampler.proposal import Proposer
from autotune.sampler.strategies import StrategySettings
from search_spaces.parameters.types import Configuration

Array = NDArray[np.float64]

_SHARE = 0.2
"""The share of proposals that repeat a trial where the noise is worth it."""
_WORTH = 0.05
"""Least standard deviation of the noise as a share of the range of the front."""
_TRUSTED = 2
"""Degrees of freedom from which repeats measure the noise."""
_CONTRADICTION = 0.01
"""The probability of repeats that agree so well, below which they refute the fitted noise."""
_NEAR_TIE = 0.9
"""Points whose repetition is worth at least this share of the best one's are ties; the cheapest is repeated."""


@dataclass(frozen=True)
class PosteriorScores:
    """Posterior means of uncertain objectives at the finished trials.

    Args:
        means: by objective index and trial number, the posterior mean in the study's units; of the logarithm where an
            objective is logarithmic.
        deviations: the standard deviations likewise.
        is_worth_it: whether the noise is so large that means should replace the values of single trials.
    """

    means: Mapping[int, Mapping[int, float]]
    deviations: Mapping[int, Mapping[int, float]]
    is_worth_it: bool


def repeated_point(
    proposer: Proposer, posterior: Posterior, settings: StrategySettings
) -> Configuration | None:
    """Return the finished configuration that the next trial repeats; None if it is to try a new one.

    The point is the one whose repetition may change the front most; among near ties, it is the cheapest.
    """
    if not is_due(proposer, settings):
        return None
    noise = noise_variances(proposer, posterior, settings.is_noisy or bool(settings.resample))
    if settings.resample is None and not is_worth_it(posterior, noise):
        return None
    history = proposer.history
    configs = [history.configs[group[0]] for group in history.groups]
    values = front_changes(posterior, noise)
    pending = {frozenset(config.items()) for config in history.pending}
    values[[frozenset(config.items()) in pending for config in configs]] = 0.0
    # A trial that is not trained to the end is trained further rather than again.
    values[[bool(history.variances[group].any()) for group in history.groups]] = 0.0
    if not values.max() > 0:
        return None
    ties = np.flatnonzero(values >= _NEAR_TIE * values.max())
    if proposer.trial_cost is None:
        return configs[int(ties[values[ties].argmax()])]
    return configs[int(ties[proposer.trial_cost([configs[i] for i in ties]).argmin()])]


def is_due(proposer: Proposer, settings: StrategySettings) -> bool:
    """Return whether the proposals so far leave room for a repeat: the share is spread evenly over them."""
    share = _SHARE if settings.resample is None else settings.resample
    proposals = proposer.history.started - settings.n_startup
    return math.floor((proposals + 1) * share) > math.floor(proposals * share)


def noise_variances(proposer: Proposer, posterior: Posterior, is_noisy: bool) -> Array:
    """Return the variance of one run of each objective, minimized, shape [m]; 0 where known, NaN where not trusted.

    Args:
        proposer: the study.
        posterior: the surrogates.
        is_noisy: whether the noise that surrogates fit is trusted where repeats do not measure it.
    """
    history, objectives = proposer.history, proposer.objectives
    found = np.zeros(len(objectives))
    for j in range(len(objectives)):
        if j in objectives.known:
            continue
        outcomes = objectives.minimized(history.values[:, j], j)
        freedom = len(outcomes) - len(history.groups)
        squares = float(sum(((outcomes[g] - outcomes[g].mean()) ** 2).sum() for g in history.groups))
        found[j] = _noise_variance(squares, freedom, posterior.noise_variance(j) if is_noisy else None)
    return found


def _noise_variance(squares: float, freedom: int, fitted: float | None) -> float:
    """Return the variance of the noise: the fitted one, which repeats inform, or the measured one, or NaN.

    Args:
        squares: sum of squared deviations of repeats from their means.
        freedom: its degrees of freedom.
        fitted: the variance that the surrogate fitted; None where it is not trusted.
    """
    if fitted is None or not fitted > 0:
        return squares / freedom if freedom >= _TRUSTED else math.nan
    if freedom >= _TRUSTED and chdtr(freedom, squares / fitted) < _CONTRADICTION:
        return squares / freedom
    return fitted


def is_worth_it(posterior: Posterior, noise: Array) -> bool:
    """Return whether the noise of an objective is at least a twentieth of the range of its means on the front."""
    feasible = posterior.is_feasible
    if not feasible.any():
        return False
    spread = np.ptp(posterior.plug_in_values[posterior.front], axis=0)
    # A front of a single point has no range: the better half of the trials stands in for it.
    means = posterior.plug_in_values[feasible]
    spread = np.where(spread > 0, spread, np.median(means, axis=0) - means.min(axis=0))
    return bool((np.sqrt(np.nan_to_num(noise)) >= _WORTH * spread)[noise > 0].any())


def front_changes(posterior: Posterior, noise: Array) -> Array:
    """Return by how much one more run of each finished configuration is expected to change the front, shape [n].

    One run of variance v moves a posterior mean with variance s² by a normal step of variance s⁴ / (s² + v). The
    front changes by the part of the step beyond the margin: the distance between the point's mean and the best mean
    among the points that are at least as good in every other objective. Its expectation is that of the knowledge
    gradient (Frazier, Powell and Dayanik 2009, INFORMS Journal on Computing 21, section 3), in
    units of the standard deviation of the objective, summed over the uncertain objectives.
    """
    n, m = posterior.finished, posterior.plug_in_values.shape[1]
    means, deviations = posterior.plug_in_values[:n], posterior.std[:n, :m]
    is_feasible = posterior.is_feasible[:n]
    total = np.zeros(n)
    for j in np.flatnonzero(~np.isnan(noise) & (noise > 0)):
        variances = deviations[:, j] ** 2
        step = variances / np.sqrt(variances + noise[j])
        margin = np.abs(means[:, j] - _best_rivals(means, is_feasible, int(j)))
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(step > 0, margin / step, np.inf)
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        gain = step * (density - np.where(np.isfinite(z), z, 0.0) * ndtr(-z))
        total += np.where(np.isfinite(z), gain, 0.0) / posterior.scale[j]
    return np.where(is_feasible, np.maximum(total, 0.0), 0.0)


def _best_rivals(means: Array, is_feasible: NDArray[np.bool_], j: int) -> Array:
    """Return the best value of objective j among the other points that are as good in all others; inf without one."""
    others = np.delete(means, j, axis=1)
    is_rival = (others[:, None, :] <= others[None, :, :]).all(axis=2) & is_feasible[:, None]
    np.fill_diagonal(is_rival, False)
    return np.asarray(np.where(is_rival, means[:, None, j], np.inf).min(axis=0))


def trial_posteriors(proposer: Proposer, posterior: Posterior, is_noisy: bool) -> PosteriorScores:
    """Return the posterior of every finished trial in the study's units.

    Args:
        proposer: the study.
        posterior: the surrogates.
        is_noisy: see `noise_variances`.
    """
    history, objectives = proposer.history, proposer.objectives
    noise = noise_variances(proposer, posterior, is_noisy)
    means: dict[int, dict[int, float]] = {}
    deviations: dict[int, dict[int, float]] = {}
    for j in sorted(set(range(len(objectives))) - set(objectives.known)):
        # The surrogate saw a better value than an outlier's own, and so knows less of it than the value says.
        rows = [(row, group) for row, group in enumerate(history.groups) if not posterior.is_clipped[row, j]]
        of_trial = [(history.numbers[i], row) for row, group in rows for i in group]
        column = objectives.signs[j] * posterior.plug_in_values[:, j]
        means[j] = {number: float(column[row]) for number, row in of_trial}
        deviations[j] = {number: float(posterior.std[row, j]) for number, row in of_trial}
    return PosteriorScores(means, deviations, is_worth_it(posterior, noise))
