"""Identifiability of a law from points, outliers, and the most informative next run.

A run at x informs the coefficients by j = d log f(x) / d (log c, theta): with covariance S of the coefficients and
noise s, it reduces the variance g' S g of the prediction at a target with derivative g by
(g' S j)^2 / (s^2 + j' S j) (Sherman and Morrison; c-optimal design, Chaloner and Verdinelli 1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.errors import InvalidInputError, Problem
from surrogates.laws.fitting import FittedLaw
from surrogates.laws.functional_forms import Array, Form

_OUTLIER = 6.0
_VISIBLE = 0.005


@dataclass(frozen=True)
class NextRun:
    """A candidate for the next run.

    Args:
        scales: scales of the run by role.
        before: standard deviation of the target's log loss without the run.
        after: standard deviation of the target's log loss with the run.
    """

    scales: dict[str, float]
    before: float
    after: float


def require_identifiable(form: Form, X: Array, loss: Array, columns: Sequence[str] | None = None) -> None:
    """Raise an error if the points do not identify the coefficients of a form.

    Args:
        form: the functional form.
        X: scales, shape [n, d].
        loss: losses, shape [n].
        columns: names of the columns of X for messages; by default the roles.

    Raises:
        InvalidInputError: There are too few points, too few values of a scale, or collinear scales; each with the
            runs that help.
    """
    names = tuple(columns or form.inputs)
    problems = []
    need = form.size + 1
    if len(loss) < need:
        problems.append(
            Problem(
                "points",
                f"{len(loss)} for the {form.size} coefficients of {form.formula}",
                f"Measure {need - len(loss)} more, at scales that differ by 4x or more.",
            )
        )
    exponents = {"params": "a", "tokens": "b", "size": "b", "unique_tokens": "R"}
    for name, role, x in zip(names, form.inputs, X.T, strict=True):
        levels = np.unique(np.round(np.log(x), 6))
        wanted = 2 if len(form.inputs) > 1 else min(form.size, 3)
        if len(levels) < wanted and role != "unique_tokens":
            problems.append(_few_values(form, name, exponents[role], x, len(levels), wanted))
    if form.name in ("chinchilla", "joint", "repeated") and not problems:
        logs = np.log(X[:, :2]) - np.log(X[:, :2]).mean(axis=0)
        spread = np.linalg.svd(logs / np.linalg.norm(logs, axis=0), compute_uv=False)
        if spread[-1] < 1e-3:
            problems.append(
                Problem(
                    f"{names[0]}, {names[1]}",
                    "they are collinear in log-log over all runs, so their exponents cannot be identified",
                    f"Repeat one size at 4x its {names[1]}.",
                )
            )
    if form.name == "repeated" and not (X[:, 1] > 1.5 * X[:, 2]).any():
        problems.append(
            Problem(
                names[2],
                "no run repeats its data, so R, the value of an epoch, cannot be identified",
                "Run one of them for four epochs, or use the law chinchilla.",
            )
        )
    if problems:
        raise InvalidInputError(problems)


def _few_values(form: Form, name: str, exponent: str, x: Array, have: int, wanted: int) -> Problem:
    values = ", ".join(f"{value:.3g}" for value in np.unique(x)[:3])
    many = "only one value" if have == 1 else f"only {have} values"
    where = " and ".join(f"{factor * x.max():.3g}" for factor in (4, 16)[: wanted - have])
    return Problem(
        name, f"{many} ({values}), so the exponent {exponent} of {form.formula} cannot be identified",
        f"Measure at {name} = {where} next, with the other scales unchanged.",
    )  # fmt: skip


def outliers(law: FittedLaw) -> list[tuple[int, float]]:
    """Return the outliers as (row, relative residual): beyond 6 standard deviations and half a percent.

    With fewer than four points more than coefficients there are none, because the law can pass through as many points
    as it has coefficients.
    """
    residuals = law.residuals()
    if len(residuals) < law.form.size + 4:
        return []
    # An outlier inflates the scale of the fit; the median residual is robust.
    scale = max(1.4826 * float(np.median(np.abs(residuals))), _VISIBLE / _OUTLIER)
    found = np.flatnonzero(np.abs(residuals) > _OUTLIER * scale)
    order = np.argsort(-np.abs(residuals[found]))
    return [(int(i), float(np.expm1(residuals[i]))) for i in found[order]]


def next_run(
    law: FittedLaw, target: Array, candidates: Array | None = None, top: int = 3, budget: float | None = None
) -> list[NextRun]:
    """Return the runs that reduce the uncertainty at a target most, best first.

    Args:
        law: the fitted law.
        target: scales of the prediction, shape [d].
        candidates: scales of possible runs, shape [m, d]; by default a grid of each scale from the smallest to twice
            the largest measured value.
        top: number of runs to return.
        budget: maximum product of a candidate's first two scales (N·D); by default the largest measured one.
    """
    target = np.asarray(target, dtype=float).reshape(1, -1)
    if candidates is None:
        candidates = _grid(law, budget)
    gradient, directions = law.slopes(target)[0], law.slopes(candidates)
    before = float(gradient @ law.covariance @ gradient)
    shared = directions @ law.covariance @ gradient
    own = np.einsum("ij,jk,ik->i", directions, law.covariance, directions)
    after = np.maximum(before - shared**2 / (law.scale**2 + own), 0.0)
    order = np.argsort(after, kind="stable")[:top]
    return [
        NextRun(
            dict(zip(law.form.inputs, map(float, candidates[i]), strict=True)),
            float(np.sqrt(before)),
            float(np.sqrt(after[i])),
        )
        for i in order
    ]


def _grid(law: FittedLaw, budget: float | None) -> Array:
    """Return a logarithmic grid of nine values per scale, without runs above the budget."""
    axes = [np.geomspace(x.min(), 2.0 * x.max(), 9) for x in law.X.T]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, law.X.shape[1])
    limit = law.X[:, :2].prod(axis=1).max() if budget is None else budget
    if law.X.shape[1] == 1 and budget is None:
        limit = 2.0 * limit
    kept = grid[grid[:, :2].prod(axis=1) <= limit * (1 + 1e-9)]
    if law.form.name == "repeated":
        kept = kept[kept[:, 2] <= kept[:, 1]]
    return kept if len(kept) else grid[:1]
