"""Measured points from a table: identification of the columns and validation of the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from surrogates.laws.functional_forms import Array

ROLES: dict[str, tuple[str, ...]] = {
    "loss": (
        "smooth_loss", "loss", "eval_loss", "test_loss", "val_loss", "valid_loss", "validation_loss",
        "final_loss", "test_nll", "nll", "l",
    ),
    "params": (
        "params", "parameters", "n_params", "num_params", "non_embedding_params", "trainable_params",
        "model_size", "n",
    ),
    "tokens": (
        "tokens", "train_tokens", "n_tokens", "num_tokens", "data", "examples", "train_examples", "samples",
        "train_samples", "data_size", "d",
    ),
    "unique_tokens": ("unique_tokens", "unique", "unique_data", "unique_examples"),
    "steps": ("steps", "step", "train_steps", "iterations"),
    "flops": ("flops", "train_flops", "compute", "cost"),
    "learning_rate": ("learning_rate", "lr", "peak_lr"),
    "batch": ("batch_tokens", "batch", "batch_size", "batch_size_sequences", "batch_size_tokens"),
}  # fmt: skip
"""Names of columns by role, the most likely first; case does not matter."""

SCALES = ("tokens", "steps", "params", "flops")
"""Roles that can be the input of a law with one scale, the most likely first."""


@dataclass(frozen=True)
class Points:
    """Validated points, in the order of the table.

    Args:
        X: scales, positive, one column per role, shape [n, d].
        loss: losses, positive, shape [n].
        roles: the role of each column of X.
        columns: the name of each column of X in the table.
        loss_column: the name of the loss in the table.
    """

    X: Array
    loss: Array
    roles: tuple[str, ...]
    columns: tuple[str, ...]
    loss_column: str

    @property
    def varied(self) -> tuple[str, ...]:
        """The roles with more than one value."""
        return tuple(r for r, x in zip(self.roles, self.X.T, strict=True) if np.ptp(x) > 1e-9 * np.max(x))

    def take(self, roles: Sequence[str]) -> Array:
        """Return the columns of X with the given roles, in this order."""
        return self.X[:, [self.roles.index(role) for role in roles]]


def guess_column(frame: pd.DataFrame, role: str, named: str | None = None) -> str | None:
    """Return the column of a role: the given name, else the most likely column, else None.

    Raises:
        InvalidInputError: The given column does not exist.
    """
    if named is not None:
        if named not in frame.columns:
            raise InvalidInputError(
                Problem(role, f"unknown column {named!r}", did_you_mean(named, map(str, frame.columns)))
            )
        return named
    lower = {str(column).strip().lower(): str(column) for column in frame.columns}
    return next((lower[name] for name in ROLES[role] if name in lower), None)


def read_points(
    frame: pd.DataFrame, roles: Sequence[str], named: Mapping[str, str | None] | None = None
) -> Points:
    """Read the points of a table.

    Args:
        frame: a table with one row per finished run.
        roles: roles to read in addition to the loss; each must have a column.
        named: columns by role, also of "loss", that are not guessed.

    Raises:
        InvalidInputError: A column is missing, the table is empty, or values are not positive numbers. The error has
            every problem with its row, where the header is row 1.
    """
    named = named or {}
    columns, problems = {}, []
    for role in ("loss", *roles):
        column = guess_column(frame, role, named.get(role))
        if column is None:
            known = ", ".join(map(str, frame.columns))
            problems.append(
                Problem(
                    role,
                    f"no column has a known name for it among {known}",
                    f"Name it: --{role.replace('_', '-')} COLUMN.",
                )
            )
        else:
            columns[role] = column
    if not problems and frame.empty:
        problems.append(Problem("points", "the table has no rows", "Give one row per finished run."))
    for role, column in columns.items():
        problems += _unusable(frame[column], role, column)
    if problems:
        raise InvalidInputError(problems)
    X = np.column_stack([frame[columns[role]].to_numpy(dtype=float) for role in roles]) if roles else None
    loss = frame[columns["loss"]].to_numpy(dtype=float)
    empty = np.empty((len(loss), 0))
    return Points(
        empty if X is None else X, loss, tuple(roles), tuple(columns[r] for r in roles), columns["loss"]
    )


def _cell_text(value: object) -> str:
    """Format a cell for a message; pandas reads an empty cell as NaN."""
    return "empty or nan" if value is None or value != value else str(value)


def _unusable(values: pd.Series, role: str, column: str) -> list[Problem]:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers > 0)))
    if not len(bad):
        return []
    shown = ", ".join(f"{_cell_text(values.iloc[i])} in row {i + 2}" for i in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    fix = "Leave out runs that diverged or did not finish, or repeat them."
    if role != "loss":
        fix = "Every scale must be a positive number: fill it in, or leave the row out."
    return [Problem(f"{role} ({column})", f"not a positive number: {shown}{more}", fix)]
