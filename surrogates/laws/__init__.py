"""Scaling laws: what larger budgets will bring, with intervals, and only where they beat simple rules.

    points = read_points(frame, ["params", "tokens"])        # columns guessed, values checked
    choice = choose(points.X, points.loss, ["chinchilla"])   # fitted, and tested by held-out extrapolation
    choice.predict([[7e9, 1.4e11]])                          # value, low, high

`extrapolate` continues learning curves, `fit_bowl` finds how the best learning rate and batch size move with scale,
`trends_along` reads hp*(cost) off a front, and `next_run` says what to measure.
"""

from surrogates.laws.curve_extrapolation import Forecast, extrapolate, last_value, slope_rule
from surrogates.laws.experimental_design import NextRun, next_run, outliers, require_identifiable
from surrogates.laws.fitting import FittedLaw, Prediction, bootstrap, fit_form
from surrogates.laws.functional_forms import FORMS, Form
from surrogates.laws.noisy_curve_extrapolation import FEWEST_POINTS, NoisyForecast, extrapolate_noisy
from surrogates.laws.observations import Points, guess_column, read_points
from surrogates.laws.optimal_hyperparameters import BowlLaw, Optimum, fit_bowl
from surrogates.laws.selection import Choice, choose
from surrogates.laws.trends import Trend, front_of, trends_along

__all__ = [
    "FEWEST_POINTS",
    "FORMS",
    "BowlLaw",
    "Choice",
    "FittedLaw",
    "Forecast",
    "Form",
    "NextRun",
    "NoisyForecast",
    "Optimum",
    "Points",
    "Prediction",
    "Trend",
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
    "slope_rule",
    "trends_along",
]
