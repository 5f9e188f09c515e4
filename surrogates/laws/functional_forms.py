"""Functional forms of the laws: L = sum over k of c_k · basis_k(x; theta), linear in c >= 0, nonlinear in theta.

Shapes: n points, d inputs, p linear coefficients, q nonlinear ones. Inputs are centered, u = log(x / x0) [n, d]
with x0 the geometric mean of the points, so that every exponent and coefficient is of the order of one. A linear
map of the logarithms converts the centered coefficients to the usual ones, and with them their covariance exactly.

Sources: Hoffmann et al. 2022 (arXiv 2203.15556), eq. 2; Zhang et al. 2024 (arXiv 2402.17193), eq. 1, the
multiplicative law of fine-tuning; Lin et al. 2024 (arXiv 2402.02314), eq. 6, the rectified law; Muennighoff
et al. 2023 (arXiv 2305.16264), eq. 5, data that are repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Form:
    """The functional form of a law.

    Args:
        name: name on the command line.
        formula: formula for display.
        inputs: roles of the input columns, such as "params" and "tokens".
        linear: names of the coefficients c, in the order of the basis.
        shape: names of the coefficients theta.
        bounds: bounds of theta, shape [q, 2].
        basis: function from u [n, d] and theta [q] to the basis [n, p] and its derivative by theta [n, p, q].
        moves: function from log x0 [d] to a matrix M [p + q, p + q]: M @ (log c, theta) are the coefficients for
            inputs that are not centered.
        logs: the names in `shape` for which theta has the logarithm.
    """

    name: str
    formula: str
    inputs: tuple[str, ...]
    linear: tuple[str, ...]
    shape: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    basis: Callable[[Array, Array], tuple[Array, Array]]
    moves: Callable[[Array], Array]
    logs: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All coefficients, the linear ones first."""
        return (*self.linear, *self.shape)

    @property
    def size(self) -> int:
        """Number of coefficients; a fit needs at least one more point."""
        return len(self.names)


_EXPONENT = (0.005, 2.5)


def _powers(u: Array, theta: Array) -> tuple[Array, Array]:
    """Return the basis 1, x_1^-a_1, x_2^-a_2, ... with one exponent per input, and its derivative."""
    n, d = u.shape
    basis = np.ones((n, d + 1))
    basis[:, 1:] = np.exp(-u * theta)
    slope = np.zeros((n, d + 1, d))
    for k in range(d):
        slope[:, k + 1, k] = -u[:, k] * basis[:, k + 1]
    return basis, slope


def _pure_power(u: Array, theta: Array) -> tuple[Array, Array]:
    basis, slope = _powers(u, theta)
    return basis[:, 1:], slope[:, 1:]


def _product(u: Array, theta: Array) -> tuple[Array, Array]:
    power = np.exp(-u @ theta)
    basis = np.column_stack([np.ones(len(u)), power])
    slope = np.zeros((len(u), 2, len(theta)))
    slope[:, 1] = -u * power[:, None]
    return basis, slope


def _rectified(u: Array, theta: Array) -> tuple[Array, Array]:
    """Return the basis 1, 1 / (delta + x^b) for theta = (b, log delta), and its derivative."""
    power, start = np.exp(u[:, 0] * theta[0]), np.exp(theta[1])
    fall = 1.0 / (start + power)
    slope = np.zeros((len(u), 2, 2))
    slope[:, 1, 0] = -(fall**2) * power * u[:, 0]
    slope[:, 1, 1] = -(fall**2) * start
    return np.column_stack([np.ones(len(u)), fall]), slope


def _repeated(u: Array, theta: Array) -> tuple[Array, Array]:
    """Return the basis 1, N^-a, D'^-b for theta = (a, b, log R), and its derivative.

    The inputs u are (N, D, U), and D' = U (1 + R (1 - exp(-(D / U - 1) / R))). U is centered by the D of the points,
    so that u_D - u_U is log(D / U).
    """
    a, b, worth = theta[0], theta[1], np.exp(theta[2])
    unique = np.minimum(u[:, 1], u[:, 2])
    repeats = np.expm1(u[:, 1] - unique)
    gone = np.exp(-repeats / worth)
    epochs = 1.0 + worth * (1.0 - gone)
    basis = np.column_stack([np.ones(len(u)), np.exp(-a * u[:, 0]), np.exp(-b * (unique + np.log(epochs)))])
    slope = np.zeros((len(u), 3, 3))
    slope[:, 1, 0] = -u[:, 0] * basis[:, 1]
    slope[:, 2, 1] = -(unique + np.log(epochs)) * basis[:, 2]
    slope[:, 2, 2] = -b * (worth * (1.0 - gone) - repeats * gone) / epochs * basis[:, 2]
    return basis, slope


def _shifts(linear: int, shape: int, *entries: tuple[int, int, int]) -> Callable[[Array], Array]:
    """Return a function to the identity plus log x0 of an input at each of the entries (row, column, input)."""

    def moves(log_center: Array) -> Array:
        matrix = np.eye(linear + shape)
        for row, column, which in entries:
            matrix[row, column] = log_center[which]
        return matrix

    return moves


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            "chinchilla", "E + A/N^a + B/D^b", ("params", "tokens"), ("E", "A", "B"), ("a", "b"),
            (_EXPONENT,) * 2, _powers, _shifts(3, 2, (1, 3, 0), (2, 4, 1)),
        ),
        Form(
            "power", "E + B/D^b", ("size",), ("E", "B"), ("b",),
            (_EXPONENT,), _powers, _shifts(2, 1, (1, 2, 0)),
        ),
        Form(
            "pure-power", "B/D^b", ("size",), ("B",), ("b",),
            (_EXPONENT,), _pure_power, _shifts(1, 1, (0, 1, 0)),
        ),
        Form(
            "rectified", "E + B/(D_l + D^b)", ("size",), ("E", "B"), ("b", "D_l"),
            (_EXPONENT, (-7.0, 7.0)), _rectified, _shifts(2, 2, (1, 2, 0), (3, 2, 0)), logs=("D_l",),
        ),
        Form(
            "joint", "E + A/(N^a·D^b)", ("params", "tokens"), ("E", "A"), ("a", "b"),
            (_EXPONENT,) * 2, _product, _shifts(2, 2, (1, 2, 0), (1, 3, 1)),
        ),
        Form(
            "repeated", "E + A/N^a + B/D'^b, D' = U(1 + R(1 - exp(-(D/U - 1)/R)))",
            ("params", "tokens", "unique_tokens"), ("E", "A", "B"), ("a", "b", "R"),
            (_EXPONENT, _EXPONENT, (-1.5, 6.0)), _repeated, _shifts(3, 3, (1, 3, 0), (2, 4, 1)), logs=("R",),
        ),
    )
}  # fmt: skip
"""All forms by name; "size" is the one scale that varies: data, tokens, steps or params."""


def log_center_of(form: Form, X: Array) -> Array:
    """Return log x0 [d] of the points X [n, d]; unique tokens have the center of the tokens."""
    center = np.log(X).mean(axis=0)
    if form.name == "repeated":
        center[2] = center[1]
    return np.asarray(center)


def log_budget(X: Array) -> Array:
    """Return the logarithm of the product of the first two scales, [n]; unique tokens do not count twice."""
    return np.asarray(np.log(np.asarray(X, dtype=float)[:, :2]).sum(axis=1))
