"""The figures of a sweep: each computes what it shows as a value first, and then draws it with plotly.

`FIGURES` is the registry of the figures in the report, in its order; a new figure is a module here and an entry.
Every `plot_*` function takes `TrialTables` (`plot_probe_forecast`: those of a sweep) and returns a
`plotly.graph_objects.Figure`. If there is nothing to show, the figure contains the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from autotune.figures.forecast import plot_probe_forecast
from autotune.figures.front_plot import plot_front
from autotune.figures.hypervolume import plot_hypervolume
from autotune.figures.importance import plot_importance
from autotune.figures.parallel_coordinates import plot_parallel_coordinates
from autotune.figures.search_laws import plot_search_laws
from autotune.figures.style import PALETTE, TEMPLATE, NothingToShowError
from autotune.figures.validation_curves import plot_curves


@dataclass(frozen=True)
class FigureEntry:
    """A figure of the report.

    Args:
        key: its identifier in the page.
        heading: its subject; the figure's own title states the result.
        plot: the function that draws it.
        reading: how to read it, in a few sentences.
    """

    key: str
    heading: str
    plot: Callable[[Any], go.Figure]
    reading: str


FIGURES: tuple[FigureEntry, ...] = (
    FigureEntry(
        "front",
        "The front",
        plot_front,
        "One mark per complete trial. Dominated trials are faded: another trial is at least as good in every "
        "objective and better in one. Open marks are outside a hard limit. The line is the Pareto front. Dashes "
        "with bars are means over fresh seeds with their 95 % intervals; use them instead of the search values, "
        "which selection makes too good. Arrows point to the better side.",
    ),
    FigureEntry(
        "hypervolume",
        "Progress",
        plot_hypervolume,
        "The share of the box between the ideal and the reference values that the search values dominate, or the "
        "best value of a single objective, after each trial. If the curve is flat at its end, more trials in this "
        "space would bring little.",
    ),
    FigureEntry(
        "parallel",
        "Configurations and objectives",
        plot_parallel_coordinates,
        "One line per complete trial. Parameters that a configuration does not have are on the level “not "
        "used”. Families with a parameter of the same name share its axis. Drag along an axis to filter the "
        "trials; drag a title to move the axis.",
    ),
    FigureEntry(
        "importance",
        "Importance of the parameters",
        plot_importance,
        "The share of the variance of the objective's rank that a random forest attributes to each parameter "
        "by itself (fANOVA). Shared parameters are analyzed over all trials, and a family's own parameters over "
        "its trials. Gray bars are within the noise level: the importance of the parameter for shuffled scores, "
        "times the share of the variance that the forest does not predict on held-out trials. Importance "
        "describes the trials of this sweep; it does not prove a cause.",
    ),
    FigureEntry(
        "curves",
        "Validation curves",
        plot_curves,
        "Scores on validation data during the training of each trial. If curves still change at the right "
        "end, longer training could change the order.",
    ),
    FigureEntry(
        "forecast",
        "With more data",
        plot_probe_forecast,
        "Points of the front, the cheapest first, trained on subsets of the data with a separate seed, and the "
        "extrapolation of their learning curves. Intervals are prediction intervals for one new run. The "
        "forecast for ten times the data extrapolates as far as the measured curves extend.",
    ),
    FigureEntry(
        "laws",
        "Best hyperparameters by cost",
        plot_search_laws,
        "One panel per hyperparameter whose best value can be estimated as a function of cost, and one mark per "
        "complete trial; darker marks are better than others of a similar cost. The line is the estimate of the best "
        "value, dashed beyond the most expensive trial, and the band its 80 % interval. All trials inform it, not "
        "only the front.",
    ),
)

__all__ = [
    "FIGURES",
    "PALETTE",
    "TEMPLATE",
    "FigureEntry",
    "NothingToShowError",
    "plot_curves",
    "plot_front",
    "plot_hypervolume",
    "plot_importance",
    "plot_parallel_coordinates",
    "plot_probe_forecast",
    "plot_search_laws",
]
