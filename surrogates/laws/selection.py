"""Selection of a law by its error on held-out larger budgets, never in-sample.

The points are ordered by budget. The largest fifth and then the largest third is held out, each at least two points;
every law and both baselines are fitted to the other points and predict the held-out ones. The criterion is the mean
|log error| over the held-out points of both splits. A law that is worse than a baseline is not used: the baseline
predicts, with an interval from its held-out errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

from search_spaces.errors import InvalidInputError, Problem
from surrogates.laws.baselines import LAST, SLOPE, Baseline
from surrogates.laws.experimental_design import require_identifiable
from surrogates.laws.fitting import LEVEL, FittedLaw, Prediction, fit_form
from surrogates.laws.functional_forms import FORMS, Array, Form, Labels, log_budget

_SHARES = (1 / 5, 1 / 3)
_TIE = 1.02
"""A law with fewer coefficients is preferred to one that is better by less than this factor."""

_MIN_HALF_WIDTH = 1e-3
"""Minimum half width, in log loss, of a baseline's interval: a few small errors do not prove certainty."""


@dataclass(frozen=True)
class HeldOut:
    """The held-out errors of one law or baseline.

    Args:
        name: name of the law or baseline.
        error: mean |log error|; infinite if it could not be fitted to the other points.
        errors: log errors of the h held-out points, shape [h].
        reach: log ratio of each point's budget to the largest budget of the fit, shape [h].
        halves: half widths of the law's intervals, in log loss, shape [h]; empty for a baseline.
        split: index of the split in which each point was held out, shape [h].
        why: why there are no held-out errors; empty if there are.
    """

    name: str
    error: float
    errors: Array
    reach: Array
    halves: Array
    split: Labels
    why: str = ""


@dataclass(frozen=True)
class Choice:
    """The laws that were fitted to one set of points, and the one to use.

    Args:
        laws: fitted laws by name.
        held_out: held-out errors, best first; those that could not be validated last.
        chosen: name of the law in use, or of the baseline that is better than every law.
        X: scales of the points, shape [n, d].
        loss: losses of the points, shape [n].
    """

    laws: dict[str, FittedLaw]
    held_out: tuple[HeldOut, ...]
    chosen: str
    X: Array
    loss: Array

    @property
    def law(self) -> FittedLaw | None:
        """The law in use, or None if a baseline is used."""
        return self.laws.get(self.chosen)

    @property
    def verdict(self) -> str:
        """One sentence about the law or baseline in use and the reason."""
        errors = {one.name: one.error for one in self.held_out}
        best_rule = min((SLOPE, LAST), key=lambda name: errors.get(name, np.inf))
        rule = f"{100 * errors.get(best_rule, np.nan):.2f} % for the baseline ({best_rule})"
        if self.chosen in self.laws:
            own = errors[self.chosen]
            if not np.isfinite(own):
                return f"{self.chosen} is used without validation: too few points to hold out the largest budgets"
            return (
                f"{self.chosen} predicts held-out budgets with an error of {100 * own:.2f} %, against {rule}"
            )
        best = min(self.laws, key=lambda name: errors.get(name, np.inf))
        return (
            f"no law is used: the best one, {best}, predicts held-out budgets with an error of "
            f"{100 * errors[best]:.2f} %, against {rule}, which is used instead"
        )

    def predict(self, X: Array, level: float = LEVEL) -> Prediction:
        """Predict the loss, by the law or baseline in use.

        Args:
            X: scales, shape [m, d].
            level: probability of the interval.
        """
        X = np.atleast_2d(np.asarray(X, dtype=float))
        if self.law is not None:
            return self.law.predict(X, level)
        value = Baseline.of(self.chosen, self.X, self.loss).predict(X)
        shown = next(one for one in self.held_out if one.name == self.chosen)
        ahead = np.maximum(log_budget(X) - log_budget(self.X).max(), 0.0)
        # Extrapolation errors increase with reach; below the held-out reach the interval is not narrowed.
        rank = min(level * (len(shown.errors) + 1) / len(shown.errors), 1.0)
        width = max(float(np.quantile(np.abs(shown.errors), rank)), _MIN_HALF_WIDTH)
        half = width * np.maximum(ahead / max(float(np.mean(shown.reach)), 1e-9), 1.0)
        return Prediction(value, value * np.exp(-half), value * np.exp(half), level)


def choose(
    X: Array, loss: Array, names: Sequence[str], level: float = LEVEL, force_law: bool = False
) -> Choice:
    """Fit every named form, validate each by held-out extrapolation, and select one.

    Args:
        X: scales, positive, with the columns of the forms' inputs, shape [n, d]; all forms have the same inputs.
        loss: losses, positive, shape [n].
        names: names of forms in `FORMS`.
        level: probability of the intervals, which are widened until they cover this share of held-out points.
        force_law: whether to use the best law even if a baseline is better.

    Raises:
        InvalidInputError: The points identify none of the laws; the message says what to measure.
    """
    X, loss = np.asarray(X, dtype=float), np.asarray(loss, dtype=float)
    laws, refusals = {}, {}
    for name in names:
        try:
            require_identifiable(FORMS[name], X, loss)
            laws[name] = fit_form(FORMS[name], X, loss)
        except InvalidInputError as error:
            refusals[name] = error
    if not names:
        raise InvalidInputError(Problem("law", "no law was named", "Name at least one."))
    if not laws:  # report what the law with the fewest coefficients lacks
        raise refusals[min(names, key=lambda name: FORMS[name].size)]
    tested = [_held_out_law(FORMS[name], X, loss, level) for name in laws]
    tested += [_held_out_rule(name, X, loss) for name in (SLOPE, LAST)]
    tested.sort(key=lambda one: (not np.isfinite(one.error), one.error))
    laws = {one.name: _widened(laws[one.name], one) for one in tested if one.name in laws}
    return Choice(laws, tuple(tested), _winner(laws, tested, force_law), X, loss)


def _winner(laws: dict[str, FittedLaw], tested: list[HeldOut], force_law: bool) -> str:
    errors = {one.name: one.error for one in tested}
    best = min(errors[name] for name in laws)
    if not np.isfinite(best):  # without validation, prefer the law with the fewest coefficients
        return min(laws, key=lambda name: laws[name].form.size)
    close = [name for name in laws if errors[name] <= _TIE * best + 1e-12]
    law = min(close, key=lambda name: (laws[name].form.size, errors[name]))
    rule = min((SLOPE, LAST), key=lambda name: errors[name])
    return law if force_law or not errors[rule] < errors[law] else rule


def _splits(X: Array) -> list[tuple[Labels, Labels]]:
    """Return the (visible, held-out) rows of each split; points of equal budget are in the same part."""
    budget = log_budget(X)
    found = []
    for share in _SHARES:
        wanted = max(2, int(np.ceil(share * len(budget))))
        if wanted >= len(budget):
            continue
        hidden = budget >= np.sort(budget)[-wanted] - 1e-9
        if not hidden.all():
            found.append((np.flatnonzero(~hidden), np.flatnonzero(hidden)))
    return found


def _held_out_law(form: Form, X: Array, loss: Array, level: float) -> HeldOut:
    errors, reach, halves = [], [], []
    for seen, hidden in _splits(X):
        if len(seen) <= form.size:
            continue
        try:
            require_identifiable(form, X[seen], loss[seen])
        except InvalidInputError:
            continue
        predicted = fit_form(form, X[seen], loss[seen]).predict(X[hidden], level)
        errors.append(np.log(predicted.value / loss[hidden]))
        halves.append(np.log(predicted.high / predicted.value))
        reach.append(log_budget(X[hidden]) - log_budget(X[seen]).max())
    if not errors:
        why = "too few points to fit it without the largest budgets"
        return _untested(form.name, why)
    return _tested(form.name, errors, reach, halves)


def _held_out_rule(name: str, X: Array, loss: Array) -> HeldOut:
    errors, reach = [], []
    for seen, hidden in _splits(X):
        if len(seen) < 3:
            continue
        predicted = Baseline.of(name, X[seen], loss[seen]).predict(X[hidden])
        errors.append(np.log(predicted / loss[hidden]))
        reach.append(log_budget(X[hidden]) - log_budget(X[seen]).max())
    if not errors:
        return _untested(name, "too few points")
    return _tested(name, errors, reach, [])


def _untested(name: str, why: str) -> HeldOut:
    return HeldOut(name, np.inf, np.empty(0), np.empty(0), np.empty(0), np.empty(0, dtype=int), why)


def _tested(name: str, errors: list[Array], reach: list[Array], halves: list[Array]) -> HeldOut:
    """Join the errors of all splits, one list entry per split."""
    joined = np.concatenate(errors)
    split = np.repeat(np.arange(len(errors)), [len(each) for each in errors])
    wide = np.concatenate(halves) if halves else np.empty(0)
    return HeldOut(name, float(np.abs(joined).mean()), joined, np.concatenate(reach), wide, split)


def _widened(law: FittedLaw, shown: HeldOut) -> FittedLaw:
    """Widen the intervals of a law until they cover the held-out points, because the law itself may be wrong.

    The held-out points of one split lie on the same side of a wrong law, at a distance that increases with reach.
    So the mean error of each split per mean reach is a bias of unknown sign; then the split that needs the wider
    intervals determines the factor.
    """
    if not len(shown.halves):
        return law
    usable = np.isfinite(shown.halves) & (shown.halves > 0)
    error, half, reach, split = (
        part[usable] for part in (shown.errors, shown.halves, shown.reach, shown.split)
    )
    groups = [split == one for one in np.unique(split)]
    bias = float(np.sqrt(np.mean([(error[g].mean() / max(reach[g].mean(), 1e-9)) ** 2 for g in groups])))
    ratios = np.abs(error) / np.hypot(half, norm.ppf(0.5 + LEVEL / 2) * bias * reach)
    needed = [float(np.quantile(ratios[g], LEVEL)) for g in groups]
    return replace(law, widening=max(1.0, *needed), bias=bias)
