"""The tables of docs/results/scale.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.result_files import Table
from benchmarks.scale.statistics import Comparison, MeasuredBest


@dataclass(frozen=True)
class LawCheck:
    """A law of a hyperparameter beside the best value at a cost that it was not fitted to.

    Args:
        case: The name of the case.
        hyperparameter: The name of the hyperparameter.
        trials: The number of trials that the law was fitted to.
        times: The held-out cost divided by the largest fitted one.
        value: The predicted best value.
        low: The lower end of its 80 % interval.
        high: The upper end.
        best: The best value of the grid.
    """

    case: str
    hyperparameter: str
    trials: int
    times: float
    value: float
    low: float
    high: float
    best: MeasuredBest

    @property
    def is_covered(self) -> bool:
        """Whether the interval contains the measured best value."""
        return self.low <= self.best.value <= self.high

    @property
    def regret(self) -> float:
        """The loss at the grid value nearest to the prediction, above that of the best grid value."""
        losses = self.best.losses
        nearest = min(losses, key=lambda value: abs(math.log(value / self.value)))
        return losses[nearest] - min(losses.values())


@dataclass(frozen=True)
class ExportCheck:
    """A point of a cheap sweep at ten times its tokens, unscaled and scaled along the laws.

    Args:
        case: The name of the case.
        examples: The number of training examples of the point in the sweep.
        searched: The learning rate and the batch size of the point.
        scaled: Those after scaling.
        losses: The mean test loss, unscaled and scaled.
        scores: The mean test score by the task's metric, unscaled and scaled.
        metric: The name of that metric.
        gain: The test loss of the unscaled run less that of the scaled one, over pairs with equal seeds.
    """

    case: str
    examples: int
    searched: tuple[float, int]
    scaled: tuple[float, int]
    losses: tuple[float, float]
    scores: tuple[float, float]
    metric: str
    gain: Comparison


@dataclass(frozen=True)
class FrontPoint:
    """A point of the front of the sweep over both bases."""

    model: str
    examples: int
    rate: float
    batch: int
    rank: int
    flops: float
    loss: float


def law_table(checks: Sequence[LawCheck]) -> Table:
    """Return one row per held-out case."""
    rows = [
        (
            check.case,
            check.hyperparameter,
            str(check.trials),
            f"{check.times:.1f}",
            _with_range(check.value, check.low, check.high),
            _number(check.best.value) + (" (end of the grid)" if check.best.is_at_end else ""),
            f"{_number(check.best.low)} to {_number(check.best.high)}",
            _yes(check.is_covered),
            f"{check.regret:.4f} ± {check.best.error:.4f}",
        )
        for check in checks
    ]
    covered = sum(check.is_covered for check in checks)
    columns = ("case", "hyperparameter", "trials", "times the cost", "law (80 % interval)", "measured best",
               "plateau", "covered", "loss of the law above the best")  # fmt: skip
    width = float(np.median([check.high / check.low for check in checks]))
    caption = (
        f"The interval covers the measured best value in {covered} of {len(checks)} cases; its ends are a "
        f"factor of {width:.0f} apart in the median. Laws are fitted to trials "
        "of at most a tenth of the held-out cost. The best value is the vertex of the parabola through the lowest "
        "grid point and its neighbors; the plateau consists of the grid values within two standard errors of the "
        "difference. The last column is the validation loss at the grid value nearest to the law above the "
        "lowest one, with the standard error of a mean."
    )
    return Table(caption, columns, tuple(rows))


def export_table(checks: Sequence[ExportCheck]) -> Table:
    """Return one row per exported point."""
    rows = [
        (
            check.case,
            f"{check.examples:,}",
            _setting(check.searched),
            "kept" if check.scaled == check.searched else _setting(check.scaled),
            str(check.gain.pairs),
            f"{check.losses[0]:.4f}",
            f"{check.losses[1]:.4f}",
            f"{check.gain.mean:+.4f} ({check.gain.low:+.4f} to {check.gain.high:+.4f})",
            _yes(check.gain.is_no_worse),
            _yes(check.gain.is_better),
            f"{check.metric} {_score(check.scores[0])} → {_score(check.scores[1])}",
        )
        for check in checks
    ]
    columns = ("case", "examples of the point", "rate, batch: unscaled", "scaled", "seeds", "test loss, unscaled",
               "test loss, scaled", "gain (95 % interval)", "no worse", "better", "test score")  # fmt: skip
    caption = (
        "Both arms train on ten times the point's examples, with the same seeds. The gain is the mean difference of "
        "the test loss, above 0 where the scaled run is better, with a t interval over the pairs. No worse: the "
        "interval is not wholly below 0, and the mean is at least minus its standard error. Better: the interval is "
        "wholly above 0. Where the export keeps every hyperparameter, both arms are the same runs."
    )
    return Table(caption, columns, tuple(rows))


def front_table(points: Sequence[FrontPoint], caption: str) -> Table:
    """Return one row per point of the front, the cheapest first."""
    rows = [
        (
            point.model,
            f"{point.examples:,}",
            f"{point.rate:.2g}",
            str(point.batch),
            str(point.rank),
            f"{point.flops:.2e}",
            f"{point.loss:.3f}",
        )
        for point in sorted(points, key=lambda point: point.flops)
    ]
    columns = ("base", "examples", "learning rate", "batch", "rank", "training FLOPs", "validation loss")
    return Table(caption, columns, tuple(rows))


def required_table(
    points: Sequence[FrontPoint], laws: Sequence[LawCheck], exports: Sequence[ExportCheck]
) -> Table:
    """Return the required figures beside the measured ones."""
    flops = [point.flops for point in points]
    decades = math.log10(max(flops) / min(flops)) if flops else math.nan
    rate = next((check for check in laws if check.hyperparameter == RATE), None)
    covered = sum(check.is_covered for check in laws)
    no_worse = sum(check.gain.is_no_worse for check in exports)
    better = sum(check.gain.is_better for check in exports)
    needed = math.ceil(0.8 * len(laws))
    rows = (
        ("decades of FLOPs that the front spans", "2", f"{decades:.2f}", _yes(decades >= 2)),
        ("best learning rate at ten times the cost in its 80 % interval, sweep over two bases", "yes",
         _yes(rate is not None and rate.is_covered), _yes(rate is not None and rate.is_covered)),
        ("held-out cases whose 80 % interval covers the best value", f"8 of 10, here {needed} of {len(laws)}",
         f"{covered} of {len(laws)}", _yes(covered >= needed)),
        ("exported runs that are no worse scaled", "all of 5", f"{no_worse} of {len(exports)}",
         _yes(no_worse == len(exports) >= 5)),
        ("exported runs that are better scaled", "3 of 5", f"{better} of {len(exports)}",
         _yes(better >= max(3, 0.6 * len(exports)))),
    )  # fmt: skip
    return Table("Required and measured figures.", ("figure", "required", "measured", "reached"), rows)


RATE = "learning rate"


def as_loss_curve(best: MeasuredBest) -> Mapping[str, Any]:
    """Return the losses of a grid by its values, as text."""
    return {_number(value): f"{loss:.4f}" for value, loss in best.losses.items()}


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 or value == round(value) else f"{value:.2g}"


def _with_range(value: float, low: float, high: float) -> str:
    return f"{_number(value)} ({_number(low)} to {_number(high)})"


def _score(value: float) -> str:
    """Return a share as a percentage, and another score, such as a perplexity, as a number."""
    return f"{100 * value:.1f} %" if value <= 1 else f"{value:.1f}"


def _setting(setting: tuple[float, int]) -> str:
    return f"{setting[0]:.2g}, {setting[1]}"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "**no**"
