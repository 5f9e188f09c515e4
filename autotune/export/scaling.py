"""Scaling of a point to a larger run: its learning rate, batch size and steps, and its layers in another base model.

The laws of learning rate and batch size come from a table of runs that the user provides, or from the sweep's own
probe (`autotune probe`). Where these have none, and for all other hyperparameters, the laws of the sweep's own trials
are used (`law_scaling`). All are used as ratios: the optimal learning rate at the target divided by the optimal one
at the searched scale, times the point's own. A setting without a law is kept, and the reason is recorded with it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
"""Batch sizes above this are rounded to multiples of it, which hardware processes faster."""


@dataclass(frozen=True)
class Target:
    """The target of `--scale-to`.

    Args:
        tokens: The training tokens, repetitions included; None for those of an unscaled run.
        model: The hub id or folder of the base model; None for the sweep's own.
    """

    tokens: float | None = None
    model: str | None = None


@dataclass(frozen=True)
class Scale:
    """The scale of a run: training tokens, repetitions included, and parameters of the base model."""

    tokens: float
    params: float

    def as_scales(self) -> dict[str, float]:
        """Return the scale by the names that laws use."""
        return {"tokens": self.tokens, "params": self.params}


@dataclass(frozen=True)
class Change:
    """One setting in the search and in the exported run, and the reason for the difference."""

    name: str
    searched: str
    exported: str
    why: str


def read_target(text: str) -> Target:
    """Parse the value of `--scale-to`, such as `tokens=20M,model=../large`.

    Raises:
        InvalidInputError: A key is unknown, a number is invalid, or a model's folder does not exist.
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
            problems.append(Problem("--scale-to", f"{part!r} is not a target", fix))
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
    """The dependence of the optimal learning rate, and possibly of the batch size, on scale.

    Args:
        law: The fitted law; None if there is none.
        source: A description of the data that the law was fitted to, or why there is no law and how to get one.
    """

    law: BowlLaw | None
    source: str


def law_of_probe(results: SweepTables, trial: int) -> RateLaw:
    """Fit the law of a sweep's probe.

    It relates multiples of a point's own learning rate (and batch size) to the training tokens, and to the base
    model's parameters if more than one base model was probed. It is fitted to the runs of the trial if they are
    sufficient, otherwise to those of all points.

    Args:
        results: The sweep with its probe runs.
        trial: The number of the trial to scale.
    """
    runs = results.probes
    varied = runs[(runs["rate"] != 1.0) | (runs["batch"] != 1.0)]
    if varied.empty:
        again = f"Run autotune probe {results.folder} --points {trial}"
        return RateLaw(None, f"no other learning rates were tried on shares of the data. {again}.")
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
    return RateLaw(law, f"{len(runs)} runs of {counted(points, 'point')} on shares of the data")


def law_of_table(frame: pd.DataFrame, name: str) -> RateLaw:
    """Fit the law of a table of runs, in the format of `autotune law fit --law step`.

    Args:
        frame: The table, one row per run.
        name: The name of the table in messages.

    Raises:
        InvalidInputError: The table does not determine the law.
    """
    found = fit_law(frame, "step")
    assert isinstance(found, StepFit)
    return RateLaw(found.law, f"{len(found.points.loss)} runs in {name}")


def scaled(
    config: Configuration, law: RateLaw, here: Scale, there: Scale
) -> tuple[Configuration, list[Change]]:
    """Scale a configuration.

    Args:
        config: The active parameters in the search.
        law: The law of learning rate and batch size.
        here: The scale of the search.
        there: The scale of the exported run.

    Returns:
        The scaled configuration, and the settings with their reasons.
    """
    found, changes = dict(config), []
    name = learning_rate_name(config)
    factor, why = _factor(law, _RATE, here, there)
    found[name] = float(config[name]) * factor
    changes.append(Change("learning rate", f"{float(config[name]):.3g}", f"{found[name]:.3g}", why))
    if law.law is None or _BATCH not in law.law.hyperparameters:
        factor, why = 1.0, "kept: there is no law for it"
    else:
        factor, why = _factor(law, _BATCH, here, there)
    found["batch_size"] = (
        rounded_batch(int(config["batch_size"]) * factor) if factor != 1.0 else config["batch_size"]
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
            said.append(f"its dependence on {scale} was not measured")
            continue
        value, low, high = table[scale]
        words = f"{scale}^{value:.2f} ({100 * LEVEL:.0f} %: {low:.2f} to {high:.2f})"
        if low < 0.0 < high:
            said.append(f"no significant trend: it scales as {words}")
            continue
        moves = True
        log_factor += value * float(np.log(after / before))
        ends = sorted((after / before) ** each for each in (low, high))
        said.append(f"it scales as {words}, here a factor of {ends[0]:.2g} to {ends[1]:.2g}")
    if not said:
        return 1.0, "kept: the scale is the same as in the search"
    words = f"{'; '.join(said)}; from {law.source}"
    return (float(np.exp(log_factor)), words) if moves else (1.0, f"kept: {words}")


def settings_of(law: RateLaw, config: Configuration) -> set[str]:
    """Return the names of the parameters that the law scales."""
    if law.law is None:
        return set()
    names = {_RATE: learning_rate_name(config), _BATCH: "batch_size"}
    return {names[setting] for setting in law.law.hyperparameters if setting in names}


def joined_changes(transferred: Sequence[Change], moved: Sequence[Change]) -> list[Change]:
    """Return one entry per setting where another base model and the laws both name it.

    Args:
        transferred: from the searched values to those on the other base model.
        moved: from those to the ones that the laws give.
    """
    laws = {each.name: each for each in moved}
    both = [(each, laws.pop(each.name, None)) for each in transferred]
    first = [each if law is None else _joined(each, law) for each, law in both]
    return first + [each for each in moved if each.name in laws]


def _joined(transferred: Change, law: Change) -> Change:
    if law.searched == law.exported:
        return transferred
    why = f"{transferred.why} ({law.searched}), then: {law.why}"
    return Change(transferred.name, transferred.searched, law.exported, why)


def rounded_batch(batch_size: float) -> int:
    """Return a batch size as a whole number, above eight a multiple of eight."""
    if batch_size > _EIGHT:
        return _EIGHT * max(1, round(batch_size / _EIGHT))
    return max(1, round(batch_size))
