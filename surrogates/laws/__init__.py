"""Scaling laws: predictions for larger budgets, with intervals, used only if they are better than baselines.

    points = read_points(frame, ["params", "tokens"])        # columns guessed, values validated
    choice = choose(points.X, points.loss, ["chinchilla"])   # fitted, and validated by held-out extrapolation
    choice.predict([[7e9, 1.4e11]])                          # value, low, high

`extrapolate` extrapolates learning curves, `fit_bowl` fits the best learning rate and batch size over scales,
`search_laws` the best value of every hyperparameter over cost from the trials of a search, and `trends_along` the
hyperparameters of a front. `next_run` proposes the next measurement. `advise` evaluates published laws of the
learning rate and the batch size, which need no measurements.
"""

from surrogates.laws.curve_extrapolation import Forecast, extrapolate, last_value, slope_rule
from surrogates.laws.experimental_design import NextRun, next_run, outliers, require_identifiable
from surrogates.laws.fitting import FittedLaw, Prediction, bootstrap, fit_form
from surrogates.laws.functional_forms import FORMS, Form
from surrogates.laws.noisy_curve_extrapolation import FEWEST_POINTS, NoisyForecast, extrapolate_noisy
from surrogates.laws.observations import Points, guess_column, read_points
from surrogates.laws.optimal_hyperparameters import BowlLaw, Optimum, fit_bowl
from surrogates.laws.published import Advice, advise
from surrogates.laws.search_laws import NoLaw, SearchLaw, search_laws
from surrogates.laws.selection import Choice, choose
from surrogates.laws.trends import Trend, front_of, trends_along

__all__ = [
    "FEWEST_POINTS",
    "FORMS",
    "Advice",
    "BowlLaw",
    "Choice",
    "FittedLaw",
    "Forecast",
    "Form",
    "NextRun",
    "NoLaw",
    "NoisyForecast",
    "Optimum",
    "Points",
    "Prediction",
    "SearchLaw",
    "Trend",
    "advise",
    "bootstrap",
    "choose",
    "extrapolate",
    "extrapolate_noisy",
    "fit_bowl",
    "fit_form",
    "front_of",
    "guess_column",
    "last_value",
    "next_run",
    "outliers",
    "read_points",
    "require_identifiable",
    "search_laws",
    "slope_rule",
    "trends_along",
]
