"""Where the best learning rate and batch size lie as scales change, and how flat the valley around them is.

Shapes: n runs, k knobs (log learning rate, log batch size), s scales (params, tokens, rank), C cells: the runs that
share their scales and differ in their knobs alone. The model of the log loss is one bowl that moves:

    log L = m_cell + (z - z*)' H (z - z*),    z*_j = w_j0 + sum over the scales of knob j of w_ji log(x_i),

so each optimum is a power law of its scales (Step Law, Li et al. 2025, arXiv 2503.04715, eq. 1: lr* of N and D,
batch* of D), H is shared, and every cell has a level of its own. Given w, levels and H are linear: projected out.
A parabola holds near its bottom only: runs weigh exp(-excess / tau), excess being the log loss above the cell's best
and tau a quarter of its median, so the units and the range of the grid do not matter.

The valley is flat: what to take from here is the plateau, the region within a tolerance of the best, more than a
point of it. Uncertainty is a jackknife over cells, since runs of one cell share whatever is peculiar to it.
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
"""Runs that weigh less are left out of the fit."""
_JACKKNIFE = 20
"""Cells are left out one at a time, or in so many groups where there are more."""
_HUBER = 0.003


@dataclass(frozen=True)
class Optimum:
    """The best value of one knob: with its interval, and the plateau around it."""

    value: float
    low: float
    high: float
    plateau: tuple[float, float]
    """Values that cost at most the tolerance in relative loss, the other knobs following along the valley."""


@dataclass(frozen=True)
class BowlLaw:
    """The optimum of every knob over the scales; build it with `fit_bowl`."""

    knobs: tuple[str, ...]
    scales: tuple[str, ...]
    depends: tuple[tuple[str, ...], ...]
    """The scales of each knob's optimum."""
    weights: Array
    """[W], for each knob in turn: log of its optimum at the center of the scales, and its exponents."""
    covariance: Array
    center: Array
    """[s], the mean log scales."""
    curvature: Array
    """[k, k], H."""
    cells: int
    edge: tuple[int, ...]
    """How many cells have their best run at an end of the knob's range, a knob."""

    def table(self, level: float = LEVEL) -> dict[str, dict[str, tuple[float, float, float]]]:
        """By knob: "factor" and an exponent a scale, (value, low, high); knob* = factor · prod scale^exponent."""
        found = {}
        for knob, slots in zip(self.knobs, self._slots(), strict=True):
            names = self.depends[self.knobs.index(knob)]
            lift = np.eye(len(slots))
            lift[0, 1:] = -self.center[[self.scales.index(name) for name in names]]
            values, spread = lift @ self.weights[slots], lift @ self.covariance[np.ix_(slots, slots)] @ lift.T
            half = self._quantile(level) * np.sqrt(np.maximum(np.diag(spread), 0.0))
            rows = {"factor": tuple(float(np.exp(values[0] + sign * half[0])) for sign in (0, -1, 1))}
            for i, name in enumerate(names, start=1):
                rows[name] = (float(values[i]), float(values[i] - half[i]), float(values[i] + half[i]))
            found[knob] = rows
        return found  # type: ignore[return-value]

    def optimum(
        self, scales: Mapping[str, float], within: float = 0.002, level: float = LEVEL
    ) -> dict[str, Optimum]:
        """Every knob's best value at these scales.

        Args:
            scales: all of `self.scales`, positive.
            within: the plateau's tolerance, as a share of the loss.

        Raises:
            InvalidInputError: a scale is missing or not positive.
        """
        x = _logs(scales, self.scales) - self.center
        inverse = np.linalg.inv(self.curvature)
        found = {}
        for j, (knob, slots) in enumerate(zip(self.knobs, self._slots(), strict=True)):
            gradient = self._gradient(j, x)
            log_value = float(gradient @ self.weights[slots])
            spread = float(gradient @ self.covariance[np.ix_(slots, slots)] @ gradient)
            half = self._quantile(level) * np.sqrt(max(spread, 0.0))
            room = np.sqrt(np.log1p(within) * inverse[j, j])
            ends = [float(np.exp(log_value + step)) for step in (0, -half, half, -room, room)]
            found[knob] = Optimum(ends[0], ends[1], ends[2], (ends[3], ends[4]))
        return found

    def excess(self, knobs: Mapping[str, float], scales: Mapping[str, float]) -> float:
        """What these knobs cost at these scales, as a share of the best loss."""
        x = _logs(scales, self.scales) - self.center
        best = [self._gradient(j, x) @ self.weights[s] for j, s in enumerate(self._slots())]
        away = _logs(knobs, self.knobs) - np.array(best)
        return float(np.expm1(away @ self.curvature @ away))

    def _gradient(self, j: int, x: Array) -> Array:
        return np.concatenate([[1.0], x[[self.scales.index(name) for name in self.depends[j]]]])

    def _slots(self) -> list[list[int]]:
        return _slots(self.depends)

    def _quantile(self, level: float) -> float:
        return float(t.ppf(0.5 + level / 2, max(min(self.cells, _JACKKNIFE) - 1, 1)))


def fit_bowl(
    knobs: Mapping[str, Array],
    scales: Mapping[str, Array],
    loss: Array,
    depends: Mapping[str, Sequence[str]] | None = None,
    groups: Array | None = None,
    jackknife: bool = True,
) -> BowlLaw:
    """Fit the moving bowl.

    Args:
        knobs: [n] each, positive: what is chosen, such as learning_rate and batch.
        scales: [n] each, positive: what it is chosen for, such as params and tokens.
        loss: [n], positive, lower is better.
        depends: the scales that each knob's optimum follows; all of them by default.
        groups: [n], labels of runs whose losses can be compared, beyond equal scales; models, for instance.
        jackknife: whether to compute the covariance; without, it is NaN, and so are all intervals.

    Raises:
        InvalidInputError: a knob or scale that does not vary enough, or no valley; says what to measure.
    """
    names, sizes = tuple(knobs), tuple(scales)
    follows = tuple(tuple((depends or {}).get(name, sizes)) for name in names)
    Z = np.log(np.column_stack([np.asarray(knobs[name], dtype=float) for name in names]))
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
                "the losses show no valley: the best runs lie at the edge of the grid",
                "Widen the grid of each knob by 4x on either side.",
            )
        )
    covariance = problem.jackknife(weights) if jackknife else np.full((len(weights),) * 2, np.nan)
    return BowlLaw(
        names, sizes, follows, weights, covariance, center, curvature, int(cell.max()) + 1, _edges(Z, y, cell)
    )


class _Bowl:
    """Least squares of the weighted excess, levels and curvature projected out."""

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
        """By knob, [n, 1 + its scales]: times its weights, the optimum of every run's cell."""
        return self._designs

    def minimize(self, rows: Mask | None = None, start: Array | None = None) -> Array:
        """w [W], from the runs `rows` (a mask)."""
        rows = np.ones(len(self._y), dtype=bool) if rows is None else rows
        found = least_squares(
            lambda w: self._residuals(w, rows), self._start if start is None else start, loss="huber",
            f_scale=_HUBER, x_scale=0.2, diff_step=1e-4, xtol=1e-5, ftol=1e-7, max_nfev=60,
        )  # fmt: skip
        return np.asarray(found.x)

    def curvature(self, w: Array) -> Array:
        """H [k, k] at w."""
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
        """The covariance of w: (G - 1) / G times the scatter of the fits without one of G groups of cells."""
        labels = np.unique(self._cell)
        groups = np.array_split(labels, min(len(labels), _JACKKNIFE))
        left = np.array([self.minimize(~np.isin(self._cell, group), w) for group in groups])
        away = left - left.mean(axis=0)
        return np.asarray((len(groups) - 1) / len(groups) * away.T @ away)

    def _residuals(self, w: Array, rows: Mask) -> Array:
        A, b = self._projected(w, rows)
        # Columns of a cell with one run are zero; lstsq takes them as they are.
        return b - A @ np.linalg.lstsq(A, b, rcond=None)[0]

    def _projected(self, w: Array, rows: Mask) -> tuple[Array, Array]:
        """The quadratic terms and the excess, cell means taken out, weighted."""
        slots = _slots_of([len(c) for c in self._columns])
        away = np.column_stack(
            [z - X @ w[s] for z, X, s in zip(self._Z.T, self._design, slots, strict=True)]
        )[rows]
        terms = [away[:, i] * away[:, j] for i, j in _pairs(away.shape[1])]
        both = np.column_stack([*terms, self._y[rows]])
        cell, root = self._cell[rows], self._root[rows]
        heft = np.bincount(cell, root**2, minlength=len(self._best))
        heft = np.where(heft > 0, heft, 1.0)
        for column in both.T:
            column -= (np.bincount(cell, root**2 * column, minlength=len(self._best)) / heft)[cell]
        both *= root[:, None]
        return both[:, :-1], both[:, -1]

    def _first(self) -> Array:
        """A regression of each cell's weighted mean of the knobs on the scales."""
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
    """Labels [n] from 0: equal scales, and equal groups."""
    parts = [np.unique(np.round(s, 9), return_inverse=True)[1] for s in S.T]
    if groups is not None:
        parts.append(np.unique(np.asarray(groups), return_inverse=True)[1])
    return np.unique(np.column_stack(parts), axis=0, return_inverse=True)[1].ravel()


def _inside(z: Array, optimum: Array, cell: Labels) -> bool:
    """Whether a knob's optimum lies among the values tried, a factor of two to spare, in half of the cells.

    Beyond them a bowl is a slope that was continued, and its bottom is wherever the slope's bend puts it.
    """
    room, held = np.log(2.0), 0
    for label in range(int(cell.max()) + 1):
        rows = cell == label
        held += bool(z[rows].min() - room <= optimum[rows][0] <= z[rows].max() + room)
    return 2 * held >= int(cell.max()) + 1


def _edges(Z: Array, y: Array, cell: Labels) -> tuple[int, ...]:
    """By knob, the cells whose best run has the cell's smallest or largest value of it."""
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
                Problem(name, f"at most {widest} values at equal scales, so that no optimum can be seen between them",
                        f"Run three values of {name} or more, 2x apart, at each scale.")
            )  # fmt: skip
    for name, s in zip(sizes, S.T, strict=True):
        if np.ptp(s) < 1e-9 and any(name in each for each in follows):
            problems.append(
                Problem(name, f"only one value ({np.exp(s[0]):.3g}), so that no exponent of it can be identified",
                        f"Repeat the grid at {name} = {4 * np.exp(s[0]):.3g}, or leave {name} out of the law.")
            )  # fmt: skip
    need = 1 + max(len(each) for each in follows)
    if not problems and cell.max() + 1 < need:
        problems.append(
            Problem("cells", f"{int(cell.max()) + 1} combinations of scales for {need} unknowns of an optimum",
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
