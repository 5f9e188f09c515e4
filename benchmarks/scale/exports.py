"""Points of cheap sweeps at ten times their tokens, unscaled and scaled along the laws of their sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autotune.laws.sweep_laws import laws_of_sweep
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from benchmarks.scale.cases import Case
from benchmarks.scale.grids import TIMES
from benchmarks.scale.laws import COST, searched_names
from benchmarks.scale.runs import FinishedRun, RunPlan
from benchmarks.scale.statistics import compared
from benchmarks.scale.tables import ExportCheck
from search_spaces.parameters.training import learning_rate_name
from search_spaces.parameters.types import Configuration
from surrogates.laws import SearchLaw

UNSCALED, SCALED = "unscaled", "scaled"
_EXAMPLES, _MODEL, _EIGHT = "train_samples", "model", 8


@dataclass(frozen=True)
class ScaledPoint:
    """The recommended point of a sweep, and the same point scaled to ten times its tokens.

    Args:
        examples: The number of training examples of the point.
        base: The base model of the point, among those of the sweep; None where there is one.
        available: The number of training examples of the task.
        searched: Its configuration, without the number of examples.
        scaled: The configuration at ten times its training FLOPs, likewise.
        reasons: What the laws say of each hyperparameter.
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


def scaled_point(case: Case, results: SweepTables) -> ScaledPoint:
    """Return the recommended point of a sweep, and its configuration at ten times its training FLOPs.

    Every hyperparameter that has a law moves along it, also where the law is uncertain; `SearchLaw.moved` shrinks the
    step by the probability that the best value changes at all.
    """
    trial = pick_trial(results, "knee")
    config = results.config(trial)
    cost = float(results.trials.set_index("trial").loc[trial, COST])
    laws = laws_of_sweep(results, COST)
    searched, scaled, reasons = _of_run(config), _of_run(config), []
    for name in searched_names(case):
        law = laws.law_of(name)
        if not isinstance(law, SearchLaw):
            reasons.append(f"{name}: kept, {law.reason if law is not None else 'it has one value'}")
            continue
        moved = law.moved(float(searched[name]), cost, TIMES * cost)
        scaled[name] = moved if isinstance(searched[name], float) else _whole(name, moved)
        slope, low, high = law.slope()
        reasons.append(
            f"{name}: {searched[name]:.3g} → {scaled[name]:.3g}, cost^{slope:.2f} ({low:.2f} to {high:.2f}), it "
            f"changes with probability {law.changes:.2f}"
        )
    base = config.get(_MODEL)
    examples = int(config[_EXAMPLES])
    return ScaledPoint(
        examples, None if base is None else str(base), case.available, searched, scaled, tuple(reasons)
    )


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


def _whole(name: str, value: float) -> int:
    """Return a whole number; batch sizes above 8 are multiples of 8, as in exported runs."""
    if name == "batch_size" and value > _EIGHT:
        return _EIGHT * round(value / _EIGHT)
    return max(1, round(value))


def _setting(config: Configuration) -> tuple[float, int]:
    return float(config[learning_rate_name(config)]), int(config["batch_size"])


def _of_run(config: Configuration) -> Configuration:
    """Return a configuration without the scale of its trial."""
    return {name: value for name, value in config.items() if name not in (_EXAMPLES, _MODEL)}
