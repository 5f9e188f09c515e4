"""Points of cheap sweeps at ten times their tokens, unscaled and scaled along the laws of their sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autotune.export.law_scaling import scaled_by_trials
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from benchmarks.scale.cases import Case
from benchmarks.scale.grids import TIMES
from benchmarks.scale.runs import FinishedRun, RunPlan
from benchmarks.scale.statistics import compared
from benchmarks.scale.tables import ExportCheck
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration

UNSCALED, SCALED = "unscaled", "scaled"
_EXAMPLES, _MODEL = "train_samples", "model"


@dataclass(frozen=True)
class ScaledPoint:
    """The recommended point of a sweep, and the same point scaled to ten times its tokens.

    Args:
        examples: The number of training examples of the point.
        base: The base model of the point, among those of the sweep; None where there is one.
        available: The number of training examples of the task.
        searched: Its configuration, without the number of examples.
        scaled: The configuration at ten times its training FLOPs, likewise.
        reasons: What the export says of each hyperparameter.
    """

    examples: int
    base: str | None
    available: int
    searched: Configuration
    scaled: Configuration
    reasons: tuple[str, ...]

    @property
    def is_kept(self) -> bool:
        """Whether scaling keeps every hyperparameter."""
        return self.scaled == self.searched

    def plans(self, seeds: Sequence[int]) -> list[RunPlan]:
        """Return the runs on ten times the examples, which are repeated where there are too few.

        Where scaling keeps every hyperparameter, both arms are the same runs, which are planned once.
        """
        wanted = TIMES * self.examples
        examples = min(wanted, self.available)
        arms = {UNSCALED: self.searched, **({} if self.is_kept else {SCALED: self.scaled})}
        return [
            RunPlan(arm, {**config, "epochs": wanted / examples}, examples, seed)
            for arm, config in arms.items()
            for seed in seeds
        ]


def scaled_point(case: Case, results: SweepTables) -> ScaledPoint:
    """Return the recommended point of a sweep, and what an export to ten times its training FLOPs makes of it."""
    trial = pick_trial(results, "knee")
    config = results.config(trial)
    moved, changes = scaled_by_trials(results, trial, config, TIMES, (), ())
    reasons = tuple(f"{each.name}: {each.searched} → {each.exported}; {each.why}" for each in changes)
    base = config.get(_MODEL)
    return ScaledPoint(
        int(config[_EXAMPLES]),
        None if base is None else str(base),
        case.available,
        _of_run(config),
        _of_run(moved),
        reasons,
    )


def compared_arms(name: str, case: Case, point: ScaledPoint, runs: Sequence[FinishedRun]) -> ExportCheck:
    """Return the comparison of the arms on the test split."""
    metric = case.task_spec().metric
    arms = {arm: {run.seed: run.test for run in runs if run.arm == arm} for arm in (UNSCALED, SCALED)}
    if point.is_kept:
        arms[SCALED] = arms[UNSCALED]
    seeds = sorted(arms[UNSCALED].keys() & arms[SCALED].keys())
    losses = {arm: [arms[arm][seed]["eval_loss"] for seed in seeds] for arm in arms}
    scores = {arm: float(np.mean([arms[arm][seed][metric] for seed in seeds])) for arm in arms}
    gains = [before - after for before, after in zip(losses[UNSCALED], losses[SCALED], strict=True)]
    return ExportCheck(
        name,
        point.examples,
        _setting(point.searched),
        _setting(point.scaled),
        (float(np.mean(losses[UNSCALED])), float(np.mean(losses[SCALED]))),
        (scores[UNSCALED], scores[SCALED]),
        metric,
        compared(gains),
    )


def _setting(config: Configuration) -> tuple[float, int]:
    return float(config[learning_rate_name(config)]), int(config["batch_size"])


def _of_run(config: Configuration) -> Configuration:
    """Return a configuration without the scale of its trial."""
    return {name: value for name, value in config.items() if name not in (_EXAMPLES, _MODEL)}
