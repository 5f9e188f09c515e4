"""The amount of training as searched parameters: `train_samples`, fractional `epochs`, and what follows from them.

    train_samples: {low: 200, high: 8000}      numbers of examples, on a logarithmic scale
    train_samples: {low: 5%, high: 100%}       shares of the training split
    train_samples: [200, 1000, all]            choices
    epochs: {low: 0.25, high: 4, log: true}    a real number of passes over the examples

A share is a number of examples once the training split is known (`TrainSamples.bind_split`). The examples of a
smaller number are among those of a larger one, and are the same for every trial (`trials.training.subsets`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from optuna.distributions import BaseDistribution, FloatDistribution

from search_spaces.errors import Problem
from search_spaces.parameters.types import Categorical, Float, Int, Parameter, Value
from search_spaces.percentages import format_percentage

ALL = "all"
"""How a space file names the whole training split."""
_ROUNDING = 1e-6
"""Slack for the rounding of a product of a share and a number, which must not add an example."""

Amount = int | float
"""A number of examples (`int`), or a share of the training split in (0, 1] (`float`)."""


@dataclass(frozen=True, kw_only=True)
class TrainSamples(Parameter):
    """A number of training examples per epoch whose training split is not known yet.

    Args:
        low: smallest amount.
        high: largest amount, which is the default of the bound parameter unless `default` is given.
        log: whether the prior is uniform on a logarithmic scale.
        choices: the amounts to choose from; empty for the range from `low` to `high`.
    """

    low: Amount = 0.05
    high: Amount = 1.0
    log: bool = True
    choices: tuple[Amount, ...] = ()

    @property
    def has_shares(self) -> bool:
        """Whether any amount is a share, so that the numbers depend on the training split."""
        return any(isinstance(amount, float) for amount in self._amounts)

    @property
    def _amounts(self) -> tuple[Amount, ...]:
        default = () if self.default is None else (self.default,)
        return (*(self.choices or (self.low, self.high)), *default)

    @property
    def _largest(self) -> Amount:
        """The default, or else the largest share of the unknown split."""
        if self.default is not None:
            return cast("Amount", self.default)
        return max(amount for amount in self._amounts if isinstance(amount, float))

    def bind_split(self, examples: int | None) -> tuple[Parameter, str, Problem | None]:
        """Return the parameter for a training split.

        Args:
            examples: number of examples of the split; None if it is unknown.

        Returns:
            An `Int` or an ordered `Categorical`; this parameter if it has shares of an unknown split, or a problem.
            Then what the split narrows or resolves, in a clause; empty if nothing. Then the problem of a split with
            too few examples, or None.
        """
        if examples is None:
            if not self.has_shares:
                return self._concrete(self._numbers(math.inf)), "", None
            return replace(self, default=self._largest), "", None
        numbers = self._numbers(examples)
        problem = self._problem_of(numbers, examples)
        if problem is not None:
            return self, "", problem
        return self._concrete(numbers, examples), self._note(numbers, examples), None

    def distribution(self) -> BaseDistribution:
        return FloatDistribution(0.0, 1.0)

    def to_unit(self, value: Value) -> float:
        return min(max(float(value), 0.0), 1.0)

    def from_unit(self, unit: float) -> Value:
        """Return a share of the unknown split between those of the ends; an end that is a number has none."""
        shares = [amount for amount in self._amounts if isinstance(amount, float)] or [1.0]
        return min(shares) + min(max(unit, 0.0), 1.0) * (max(shares) - min(shares))

    def problem(self, value: object) -> str | None:
        """Return why a value is invalid; any positive number of examples may be in the range of the split."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            return f"{value!r} is not a number of examples"
        return None

    def _numbers(self, examples: float) -> list[int]:
        """Return the numbers of examples that the amounts stand for, in their order."""
        return [_number(amount, examples) for amount in self._amounts]

    def _problem_of(self, numbers: Sequence[int], examples: int) -> Problem | None:
        where = f"parameters.{self.name}"
        smallest = min(numbers[: len(self.choices)] or numbers[:1])
        if smallest > examples:
            what = f"{smallest:,} is above the {examples:,} examples of the training split"
            return Problem(where, what, f"Use at most {examples}, or a share such as 10%.")
        if not self.choices and numbers[0] > min(numbers[1], examples):
            low, high = map(amount_text, (self.low, self.high))
            what = f"low {low} is above high {high}, {numbers[1]:,} of the {examples:,} training examples"
            return Problem(where, what, "Lower low, or raise high.")
        return None

    def _concrete(self, numbers: Sequence[int], examples: float = math.inf) -> Parameter:
        kept = [int(min(number, examples)) for number in numbers]
        default = None if self.default is None else kept.pop()
        if self.choices:
            choices = tuple(sorted(set(kept)))
            return Categorical(
                name=self.name,
                when=self.when,
                choices=choices,
                ordered=True,
                default=choices[-1] if default is None else default,
            )
        low, high = kept
        default = high if default is None else min(max(default, low), high)
        return Int(name=self.name, when=self.when, low=low, high=high, log=self.log, default=default)

    def _note(self, numbers: Sequence[int], examples: int) -> str:
        above = [f"{number:,}" for number in dict.fromkeys(numbers) if number > examples]
        found = []
        if above:
            found.append(f"{', '.join(above)} exceed{'s' if len(above) == 1 else ''} the training split")
        if above or self.has_shares:
            kept = sorted({min(number, examples) for number in numbers[: len(self.choices) or 2]})
            words = ", ".join(f"{n:,}" for n in kept) if self.choices else f"{kept[0]:,} to {kept[-1]:,}"
            found.append(f"{words} of {examples:,} training examples")
        return "; ".join(found)


TRAIN_SAMPLES = TrainSamples(name="train_samples")
"""The number of training examples per epoch. The default is the largest."""

REAL_EPOCHS = Float(name="epochs", low=1.0, high=5.0, default=3.0)
"""The epochs of a space that gives them fractions; without fractions they are whole numbers."""

_EPOCH_NUMBERS = ("low", "high", "step", "default")


def has_real_epochs(entry: object) -> bool:
    """Return whether a file's entry of `epochs` makes them real numbers.

    A value with a fraction does, and so does a logarithmic range with a bound that is written as a real number.
    """
    numbers: list[object]
    if isinstance(entry, Mapping):
        chosen = entry.get("choices")
        numbers = [entry.get(field) for field in _EPOCH_NUMBERS]
        numbers += chosen if isinstance(chosen, list | tuple) else []
        if entry.get("log") is True and any(isinstance(number, float) for number in numbers):
            return True
    else:
        numbers = list(entry) if isinstance(entry, list | tuple) else [entry]
    return any(isinstance(number, float) and not number.is_integer() for number in numbers)


def amount_text(amount: Amount) -> str:
    """Return an amount as a space file writes it: `200`, `5%` or `all`."""
    if isinstance(amount, int):
        return str(amount)
    return ALL if amount == 1.0 else format_percentage(amount, 12)


def smallest_and_largest(parameter: Parameter) -> tuple[int, int]:
    """Return the smallest and the largest number of examples of a bound `train_samples`."""
    if isinstance(parameter, Categorical):
        return int(parameter.choices[0]), int(parameter.choices[-1])
    assert isinstance(parameter, Int), "it is bound to a training split"
    return parameter.low, parameter.high


def examples_of(config: Mapping[str, Value], available: int) -> int:
    """Return the training examples per epoch of a configuration.

    Args:
        config: the active parameters.
        available: number of examples that it may train on, all of which it uses without `train_samples`.
    """
    return min(int(config.get(TRAIN_SAMPLES.name, available)), available)


def samples_seen(epochs: float, examples: int) -> int:
    """Return the number of examples that a run trains on, counting every pass; at least 1."""
    return max(math.ceil(epochs * examples - _ROUNDING), 1)


def optimizer_steps(epochs: float, examples: int, batch_size: int) -> int:
    """Return the number of optimizer steps of a run; at least 1.

    Each whole epoch has a step per batch, the last batch of which may be smaller. A last epoch that is not whole
    trains on the first examples of its own order.
    """
    whole, rest = divmod(samples_seen(epochs, examples), examples)
    return whole * math.ceil(examples / batch_size) + math.ceil(rest / batch_size)


def _number(amount: Amount, examples: float) -> int:
    if isinstance(amount, int):
        return amount
    return max(math.ceil(amount * examples - _ROUNDING), 1)
