"""The best learning rate and batch size as functions of scale, and the width of the plateau around them.

Shapes: n runs, k hyperparameters (log learning rate, log batch size), s scales (params, tokens, rank), C cells. A
cell is the set of runs with equal scales, which differ only in their hyperparameters. The model of the log loss is
a quadratic whose minimum depends on the scales:

    log L = m_cell + (z - z*)' H (z - z*),    z*_j = w_j0 + sum over the scales of hyperparameter j of w_ji log(x_i),

so each optimum is a power law of its scales (Step Law, Li et al. 2025, arXiv 2503.04715, eq. 1: lr* of N and D,
batch* of D), H is shared, and every cell has its own level. Given w, levels and H are linear and projected out. A
quadratic is accurate only near its minimum, so runs have the weight exp(-excess / tau), where excess is the log
loss above the best of the cell and tau a quarter of its median. So the units and the range of the grid do not
matter.

The minimum is flat, so the plateau, the region within a tolerance of the best loss, is more useful than the optimum.
Uncertainty is a jackknife over cells, because the errors of the runs of a cell are correlated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t

from search_spaces.errors import InvalidInputError, Problem
from surrogates.laws.fitting import LEVEL
from surrogates.laws.functional_forms import Array, Labels, Mask

_MEDIAN_SHARE = 0.25
_FAINTEST = 1e-4
"""Runs with a smaller weight are left out of the fit."""
_JACKKNIFE = 20
"""Maximum number of jackknife groups; with at most this many cells, each is a group."""
_HUBER = 0.003


@dataclass(frozen=True)
class Optimum:
    """The best value of one hyperparameter.

    Args:
        value: the best value.
        low: lower end of its interval.
        high: upper end of its interval.
        plateau: the range within the tolerance in relative loss, with the other hyperparameters at their conditional
            optimum.
    """

    value: float
    low: float
    high: float
    plateau: tuple[float, float]


@dataclass(frozen=True)
class BowlLaw:
    """The optimum of every hyperparameter over the scales; `fit_bowl` builds it.

    Args:
        hyperparameters: names of the hyperparameters.
        scales: names of the scales.
        depends: the scales on which each hyperparameter's optimum depends.
        weights: for each hyperparameter in turn, the log of its optimum at the center of the scales and its
            exponents, shape [W].
        covariance: covariance of the weights, shape [W, W].
        center: mean log scales, shape [s].
        curvature: the matrix H, shape [k, k].
        cells: number of cells.
        edge: for each hyperparameter, the number of cells whose best run is at an end of its range.
    """

    hyperparameters: tuple[str, ...]
    scales: tuple[str, ...]
    depends: tuple[tuple[str, ...], ...]
    weights: Array
    covariance: Array
    center: Array
    curvature: Array
    cells: int
    edge: tuple[int, ...]

    def table(self, level: float = LEVEL) -> dict[str, dict[str, tuple[float, float, float]]]:
        """Return the factor and the exponents of each optimum, factor · prod scale^exponent, as (value, low, high).

        The result has one mapping per hyperparameter, with the key "factor" and one key per scale.
        """
        found = {}
        for hyperparameter, slots in zip(self.hyperparameters, self._slots(), strict=True):
            names = self.depends[self.hyperparameters.index(hyperparameter)]
            lift = np.eye(len(slots))
            lift[0, 1:] = -self.center[[self.scales.index(name) for name in names]]
            values, spread = lift @ self.weights[slots], lift @ self.covariance[np.ix_(slots, slots)] @ lift.T
            half = self._quantile(level) * np.sqrt(np.maximum(np.diag(spread), 0.0))
            rows = {"factor": tuple(float(np.exp(values[0] + sign * half[0])) for sign in (0, -1, 1))}
            for i, name in enumerate(names, start=1):
                rows[name] = (float(values[i]), float(values[i] - half[i]), float(values[i] + half[i]))
            found[hyperparameter] = rows
        return found  # type: ignore[return-value]

    def optimum(
        self, scales: Mapping[str, float], within: float = 0.002, level: float = LEVEL
    ) -> dict[str, Optimum]:
        """Return the best value of every hyperparameter at the given scales.

        Args:
            scales: positive values of all of `self.scales`.
            within: tolerance of the plateau, as a share of the loss.
            level: probability of the interval.

        Raises:
            InvalidInputError: A scale is missing or not positive.
        """
        x = _logs(scales, self.scales) - self.center
        inverse = np.linalg.inv(self.curvature)
        found = {}
        for j, (hyperparameter, slots) in enumerate(zip(self.hyperparameters, self._slots(), strict=True)):
            gradient = self._gradient(j, x)
            log_value = float(gradient @ self.weights[slots])
            spread = float(gradient @ self.covariance[np.ix_(slots, slots)] @ gradient)
            half = self._quantile(level) * np.sqrt(max(spread, 0.0))
            room = np.sqrt(np.log1p(within) * inverse[j, j])
            ends = [float(np.exp(log_value + step)) for step in (0, -half, half, -room, room)]
            found[hyperparameter] = Optimum(ends[0], ends[1], ends[2], (ends[3], ends[4]))
        return found

    def excess(self, hyperparameters: Mapping[str, float], scales: Mapping[str, float]) -> float:
        """Return the relative increase of the loss over the best loss at the given scales."""
        x = _logs(scales, self.scales) - self.center
        best = [self._gradient(j, x) @ self.weights[s] for j, s in enumerate(self._slots())]
        away = _logs(hyperparameters, self.hyperparameters) - np.array(best)
        return float(np.expm1(away @ self.curvature @ away))

    def _gradient(self, j: int, x: Array) -> Array:
        return np.concatenate([[1.0], x[[self.scales.index(name) for name in self.depends[j]]]])

    def _slots(self) -> list[list[int]]:
        return _slots(self.depends)

    def _quantile(self, level: float) -> float:
        return float(t.ppf(0.5 + level / 2, max(min(self.cells, _JACKKNIFE) - 1, 1)))


def fit_bowl(
    hyperparameters: Mapping[str, Array],
    scales: Mapping[str, Array],
    loss: Array,
    depends: Mapping[str, Sequence[str]] | None = None,
    groups: Array | None = None,
    jackknife: bool = True,
) -> BowlLaw:
    """Fit the quadratic with a minimum that depends on the scales.

    Args:
        hyperparameters: positive values by name, such as learning_rate and batch, shape [n] each.
        scales: positive values by name, such as params and tokens, shape [n] each.
        loss: losses, positive, minimized, shape [n].
        depends: the scales on which each hyperparameter's optimum depends; by default all.
        groups: labels of runs with comparable losses in addition to equal scales, such as models, shape [n].
        jackknife: whether to compute the covariance; otherwise it is NaN, and so are all intervals.

    Raises:
        InvalidInputError: A hyperparameter or scale does not vary enough, or the losses have no minimum inside the
            grid; the message says what to measure.
    """
    names, sizes = tuple(hyperparameters), tuple(scales)
    follows = tuple(tuple((depends or {}).get(name, sizes)) for name in names)
    Z = np.log(np.column_stack([np.asarray(hyperparameters[name], dtype=float) for name in names]))
    S = np.log(np.column_stack([np.asarray(scales[name], dtype=float) for name in sizes]))
    y = np.log(np.asarray(loss, dtype=float))
    cell = _cells(S, groups)
    _require_grid(names, sizes, follows, Z, S, cell)
    center = S.mean(axis=0)
    problem = _Bowl(Z, S - center, y, cell, _columns(follows, sizes))
    weights = problem.minimize()
    curvature = problem.curvature(weights)
    outside = [
        name
        for name, z, X, slots in zip(names, Z.T, problem.designs(), _slots(follows), strict=True)
        if not _inside(z, X @ weights[slots], cell)
    ]
    if np.linalg.eigvalsh(curvature).min() <= 0 or outside:
        raise InvalidInputError(
            Problem(
                ", ".join(outside or names),
                "the losses have no minimum inside the grid: the best runs are at its edge",
                "Widen the grid of each hyperparameter by 4x on either side.",
            )
        )
    covariance = problem.jackknife(weights) if jackknife else np.full((len(weights),) * 2, np.nan)
    return BowlLaw(
        names, sizes, follows, weights, covariance, center, curvature, int(cell.max()) + 1, _edges(Z, y, cell)
    )


class _Bowl:
    """Least squares of the weighted excess with levels and curvature projected out."""

    def __init__(self, Z: Array, S: Array, y: Array, cell: Labels, columns: list[list[int]]) -> None:
        best = np.full(int(cell.max()) + 1, np.inf)
        np.minimum.at(best, cell, y)
        excess = y - best[cell]
        tau = max(_MEDIAN_SHARE * float(np.median(excess)), 1e-6)
        near = np.exp(-excess / tau) > _FAINTEST
        self._Z, self._y, self._cell = Z[near], excess[near], cell[near]
        self._root = np.exp(-0.5 * excess[near] / tau)
        self._best = best
        self._columns = columns
        self._designs = [np.column_stack([np.ones(len(S)), S[:, c]]) for c in columns]
        self._design = [X[near] for X in self._designs]
        self._start = self._first()

    def designs(self) -> list[Array]:
        """Return the design matrix of each hyperparameter's optimum, shape [n, 1 + number of its scales]."""
        return self._designs

    def minimize(self, rows: Mask | None = None, start: Array | None = None) -> Array:
        """Return w [W], fitted to the runs in the mask `rows`."""
        rows = np.ones(len(self._y), dtype=bool) if rows is None else rows
        found = least_squares(
            lambda w: self._residuals(w, rows), self._start if start is None else start, loss="huber",
            f_scale=_HUBER, x_scale=0.2, diff_step=1e-4, xtol=1e-5, ftol=1e-7, max_nfev=60,
        )  # fmt: skip
        return np.asarray(found.x)

    def curvature(self, w: Array) -> Array:
        """Return H [k, k] at w."""
        rows = np.ones(len(self._y), dtype=bool)
        A, b = self._projected(w, rows)
        h = np.linalg.lstsq(A, b, rcond=None)[0]
        k = self._Z.shape[1]
        H = np.zeros((k, k))
        for value, (i, j) in zip(h, _pairs(k), strict=True):
            H[i, j] += value / 2
            H[j, i] += value / 2
        return H

    def jackknife(self, w: Array) -> Array:
        """Return the covariance of w: (G - 1) / G times the scatter of the fits without one of G groups of cells."""
        labels = np.unique(self._cell)
        groups = np.array_split(labels, min(len(labels), _JACKKNIFE))
        left = np.array([self.minimize(~np.isin(self._cell, group), w) for group in groups])
        away = left - left.mean(axis=0)
        return np.asarray((len(groups) - 1) / len(groups) * away.T @ away)

    def _residuals(self, w: Array, rows: Mask) -> Array:
        A, b = self._projected(w, rows)
        # Columns of a cell with one run are zero, which lstsq accepts.
        return b - A @ np.linalg.lstsq(A, b, rcond=None)[0]

    def _projected(self, w: Array, rows: Mask) -> tuple[Array, Array]:
        """Return the weighted quadratic terms and excess, with the cell means subtracted."""
        slots = _slots_of([len(c) for c in self._columns])
        away = np.column_stack(
            [z - X @ w[s] for z, X, s in zip(self._Z.T, self._design, slots, strict=True)]
        )[rows]
        terms = [away[:, i] * away[:, j] for i, j in _pairs(away.shape[1])]
        both = np.column_stack([*terms, self._y[rows]])
        cell, root = self._cell[rows], self._root[rows]
        total = np.bincount(cell, root**2, minlength=len(self._best))
        total = np.where(total > 0, total, 1.0)
        for column in both.T:
            column -= (np.bincount(cell, root**2 * column, minlength=len(self._best)) / total)[cell]
        both *= root[:, None]
        return both[:, :-1], both[:, -1]

    def _first(self) -> Array:
        """Return the weighted regression of the hyperparameters on the scales, a starting point for w."""
        parts = []
        for z, X in zip(self._Z.T, self._design, strict=True):
            w = self._root[:, None] ** 2
            parts.append(np.linalg.lstsq(np.sqrt(w) * X, np.sqrt(w[:, 0]) * z, rcond=None)[0])
        return np.concatenate(parts)


def _pairs(k: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(k) for j in range(i, k)]


def _slots_of(lengths: Sequence[int]) -> list[list[int]]:
    found, start = [], 0
    for length in lengths:
        found.append(list(range(start, start + length + 1)))
        start += length + 1
    return found


def _slots(depends: Sequence[Sequence[str]]) -> list[list[int]]:
    return _slots_of([len(names) for names in depends])


def _columns(follows: Sequence[Sequence[str]], sizes: Sequence[str]) -> list[list[int]]:
    return [[sizes.index(name) for name in names] for names in follows]


def _cells(S: Array, groups: Array | None) -> Labels:
    """Return labels [n], from 0, of runs with equal scales and equal groups."""
    parts = [np.unique(np.round(s, 9), return_inverse=True)[1] for s in S.T]
    if groups is not None:
        parts.append(np.unique(np.asarray(groups), return_inverse=True)[1])
    return np.unique(np.column_stack(parts), axis=0, return_inverse=True)[1].ravel()


def _inside(z: Array, optimum: Array, cell: Labels) -> bool:
    """Return whether the optimum is within a factor of two of the measured values in at least half of the cells.

    Beyond them, the minimum of the quadratic is only an extrapolation of its slope.
    """
    room, held = np.log(2.0), 0
    for label in range(int(cell.max()) + 1):
        rows = cell == label
        held += bool(z[rows].min() - room <= optimum[rows][0] <= z[rows].max() + room)
    return 2 * held >= int(cell.max()) + 1


def _edges(Z: Array, y: Array, cell: Labels) -> tuple[int, ...]:
    """Return, by hyperparameter, the number of cells whose best run has the smallest or largest value of the cell."""
    counts = np.zeros(Z.shape[1], dtype=int)
    for label in range(int(cell.max()) + 1):
        rows = cell == label
        best = Z[rows][np.argmin(y[rows])]
        counts += (best <= Z[rows].min(axis=0) + 1e-9) | (best >= Z[rows].max(axis=0) - 1e-9)
    return tuple(int(count) for count in counts)


def _require_grid(
    names: Sequence[str],
    sizes: Sequence[str],
    follows: Sequence[Sequence[str]],
    Z: Array,
    S: Array,
    cell: Labels,
) -> None:
    problems = []
    for name, z in zip(names, Z.T, strict=True):
        widest = max(len(np.unique(np.round(z[cell == c], 9))) for c in range(int(cell.max()) + 1))
        if widest < 3:
            problems.append(
                Problem(name, f"at most {widest} values at equal scales, so no optimum can be identified",
                        f"Run three values of {name} or more, 2x apart, at each scale.")
            )  # fmt: skip
    for name, s in zip(sizes, S.T, strict=True):
        if np.ptp(s) < 1e-9 and any(name in each for each in follows):
            problems.append(
                Problem(name, f"only one value ({np.exp(s[0]):.3g}), so its exponent cannot be identified",
                        f"Repeat the grid at {name} = {4 * np.exp(s[0]):.3g}, or leave {name} out of the law.")
            )  # fmt: skip
    need = 1 + max(len(each) for each in follows)
    if not problems and cell.max() + 1 < need:
        problems.append(
            Problem("cells", f"{int(cell.max()) + 1} combinations of scales for {need} coefficients of an optimum",
                    f"Repeat the grid at {need - int(cell.max()) - 1} more.")
        )  # fmt: skip
    if problems:
        raise InvalidInputError(problems)


def _logs(values: Mapping[str, float], names: Sequence[str]) -> Array:
    problems = [
        Problem(name, "missing" if name not in values else f"{values[name]!r} is not a positive number",
                f"Give {name}, above 0.")
        for name in names
        if not (name in values and np.isfinite(values[name]) and values[name] > 0)
    ]  # fmt: skip
    if problems:
        raise InvalidInputError(problems)
    return np.log([float(values[name]) for name in names])
