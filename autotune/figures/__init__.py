"""The figures of a finished sweep: what each shows as a value, and the plotly figure that draws it.

`FIGURES` is the registry that the report walks, in its order; a new figure is a file here and an entry.
Every `plot_*` takes `SweepTables` and returns a `plotly.graph_objects.Figure`; where there is nothing to
show it returns a figure that says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go

from autotune.figures.forecast import plot_probe_forecast
from autotune.figures.front_plot import plot_front
from autotune.figures.hypervolume import plot_hypervolume
from autotune.figures.importance import plot_importance
from autotune.figures.parallel_coordinates import plot_parallel_coordinates
from autotune.figures.style import PALETTE, TEMPLATE, NothingToShowError
from autotune.figures.validation_curves import plot_curves
from autotune.results.sweep_tables import SweepTables


@dataclass(frozen=True)
class FigureEntry:
    """A figure of the report.

    Args:
        key: names its place in the page.
        heading: what the figure is about; its own title says what is seen.
        plot: draws it.
        reading: how to read it, a sentence or two.
    """

    key: str
    heading: str
    plot: Callable[[SweepTables], go.Figure]
    reading: str


FIGURES: tuple[FigureEntry, ...] = (
    FigureEntry(
        "front",
        "The front",
        plot_front,
        "One mark a complete trial. Pale ones are beaten: another is at least as good in everything and "
        "better in something. Open ones are beyond a limit. The line is the border of what is beaten. "
        "Dashes with bars are means over fresh seeds with their 95 % intervals: they are the values to "
        "believe. Arrows point to the better side.",
    ),
    FigureEntry(
        "hypervolume",
        "Progress",
        plot_hypervolume,
        "The share of the box between the ideal and the reference values that the front dominates, after "
        "each trial. A curve that has gone flat says that more trials of this kind would bring little.",
    ),
    FigureEntry(
        "parallel",
        "Configurations and objectives",
        plot_parallel_coordinates,
        "A line a complete trial. Parameters that a configuration does not have are on the level “not "
        "used”. Families that share the name of a knob share its axis. Drag along an axis to keep only "
        "some trials, drag a title to move the axis.",
    ),
    FigureEntry(
        "importance",
        "What mattered",
        plot_importance,
        "The share of the variance of the objective's rank that a random forest gives to each parameter "
        "alone (fANOVA). All trials are asked about the parameters that all of them have, families about "
        "their own knobs. Gray bars are not longer than noise could make them: what the parameter gets "
        "from shuffled scores, times the share of the variance that cannot be predicted on trials left "
        "out. It describes the trials that were run and is no proof of cause.",
    ),
    FigureEntry(
        "curves",
        "Validation curves",
        plot_curves,
        "Scores on validation data while each trial trained. Curves that still move at the right end say "
        "that longer training could change the order.",
    ),
    FigureEntry(
        "forecast",
        "With more data",
        plot_probe_forecast,
        "Points of the front, the cheapest first, trained on parts of the data with a seed of their own, "
        "and what their curves foretell of more. Intervals are of a new run there. What is foretold for ten "
        "times the data reaches as far beyond the curves as they reach back.",
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
]
