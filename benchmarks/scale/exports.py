"""Points of cheap sweeps at ten times their tokens, unscaled and scaled along the laws of their sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autotune.export.exported_trial import as_searched, scaled_trial
from autotune.export.scaling import Target
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from benchmarks.scale.cases import Case
from benchmarks.scale.grids import TIMES
from benchmarks.scale.runs import FinishedRun, RunPlan
from benchmarks.scale.statistics import compared
from benchmarks.scale.tables import ExportCheck
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration
from trials.training.run import count_tokens
from trials.training.subsets import subset

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
        scaled: The configuration that `autotune export --scale-to tokens=…` writes, likewise.
        reasons: What the export says of each setting.
    """

    examples: int
    base: str | None
    available: int
    searched: Configuration
    scaled: Configuration
    reasons: tuple[str, ...]

    def plans(self, seeds: Sequence[int]) -> list[RunPlan]:
        """Return the runs of both arms on ten times the examples; those are repeated where there are too few."""
        wanted = TIMES * self.examples
        examples = min(wanted, self.available)
        arms = ((UNSCALED, self.searched), (SCALED, self.scaled))
        return [
            RunPlan(arm, {**config, "epochs": wanted / examples}, examples, seed)
            for arm, config in arms
            for seed in seeds
        ]


def scaled_point(results: SweepTables) -> ScaledPoint:
    """Return the recommended point of a sweep, and its configuration at ten times its tokens."""
    trial = pick_trial(results, "knee")
    export = as_searched(results, trial)
    examples = int(export.config[_EXAMPLES])
    own = subset(export.data.splits["train"], examples, seed=0)
    moved = scaled_trial(export, Target(tokens=float(TIMES * count_tokens(own))))
    reasons = tuple(
        f"{change.name}: {change.searched} → {change.exported}, {change.why}" for change in moved.changes
    )
    available = len(export.data.splits["train"])
    base = results.config(trial).get(_MODEL)
    configs = (_of_run(export.config), _of_run(moved.config))
    return ScaledPoint(examples, None if base is None else str(base), available, *configs, reasons)


def compared_arms(name: str, case: Case, point: ScaledPoint, runs: Sequence[FinishedRun]) -> ExportCheck:
    """Return the comparison of the arms on the test split."""
    metric = case.task_spec().metric
    arms = {arm: {run.seed: run.test for run in runs if run.arm == arm} for arm in (UNSCALED, SCALED)}
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
