"""Which law to use: by how well each foretells the largest budgets from the smaller ones, never in-sample.

The points are ordered by budget. The largest fifth is hidden and then the largest third, at least two points each
time; every law and both baselines are fitted to the rest and predict what is hidden. The figure that decides is the
mean |log error| over the hidden points of both splits. A law that loses to a baseline there is not used: the
baseline predicts, with an interval of the errors that it made, and the result says so.
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
"""A law of fewer coefficients is preferred to one that is better by less than this factor."""


_LEAST = 1e-3
"""Half the width, in logarithms, of a baseline's interval at the least: a few hits in a row prove no certainty."""


@dataclass(frozen=True)
class HeldOut:
    """How one candidate foretold the hidden points: mean |log error|, and the errors with their reach [h].

    The reach is the logarithm of how far a point's budget lies beyond the largest one seen. A law that could not be
    fitted to the visible points has none, and `why` says why.
    """

    name: str
    error: float
    errors: Array
    reach: Array
    halves: Array
    """Half the width of the interval that the law gave, in log units; empty for a baseline."""
    split: Labels
    """[h], which of the splits a point was hidden in."""
    why: str = ""


@dataclass(frozen=True)
class Choice:
    """The laws tried on one set of points, and the one to use."""

    laws: dict[str, FittedLaw]
    held_out: tuple[HeldOut, ...]
    """From the best to the worst; those that could not be tested last."""
    chosen: str
    """The name of a law, or of a baseline that no law beat."""
    X: Array
    loss: Array

    @property
    def law(self) -> FittedLaw | None:
        """The law in use, or None where a baseline is."""
        return self.laws.get(self.chosen)

    @property
    def verdict(self) -> str:
        """One sentence: what is used and why."""
        errors = {one.name: one.error for one in self.held_out}
        best_rule = min((SLOPE, LAST), key=lambda name: errors.get(name, np.inf))
        rule = f"{100 * errors.get(best_rule, np.nan):.2f} % by the {best_rule}"
        if self.chosen in self.laws:
            own = errors[self.chosen]
            if not np.isfinite(own):
                return f"{self.chosen} is used untested: too few points to hide the largest budgets"
            return f"{self.chosen} foretells hidden budgets to {100 * own:.2f} %, against {rule}"
        best = min(self.laws, key=lambda name: errors.get(name, np.inf))
        return (
            f"no law is used: the best, {best}, misses hidden budgets by {100 * errors[best]:.2f} %, against {rule}, "
            f"which predicts instead"
        )

    def predict(self, X: Array, level: float = LEVEL) -> Prediction:
        """The loss at X [m, d], by the law in use or by the baseline that beat every law, with its interval."""
        X = np.atleast_2d(np.asarray(X, dtype=float))
        if self.law is not None:
            return self.law.predict(X, level)
        value = Baseline.of(self.chosen, self.X, self.loss).predict(X)
        shown = next(one for one in self.held_out if one.name == self.chosen)
        ahead = np.maximum(log_budget(X) - log_budget(self.X).max(), 0.0)
        # Errors of an extrapolation grow with its reach; one that is shorter than those tested gains nothing.
        rank = min(level * (len(shown.errors) + 1) / len(shown.errors), 1.0)
        width = max(float(np.quantile(np.abs(shown.errors), rank)), _LEAST)
        half = width * np.maximum(ahead / max(float(np.mean(shown.reach)), 1e-9), 1.0)
        return Prediction(value, value * np.exp(-half), value * np.exp(half), level)


def choose(X: Array, loss: Array, names: Sequence[str], level: float = LEVEL, insist: bool = False) -> Choice:
    """Fit every named form, test each by extrapolation, and say which to use.

    Args:
        X: [n, d], positive, columns as the forms' inputs say; all named forms have the same inputs.
        loss: [n], positive.
        names: of `FORMS`.
        level: of the intervals whose coverage of the hidden points widens them where it falls short.
        insist: use the best law even where a baseline is better.

    Raises:
        InvalidInputError: no named law can be identified from these points; says what to measure.
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
        raise InvalidInputError(Problem("law", "none was named", "Name one at least."))
    if not laws:  # what the least demanding law lacks is the shortest way to an answer
        raise refusals[min(names, key=lambda name: FORMS[name].size)]
    tested = [_held_out_law(FORMS[name], X, loss, level) for name in laws]
    tested += [_held_out_rule(name, X, loss) for name in (SLOPE, LAST)]
    tested.sort(key=lambda one: (not np.isfinite(one.error), one.error))
    laws = {one.name: _widened(laws[one.name], one) for one in tested if one.name in laws}
    return Choice(laws, tuple(tested), _winner(laws, tested, insist), X, loss)


def _winner(laws: dict[str, FittedLaw], tested: list[HeldOut], insist: bool) -> str:
    errors = {one.name: one.error for one in tested}
    best = min(errors[name] for name in laws)
    if not np.isfinite(best):  # untested, the simplest law is the least of the guesses
        return min(laws, key=lambda name: laws[name].form.size)
    close = [name for name in laws if errors[name] <= _TIE * best + 1e-12]
    law = min(close, key=lambda name: (laws[name].form.size, errors[name]))
    rule = min((SLOPE, LAST), key=lambda name: errors[name])
    return law if insist or not errors[rule] < errors[law] else rule


def _splits(X: Array) -> list[tuple[Labels, Labels]]:
    """(visible, hidden) rows. Points of one budget stay together, so that none is seen beside its like."""
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
    """From a list entry a split."""
    joined = np.concatenate(errors)
    split = np.repeat(np.arange(len(errors)), [len(each) for each in errors])
    wide = np.concatenate(halves) if halves else np.empty(0)
    return HeldOut(name, float(np.abs(joined).mean()), joined, np.concatenate(reach), wide, split)


def _widened(law: FittedLaw, shown: HeldOut) -> FittedLaw:
    """Intervals as wide as the hidden points needed them: a law's own know nothing of the law being wrong.

    Hidden points of one split lie on the same side of a law that is wrong, and further off the further ahead. So the
    mean error of each split, by its mean reach, is carried on as a bias of unknown sign; then the split that needs
    the wider intervals decides.
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
