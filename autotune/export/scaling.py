"""A point of a front carried to a larger run: its learning rate, batch size and steps, and its place in another base.

The laws are those of the sweep's own probe (`autotune probe`), or of a table of runs that the user has. They are used
as ratios: the best learning rate at the target over the best one at the searched scale, times the point's own. What
no law says stays as it is, and the reason is kept with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from autotune.formatting.units import counted
from autotune.laws.fit_table import fit_law, parse_magnitude
from autotune.laws.fits import StepFit
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.paths import model_name
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration
from surrogates.laws import BowlLaw, fit_bowl
from surrogates.laws.fitting import LEVEL

_RATE, _BATCH = "learning_rate", "batch"
_EIGHT = 8
"""Batch sizes above this are rounded to multiples of it, which is what hardware likes."""


@dataclass(frozen=True)
class Target:
    """The target of `--scale-to`.

    Args:
        tokens: Tokens to train on, repetitions counted; None for those of the exported run.
        model: Base model; None for the sweep's own.
    """

    tokens: float | None = None
    model: str | None = None


@dataclass(frozen=True)
class Scale:
    """The scale of a run: tokens seen in training, repetitions counted, and parameters of the base model."""

    tokens: float
    params: float

    def as_scales(self) -> dict[str, float]:
        return {"tokens": self.tokens, "params": self.params}


@dataclass(frozen=True)
class Change:
    """One setting as searched and as exported, and why it differs or does not."""

    name: str
    searched: str
    exported: str
    why: str


def read_target(text: str) -> Target:
    """`tokens=20M,model=../large`.

    Raises:
        InvalidInputError: another key, a number that is none, or a model's folder that is not there.
    """
    found: dict[str, str] = {}
    problems = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, _, value = (each.strip() for each in part.partition("="))
        if key not in Target.__dataclass_fields__ or not value:
            fix = (
                did_you_mean(key, list(Target.__dataclass_fields__))
                if value
                else "Write tokens=20M,model=NAME."
            )
            problems.append(Problem("--scale-to", f"{part!r} says nothing that a run can be scaled to", fix))
        found[key] = value
    tokens = None
    if "tokens" in found and (tokens := parse_magnitude(found["tokens"])) is None:
        what = f"{found['tokens']!r} is not a positive number"
        problems.append(Problem("--scale-to", what, "Write tokens=2e7 or tokens=20M."))
    model = None
    if "model" in found:
        model, wrong = model_name(found["model"], "--scale-to", Path.cwd())
        problems += wrong
    if not found and not problems:
        problems.append(Problem("--scale-to", "is empty", "Write tokens=20M,model=NAME, or one of the two."))
    if problems:
        raise InvalidInputError(problems)
    return Target(tokens, model)


@dataclass(frozen=True)
class RateLaw:
    """How the best learning rate, and perhaps batch size, moves with scale; or why that is not known.

    Args:
        law: None where there is none.
        source: what it was fitted to, in words; or why there is none, and what to do.
    """

    law: BowlLaw | None
    source: str


def law_of_probe(results: SweepTables, trial: int) -> RateLaw:
    """Fit the law of the sweep's probe: multiples of a point's learning rate (and batch size) over the tokens seen.

    With several base models, the law is over their parameters as well. It is fitted to the trial's own runs if they
    determine it, and else to those of all points together.
    """
    runs = results.probes
    varied = runs[(runs["rate"] != 1.0) | (runs["batch"] != 1.0)]
    if varied.empty:
        again = f"Run autotune probe {results.folder} --points {trial}"
        return RateLaw(None, f"no other learning rates were tried on parts of the data. {again}.")
    runs = runs[runs["trial"].isin(varied["trial"])]
    own = _fitted(runs[runs["trial"] == trial], results, trial)
    return own if own.law is not None else _fitted(runs, results, trial)


def _fitted(runs: pd.DataFrame, results: SweepTables, trial: int) -> RateLaw:
    if runs.empty:
        return RateLaw(None, "")
    multiples = {_RATE: runs["rate"].to_numpy(dtype=float)}
    if runs["batch"].nunique() > 1:
        multiples[_BATCH] = runs["batch"].to_numpy(dtype=float)
    scales = {
        name: runs[name].to_numpy(dtype=float)
        for name in ("tokens", "params")
        if name == "tokens" or runs[name].nunique() > 1
    }
    groups = (runs["trial"].astype(str) + " " + runs["model"]).to_numpy()
    try:
        law = fit_bowl(multiples, scales, runs["metric.eval_loss"].to_numpy(dtype=float), groups=groups)
    except InvalidInputError as error:
        again = f"Run autotune probe {results.folder} --points {trial} with more --rates"
        return RateLaw(None, f"{error.problems[0].what}. {again}.")
    points = runs["trial"].nunique()
    return RateLaw(law, f"{len(runs)} runs of {counted(points, 'point')} on parts of the data")


def law_of_table(frame: pd.DataFrame, name: str) -> RateLaw:
    """The law of a table of runs, as `autotune law fit --law step` reads it.

    Raises:
        InvalidInputError: the table identifies no such law.
    """
    found = fit_law(frame, "step")
    assert isinstance(found, StepFit)
    return RateLaw(found.law, f"{len(found.points.loss)} runs in {name}")


def scaled(
    config: Configuration, law: RateLaw, here: Scale, there: Scale
) -> tuple[Configuration, list[Change]]:
    """The configuration at the target's scale, and what was changed and why."""
    found, changes = dict(config), []
    name = learning_rate_name(config)
    factor, why = _factor(law, _RATE, here, there)
    found[name] = float(config[name]) * factor
    changes.append(Change("learning rate", f"{float(config[name]):.3g}", f"{found[name]:.3g}", why))
    if law.law is None or _BATCH not in law.law.hyperparameters:
        factor, why = 1.0, "kept: no law says otherwise"
    else:
        factor, why = _factor(law, _BATCH, here, there)
    found["batch_size"] = (
        _rounded(int(config["batch_size"]) * factor) if factor != 1.0 else config["batch_size"]
    )
    changes.append(Change("batch size", str(config["batch_size"]), str(found["batch_size"]), why))
    return found, changes


def _factor(law: RateLaw, setting: str, here: Scale, there: Scale) -> tuple[float, str]:
    """Return the factor by which a setting is multiplied, and the reason."""
    if law.law is None:
        return 1.0, f"kept: {law.source}"
    table, log_factor, said, moves = law.law.table()[setting], 0.0, [], False
    for scale, before in here.as_scales().items():
        after = there.as_scales()[scale]
        if np.isclose(before, after):
            continue
        if scale not in table:
            said.append(f"how it moves with {scale} was not measured")
            continue
        value, low, high = table[scale]
        words = f"{scale}^{value:.2f} ({100 * LEVEL:.0f} %: {low:.2f} to {high:.2f})"
        if low < 0.0 < high:
            said.append(f"no trend is sure: it goes with {words}")
            continue
        moves = True
        log_factor += value * float(np.log(after / before))
        ends = sorted((after / before) ** each for each in (low, high))
        said.append(f"it goes with {words}, here a factor of {ends[0]:.2g} to {ends[1]:.2g}")
    if not said:
        return 1.0, "kept: the scale is that of the search"
    words = f"{'; '.join(said)}; from {law.source}"
    return (float(np.exp(log_factor)), words) if moves else (1.0, f"kept: {words}")


def _rounded(batch_size: float) -> int:
    if batch_size > _EIGHT:
        return _EIGHT * max(1, round(batch_size / _EIGHT))
    return max(1, round(batch_size))
