"""The default fidelity of a sweep: how many examples a trial can afford.

A sweep that says nothing about its fidelity trains each trial on all data only where they are few or cheap. Otherwise
the number of examples follows from the budget, the closed-form FLOPs of a random configuration and the speed of the
machine, which is measured only if a slow core would not be fast enough.

The validation examples are those of a comparison: trials are scored on the same ones, so the standard error of the
difference of two accuracies is sqrt(d / m) for m examples of which the trials answer a share d differently. With
d = 5 % it is half a point for 2,000 examples, and 0.7 points for 1,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from autotune.estimate.speed import measured_speed
from autotune.estimate.sweep_time import (
    USUAL_TRIALS,
    Sizes,
    expected_share,
    is_isolated,
    slot_of,
    slots_of,
    threads_of,
    trial_seconds,
)
from autotune.estimate.trial_work import (
    PESSIMISTIC,
    Speed,
    TrialWork,
    random_configurations,
    typical_configuration,
)
from autotune.formatting.units import duration
from autotune.sweep.schema import Sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.model_costs import ModelCosts, home_costs
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.space import SearchSpace
from trials.data.task_data import TaskData
from trials.records import Fidelity

FEW_EXAMPLES = 1_000
"""Training data of at most this size are used in full."""
_LEAST_EXAMPLES, _LEAST_PER_CLASS = 1_000, 20
"""The least training examples, and the least per class, on which configurations are ranked."""
_MOST_EVALUATED, _LEAST_EVALUATED = 2_000, 1_000
"""Validation examples of a trial; see the top of this file."""
_SECONDS_PER_TRIAL = 120.0
"""The seconds of the search per trial where the budget sets no time."""
_NEARLY_ALL = 0.8
"""A trial that can afford this share of the training data has all of them."""
_ROUND = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)


@dataclass(frozen=True)
class FidelityChoice:
    """The fidelity of a sweep that left it open.

    Args:
        fidelity: the fidelity.
        note: what was chosen and why, in a sentence for the user.
        warning: that even the least examples exceed the budget, in a sentence; else None.
    """

    fidelity: Fidelity
    note: str
    warning: str | None = None


class _Trials:
    """The mean trial of a sweep at a speed, for any number of examples."""

    def __init__(
        self,
        sweep: Sweep,
        data: TaskData,
        costs: CostModel | ModelCosts,
        works: Sequence[TrialWork],
        speed: Speed,
    ) -> None:
        self._sweep, self._works, self._speed, self._costs = sweep, works, speed, costs
        self._test = len(data.splits["test"])
        self._share = expected_share(sweep) / slots_of(sweep)

    def full_seconds(self, train: int, evaluated: int) -> float:
        """Return the seconds of a full trial in its slot."""
        sizes = Sizes(train, evaluated, self._test)
        shape, tokens = self._costs.shape, self._costs.workload.tokens
        slot = slot_of(self._sweep, self._speed, shape, tokens, sizes)
        each = [trial_seconds(self._sweep, work, self._speed, slot, sizes) for work in self._works]
        return sum(each) / len(each)

    def seconds(self, train: int, evaluated: int) -> float:
        """Return the seconds of the search per trial: a ladder ends most trials early, and slots work in parallel."""
        return self._share * self.full_seconds(train, evaluated)


def choose_fidelity(
    sweep: Sweep,
    data: TaskData,
    space: SearchSpace,
    costs: CostModel | ModelCosts,
    measure: Callable[..., Speed | None] = measured_speed,
) -> FidelityChoice:
    """Choose the examples of a trial for a sweep that leaves its fidelity open.

    Args:
        sweep: the sweep.
        data: of its task.
        space: bound to the base model.
        costs: returns the known costs of a configuration on all data.
        measure: measures the speed; see `measured_speed`.
    """
    train, held_out = len(data.splits["train"]), len(data.splits["validation"])
    if TRAIN_SAMPLES.name in space:
        return _evaluated_only(sweep, held_out)
    everything = FidelityChoice(
        replace(sweep.fidelity, train_samples=None, eval_samples=None),
        f"fidelity: all {train:,} training and {held_out:,} validation examples per trial",
    )
    if train <= FEW_EXAMPLES and held_out <= _MOST_EVALUATED:
        return everything
    configs = random_configurations(space, sweep.seed)
    works = [TrialWork.of(config, costs) for config in configs]
    limit = _limit(sweep)
    most = _affordable_by_flops(sweep, works, train)
    if most == train and _Trials(sweep, data, costs, works, PESSIMISTIC).seconds(train, held_out) <= limit:
        return everything
    config, own = typical_configuration(configs, costs), home_costs(costs)
    threads = threads_of(sweep, costs.shape)
    found = measure(sweep.model, sweep.task, config, own, is_isolated=is_isolated(sweep), threads=threads)
    trials = _Trials(sweep, data, costs, works, found or PESSIMISTIC)
    if most == train and trials.seconds(train, held_out) <= limit:
        return everything
    least = min(train, max(_LEAST_EXAMPLES, _LEAST_PER_CLASS * len(data.classes or ())))
    examples, evaluated = _sizes(trials, limit, most=most, least=least, train=train, held_out=held_out)
    fidelity = replace(
        sweep.fidelity,
        train_samples=None if examples == train else examples,
        eval_samples=None if evaluated == held_out else evaluated,
    )
    note = (
        f"fidelity: {_of(examples, train)} training examples and {_of(evaluated, held_out)} validation examples per "
        f"trial, since all of them would take {_about(trials.full_seconds(train, held_out))} per trial; set fidelity "
        "to change it"
    )
    return FidelityChoice(fidelity, note, _warning(sweep, trials, examples, evaluated, limit, most))


def _evaluated_only(sweep: Sweep, held_out: int) -> FidelityChoice:
    """Return the fidelity of a sweep whose configurations set their numbers of training examples."""
    evaluated = min(held_out, _MOST_EVALUATED)
    note = (
        f"fidelity: {_of(evaluated, held_out)} validation examples per trial; each configuration trains on its own "
        f"{TRAIN_SAMPLES.name}"
    )
    found = replace(
        sweep.fidelity, train_samples=None, eval_samples=None if evaluated == held_out else evaluated
    )
    return FidelityChoice(found, note)


def _limit(sweep: Sweep) -> float:
    """Return the seconds of the search that one trial may take."""
    seconds, trials = sweep.budget.seconds, sweep.budget.trials or USUAL_TRIALS
    return _SECONDS_PER_TRIAL if seconds is None else seconds / trials


def _affordable_by_flops(sweep: Sweep, works: Sequence[TrialWork], train: int) -> int:
    """Return the training examples of a trial that a budget of FLOPs allows."""
    if sweep.budget.flops is None:
        return train
    mean = sum(work.train_flops for work in works) / len(works)
    each = sweep.budget.flops / (sweep.budget.trials or USUAL_TRIALS) / expected_share(sweep)
    return min(train, max(1, round(each / mean)))


def _sizes(
    trials: _Trials, limit: float, *, most: int, least: int, train: int, held_out: int
) -> tuple[int, int]:
    """Return the training and validation examples of a trial.

    The validation examples are halved before the training examples fall below twice their number.
    """
    for evaluated in (min(held_out, _MOST_EVALUATED), min(held_out, _LEAST_EVALUATED)):
        low, high = 0, most
        while low < high:  # the largest number of examples within the limit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if trials.seconds(middle, evaluated) <= limit else (low, middle - 1)
        if low >= min(2 * evaluated, train):
            break
    examples = train if low >= _NEARLY_ALL * train else round_down(low)
    return max(examples, least), evaluated


def round_down(number: int) -> int:
    """Return the largest round number that is not above a number: 1,000, 1,500, 2,000, 2,500, 3,000, ..."""
    if number < 1:
        return 0
    power = 10 ** math.floor(math.log10(number))
    return int(max(step * power for step in _ROUND if step * power <= number))


def _of(part: int, whole: int) -> str:
    return f"all {whole:,}" if part == whole else f"{part:,} of {whole:,}"


def _about(seconds: float) -> str:
    return duration(seconds) if seconds < 90 else f"{seconds / 60:,.0f}\u00a0min"


def _warning(
    sweep: Sweep, trials: _Trials, examples: int, evaluated: int, limit: float, most: int
) -> str | None:
    """Return a sentence if fewer trials than planned will finish within the budget."""
    seconds = trials.seconds(examples, evaluated)
    if seconds <= limit / _NEARLY_ALL and examples <= most / _NEARLY_ALL:
        return None
    planned = sweep.budget.trials or USUAL_TRIALS
    total = _about(planned * seconds)
    cut = "" if sweep.budget.seconds is None and sweep.budget.flops is None else "; fewer will finish"
    return (
        f"fidelity: {examples:,} training examples are the least that rank configurations, and {planned} trials of "
        f"them take about {total}{cut}. Choose a smaller base model, a ladder, a larger budget, or set fidelity."
    )
