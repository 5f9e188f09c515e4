"""Points of cheap sweeps at ten times their tokens, unscaled and scaled along the laws of their sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autotune.export.law_scaling import scaled_by_trials
from autotune.laws.sweep_laws import laws_of_sweep
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from benchmarks.scale.cases import Case
from benchmarks.scale.grids import TIMES
from benchmarks.scale.laws import COST
from benchmarks.scale.runs import FinishedRun, RunPlan
from benchmarks.scale.statistics import compared
from benchmarks.scale.tables import ExportCheck
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration
from surrogates.laws import SearchLaw

UNSCALED, SCALED, AT_LAW = "unscaled", "scaled", "law"
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
        arm: The name of the arm of the scaled runs.
    """

    examples: int
    base: str | None
    available: int
    searched: Configuration
    scaled: Configuration
    reasons: tuple[str, ...]
    arm: str = SCALED

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
        arms = {UNSCALED: self.searched, **({} if self.is_kept else {self.arm: self.scaled})}
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


def at_the_law(results: SweepTables, point: ScaledPoint) -> ScaledPoint:
    """Return a point whose learning rate at ten times its training FLOPs is the law's own, whatever the point's was.

    Raises:
        ValueError: The learning rate has no law.
    """
    trial = pick_trial(results, "knee")
    cost = float(results.trials.set_index("trial")[COST].to_dict()[trial])
    name = learning_rate_name(point.searched)
    law = laws_of_sweep(results, COST).law_of(name)
    if not isinstance(law, SearchLaw):
        raise ValueError(f"{name} has no law")
    rate = float(f"{law.at(TIMES * cost)[0]:.4g}")
    return replace(point, scaled={**point.searched, name: rate}, reasons=(), arm=AT_LAW)


def compared_arms(name: str, case: Case, point: ScaledPoint, runs: Sequence[FinishedRun]) -> ExportCheck:
    """Return the comparison of the arms on the test split."""
    metric = case.task_spec().metric
    arms = {arm: {run.seed: run.test for run in runs if run.arm == arm} for arm in (UNSCALED, point.arm)}
    if point.is_kept:
        arms[point.arm] = arms[UNSCALED]
    seeds = sorted(arms[UNSCALED].keys() & arms[point.arm].keys())
    losses = {arm: [arms[arm][seed]["eval_loss"] for seed in seeds] for arm in arms}
    scores = {arm: float(np.mean([arms[arm][seed][metric] for seed in seeds])) for arm in arms}
    gains = [before - after for before, after in zip(losses[UNSCALED], losses[point.arm], strict=True)]
    return ExportCheck(
        name,
        point.examples,
        _setting(point.searched),
        _setting(point.scaled),
        (float(np.mean(losses[UNSCALED])), float(np.mean(losses[point.arm]))),
        (scores[UNSCALED], scores[point.arm]),
        metric,
        compared(gains),
    )


def _setting(config: Configuration) -> tuple[float, int]:
    return float(config[learning_rate_name(config)]), int(config["batch_size"])


def _of_run(config: Configuration) -> Configuration:
    """Return a configuration without the scale of its trial."""
    return {name: value for name, value in config.items() if name not in (_EXAMPLES, _MODEL)}
