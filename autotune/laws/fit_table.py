"""Scaling laws from tables of finished runs: the logic of `autotune law`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from autotune.laws.fits import LossFit, StepFit
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.percentages import parse_number
from surrogates.laws import FORMS, Points, choose, fit_bowl, guess_column, read_points
from surrogates.laws.observations import SCALES

LAWS = ("auto", "chinchilla", "joint", "repeated", "power", "rectified", "step")
ROLES = ("loss", "params", "tokens", "unique_tokens", "steps", "flops", "learning_rate", "batch")
"""What a column of a table can hold."""
_ONE_SCALE = {"power": ("power", "pure-power"), "rectified": ("rectified",)}
_TWO_SCALES = ("params", "tokens")
_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


def read_table(path: Path) -> pd.DataFrame:
    """Read a table of finished runs by the ending of its file: csv, tsv, json, jsonl or parquet.

    Raises:
        InvalidInputError: the file does not exist, its ending is unknown, or its content does not match the ending.
    """
    if not path.is_file():
        fix = "Give a table with one row per finished run."
        raise InvalidInputError(Problem(str(path), "there is no such file", fix))
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".json": pd.read_json,
        ".jsonl": lambda file: pd.read_json(file, lines=True),
        ".parquet": pd.read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        what = f"{path.suffix or 'no ending'!r} is not a known ending"
        raise InvalidInputError(Problem(str(path), what, f"Use {', '.join(readers)}."))
    try:
        return reader(path)
    except (ValueError, OSError) as error:
        fix = f"Check that the content of the file is {path.suffix.lower().removeprefix('.')}."
        raise InvalidInputError(Problem(str(path), f"cannot be read: {error}", fix)) from error


def read_columns(given: Sequence[str]) -> dict[str, str]:
    """Read `role=column` pairs, such as `loss=test_nll`.

    Returns:
        The column of each role that was given.

    Raises:
        InvalidInputError: a pair is malformed, or its role is unknown.
    """
    columns: dict[str, str] = {}
    problems = []
    for pair in given:
        role, _, column = (part.strip() for part in pair.partition("="))
        role = role.replace("-", "_")
        if role not in ROLES:
            problems.append(Problem("--column", f"{role!r} is not a role", did_you_mean(role, ROLES)))
        elif not column:
            fix = f"Write {role}=COLUMN with a column of the table."
            problems.append(Problem("--column", f"{pair!r} names no column", fix))
        columns[role] = column
    if problems:
        raise InvalidInputError(problems)
    return columns


def fit_law(
    frame: pd.DataFrame, law: str, columns: Mapping[str, str] | None = None, force_law: bool = False
) -> LossFit | StepFit:
    """Fit a law to a table of finished runs.

    Args:
        frame: one row per finished run.
        law: one of `LAWS`; `auto` picks the one that fits the columns and predicts held-out budgets best.
        columns: the column of each role of `ROLES`; those left out are recognized by their usual names.
        force_law: use the law even if a baseline predicts held-out budgets better.

    Raises:
        InvalidInputError: the law is unknown, columns are unusable, or the points do not determine the law.

    Example:
        >>> fit = fit_law(pd.read_csv("points.csv"), "chinchilla")
        >>> fit.predict({"params": 7e9, "tokens": 1.4e11}).loss.value
    """
    named = dict(columns or {})
    if law not in LAWS:
        raise InvalidInputError(Problem("law", f"{law!r} is not a law", did_you_mean(law, LAWS)))
    if law == "step" or (law == "auto" and _is_grid(frame, named)):
        return _fit_step(frame, named)
    names, roles = _candidates(frame, law, named)
    points = read_points(frame, roles, named)
    try:
        choice = choose(points.X, points.loss, names, force_law=force_law)
    except InvalidInputError as error:
        raise InvalidInputError([_renamed(problem, roles, points) for problem in error.problems]) from None
    return LossFit(choice, points)


def target_of(text: str, roles: Sequence[str]) -> dict[str, float]:
    """Read the scales of a prediction, such as `params=7B,tokens=1.4e11`.

    Args:
        text: `role=number` pairs, separated by commas.
        roles: the roles that must be given, and no others.

    Raises:
        InvalidInputError: a pair is malformed, or a role is unknown or missing.
    """
    found: dict[str, float] = {}
    problems = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        role, _, written = (each.strip() for each in part.partition("="))
        value = parse_magnitude(written)
        if role not in roles:
            problems.append(
                Problem("--at", f"{role!r} is not a scale of this law", did_you_mean(role, roles))
            )
        elif value is None:
            what = f"{part!r} is not a positive number"
            problems.append(Problem("--at", what, f"Write {role}=7e9 or {role}=7B."))
            found[role] = np.nan
        else:
            found[role] = value
    problems += [
        Problem("--at", f"{role} is missing", f"Add {role}=NUMBER.") for role in roles if role not in found
    ]
    if problems:
        raise InvalidInputError(problems)
    return found


def parse_magnitude(text: str) -> float | None:
    """Return the positive number that `1.4e11` or `140B` stands for, or None. Suffixes: k, M, B or G, T."""
    factor = _SUFFIX.get(text[-1:].lower(), 1.0)
    value = parse_number(text[:-1] if factor != 1.0 else text)
    return value * factor if value is not None and value > 0 else None


def _is_grid(frame: pd.DataFrame, named: Mapping[str, str]) -> bool:
    """Return whether at least three learning rates were tried at one scale."""
    rate = guess_column(frame, "learning_rate", named.get("learning_rate"))
    if rate is None:
        return False
    scales = [c for role in _TWO_SCALES if (c := guess_column(frame, role, named.get(role)))]
    return bool(scales) and bool((frame.groupby(scales)[rate].nunique() >= 3).any())


def _fit_step(frame: pd.DataFrame, named: Mapping[str, str]) -> StepFit:
    has_batch = guess_column(frame, "batch", named.get("batch")) is not None
    settings = ("learning_rate", "batch") if has_batch else ("learning_rate",)
    points = read_points(frame, (*settings, *_TWO_SCALES), named)
    columns = dict(zip(points.roles, points.X.T, strict=True))
    # A scale that never varies has no exponent; the exponents of the others are still determined.
    scales = [role for role in _TWO_SCALES if role in points.varied] or list(_TWO_SCALES)
    follows = {"learning_rate": scales, "batch": [role for role in scales if role == "tokens"] or scales}
    law = fit_bowl(
        {name: columns[name] for name in settings},
        {role: columns[role] for role in scales},
        points.loss,
        follows,
    )
    return StepFit(law, points)


def _candidates(
    frame: pd.DataFrame, law: str, named: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the forms to fit, and the roles of their columns."""
    if law in FORMS and law not in _ONE_SCALE:
        return (law,), FORMS[law].inputs
    varied = [role for role in SCALES if _varies(frame, role, named)]
    both = all(role in varied for role in _TWO_SCALES)
    if law == "auto" and both:
        return ("chinchilla", "joint"), _TWO_SCALES
    asked = [role for role in SCALES if named.get(role)]
    if len(asked) != 1 and both:
        raise InvalidInputError(
            Problem(
                "params, tokens",
                "both vary, and a law of one scale would mix their effects",
                "Use --law chinchilla, or keep only the rows of one model or of one data size.",
            )
        )
    role = next(iter(asked or varied or [r for r in SCALES if guess_column(frame, r)]), None)
    if role is None:
        raise InvalidInputError(
            Problem(
                "points",
                f"no column of scales among {', '.join(map(str, frame.columns))}",
                "Name one, such as --column tokens=COLUMN (or params, steps, flops).",
            )
        )
    names = _ONE_SCALE.get(law, ("power", "pure-power", "rectified"))
    return names, (role,)


def _varies(frame: pd.DataFrame, role: str, named: Mapping[str, str]) -> bool:
    column = guess_column(frame, role, named.get(role))
    return column is not None and frame[column].nunique() > 1


def _renamed(problem: Problem, roles: Sequence[str], points: Points) -> Problem:
    """Return the problem in the column names of the table."""
    if len(roles) > 1:
        return problem
    name = points.columns[0]
    fix = problem.fix.replace("size =", f"{name} =")
    return Problem(problem.where.replace("size", name), problem.what, fix)
