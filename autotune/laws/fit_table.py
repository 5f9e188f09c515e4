"""What `autotune law` answers, as values: a table in, a law with its evidence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from surrogates.laws import FORMS, BowlLaw, Choice, Points, choose, fit_bowl, guess_column, read_points
from surrogates.laws.experimental_design import next_run, outliers
from surrogates.laws.fitting import LEVEL, FittedLaw
from surrogates.laws.functional_forms import Array
from surrogates.laws.observations import SCALES

LAWS = ("auto", "chinchilla", "joint", "repeated", "power", "rectified", "step")
_ONE_SCALE = {"power": ("power", "pure-power"), "rectified": ("rectified",)}
_TWO_SCALES = ("params", "tokens")
_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_AHEAD = 4.0
"""The budget, in multiples of the largest measured, that the next run is chosen for unless a target is given."""


@dataclass(frozen=True)
class LossAnswer:
    """A law of the loss, chosen and tested."""

    choice: Choice
    points: Points

    @property
    def roles(self) -> tuple[str, ...]:
        """What a prediction must be told, in order."""
        return self.points.roles

    @property
    def best(self) -> FittedLaw:
        """The law that foretells hidden budgets best, whether or not a baseline is better."""
        return self.choice.law or next(iter(self.choice.laws.values()))

    def as_json(self) -> dict[str, Any]:
        law = self.choice.law
        return {
            "law": self.choice.chosen,
            "formula": None if law is None else f"L = {law.form.formula}",
            "verdict": self.choice.verdict,
            "columns": _columns(self.points),
            "points": len(self.points.loss),
            "level": LEVEL,
            "coefficients": {}
            if law is None
            else {k: dict(zip(("value", "low", "high"), v, strict=True)) for k, v in law.table().items()},
            "huber_sum": None if law is None else law.objective,
            "residual": None if law is None else law.scale,
            "not_identified": [] if law is None else law.unidentified(),
            "held_out": [
                {"name": one.name, "error": one.error if np.isfinite(one.error) else None, "why": one.why}
                for one in self.choice.held_out
            ],
            "outliers": [{"row": row + 2, "off": off} for row, off in outliers(self.best)],
            "measure_next": self.advice(),
        }

    def advice(self, target: Array | None = None) -> list[dict[str, Any]]:
        """The runs that would shrink the uncertainty at the target most; four times the budget by default."""
        if target is None:
            step = _AHEAD ** (1.0 / min(len(self.roles), 2))
            target = self.points.X.max(axis=0) * step
        return [
            {
                "scales": dict(zip(self.roles, run.scales.values(), strict=True)),
                "before": run.before,
                "after": run.after,
            }
            for run in next_run(self.best, target)
        ]


@dataclass(frozen=True)
class StepAnswer:
    """A law of the best learning rate and batch size."""

    law: BowlLaw
    points: Points

    def as_json(self) -> dict[str, Any]:
        return {
            "law": "step",
            "points": len(self.points.loss),
            "cells": self.law.cells,
            "level": LEVEL,
            "columns": _columns(self.points),
            "optima": {
                knob: {
                    name: dict(zip(("value", "low", "high"), row, strict=True)) for name, row in rows.items()
                }
                for knob, rows in self.law.table().items()
            },
            "best_at_the_edge": dict(zip(self.law.knobs, self.law.edge, strict=True)),
        }


def _columns(points: Points) -> dict[str, str]:
    """The table's column of each role."""
    return {"loss": points.loss_column, **dict(zip(points.roles, points.columns, strict=True))}


def read_table(path: Path) -> pd.DataFrame:
    """A table of finished runs, by its ending: csv, tsv, json, jsonl or parquet.

    Raises:
        InvalidInputError: no such file, an unknown ending, or a file that is not what it ends in.
    """
    if not path.is_file():
        raise InvalidInputError(Problem(str(path), "there is no such file", "Give a table of finished runs."))
    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda p: pd.read_csv(p, sep="\t"),
        ".json": pd.read_json,
        ".jsonl": lambda p: pd.read_json(p, lines=True),
        ".parquet": pd.read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInputError(
            Problem(
                str(path),
                f"{path.suffix or 'no ending'!r} is not a known ending",
                f"Use {', '.join(readers)}.",
            )
        )
    try:
        return reader(path)  # type: ignore[operator]
    except (ValueError, OSError) as error:
        raise InvalidInputError(Problem(str(path), f"cannot be read: {error}", "Check the file.")) from error


def answer(
    frame: pd.DataFrame, law: str, named: Mapping[str, str | None], insist: bool = False
) -> LossAnswer | StepAnswer:
    """Fit the law asked for, or whichever suits the columns and extrapolates best.

    Args:
        frame: one row a finished run.
        law: one of `LAWS`.
        named: columns by role, where they should not be guessed.
        insist: use the law even where a baseline foretells hidden budgets better.

    Raises:
        InvalidInputError: an unknown law, unusable columns, or points that identify no law.
    """
    if law not in LAWS:
        raise InvalidInputError(Problem("law", f"{law!r} is not a law", did_you_mean(law, LAWS)))
    if law == "step" or (law == "auto" and _is_grid(frame, named)):
        return _step(frame, named)
    names, roles = _candidates(frame, law, named)
    points = read_points(frame, roles, named)
    try:
        choice = choose(points.X, points.loss, names, insist=insist)
    except InvalidInputError as error:
        raise InvalidInputError([_renamed(problem, roles, points) for problem in error.problems]) from None
    return LossAnswer(choice, points)


def target_of(text: str, roles: Sequence[str]) -> dict[str, float]:
    """`params=7B,tokens=1.4e11` as numbers, every role present and nothing else.

    Raises:
        InvalidInputError: parts that are not role=number, roles that are unknown or missing.
    """
    found, problems = {}, []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        role, _, value = part.partition("=")
        role = role.strip()
        if role not in roles:
            problems.append(Problem("at", f"{role!r} is not a scale of this law", did_you_mean(role, roles)))
            continue
        read = number(value.strip())
        if read is None:
            problems.append(
                Problem("at", f"{part!r} is not a positive number", f"Write {role}=7e9 or {role}=7B.")
            )
        else:
            found[role] = read
    asked = {problem.what.split("'")[1].partition("=")[0] for problem in problems}
    for role in roles:
        if role not in found and role not in asked:
            problems.append(Problem("at", f"{role} is missing", f"Add {role}=NUMBER."))
    if problems:
        raise InvalidInputError(problems)
    return found


def number(text: str) -> float | None:
    """`1.4e11` or `140B` as a number; None where it is no positive one."""
    factor = _SUFFIX.get(text[-1:].lower(), 1.0)
    try:
        value = float(text[:-1] if factor != 1.0 else text) * factor
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


def _is_grid(frame: pd.DataFrame, named: Mapping[str, str | None]) -> bool:
    """Whether learning rates were tried side by side."""
    rate = guess_column(frame, "learning_rate", named.get("learning_rate"))
    if rate is None:
        return False
    scales = [c for role in _TWO_SCALES if (c := guess_column(frame, role, named.get(role)))]
    return bool(scales) and bool((frame.groupby(scales)[rate].nunique() >= 3).any())


def _step(frame: pd.DataFrame, named: Mapping[str, str | None]) -> StepAnswer:
    has_batch = guess_column(frame, "batch", named.get("batch")) is not None
    knobs = ("learning_rate", "batch") if has_batch else ("learning_rate",)
    points = read_points(frame, (*knobs, *_TWO_SCALES), named)
    columns = dict(zip(points.roles, points.X.T, strict=True))
    # A scale that never varies has no exponent; the others can still be told.
    scales = [role for role in _TWO_SCALES if role in points.varied] or list(_TWO_SCALES)
    follows = {"learning_rate": scales, "batch": [role for role in scales if role == "tokens"] or scales}
    law = fit_bowl(
        {knob: columns[knob] for knob in knobs},
        {role: columns[role] for role in scales},
        points.loss,
        follows,
    )
    return StepAnswer(law, points)


def _candidates(
    frame: pd.DataFrame, law: str, named: Mapping[str, str | None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the forms to try, and the roles of their columns."""
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
                "both vary, and a law of one scale would mix what they do",
                "Use --law chinchilla, or keep the rows of one model or of one data size.",
            )
        )
    role = next(iter(asked or varied or [r for r in SCALES if guess_column(frame, r)]), None)
    if role is None:
        raise InvalidInputError(
            Problem("points", f"no column of scales among {', '.join(map(str, frame.columns))}",
                    "Name one: --tokens, --params, --steps or --flops COLUMN.")
        )  # fmt: skip
    names = _ONE_SCALE.get(law, ("power", "pure-power", "rectified"))
    return names, (role,)


def _varies(frame: pd.DataFrame, role: str, named: Mapping[str, str | None]) -> bool:
    column = guess_column(frame, role, named.get(role))
    return column is not None and frame[column].nunique() > 1


def _renamed(problem: Problem, roles: Sequence[str], points: Points) -> Problem:
    """A problem in the table's own column names."""
    if len(roles) > 1:
        return problem
    name = points.columns[0]
    fix = problem.fix.replace("size =", f"{name} =")
    return Problem(problem.where.replace("size", name), problem.what, fix)
