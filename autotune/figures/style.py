"""Style of the figures: one plotly template, one palette, one placeholder for missing figures."""

from __future__ import annotations

import functools
import html
import textwrap
from collections.abc import Callable, Sequence
from typing import TypeVar

import plotly.graph_objects as go
import plotly.io as pio

from autotune.results.trial_tables import TrialTables
from search_spaces.errors import AutotuneError

# Okabe and Ito (2008), less yellow and black, which fail on white; wine and olive from Tol (2021).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#999933")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "pentagon", "triangle-down")
SYMBOLS_3D = ("circle", "square", "diamond")
INK, MUTED, FAINT, GRID = "#1a2233", "#5d6778", "#b9c0cb", "#e9ecf1"
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LINE = "#7c8798"
QUALITY_SCALE = ((0.0, "#d9dfe7"), (0.45, "#8fb8d8"), (0.75, "#1f7fbf"), (1.0, "#022f52"))
"""From light to dark, so that the best stands out on white and in grayscale."""
TEMPLATE = "autotune"
_TOP_MARGIN = 96
"""Pixels above the plot: a title of one line and a legend of one line."""


TablesT = TypeVar("TablesT", bound=TrialTables)


class NothingToShowError(AutotuneError, ValueError):
    """The results hold nothing that a figure could show; the message gives the reason."""


def _template() -> go.layout.Template:
    lines = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": FAINT,
        "showline": True,
        "ticks": "outside",
        "tickcolor": FAINT,
        "ticklen": 4,
        "title": {"font": {"size": 13, "color": MUTED}, "standoff": 8},
        "tickfont": {"size": 12, "color": MUTED},
        "automargin": True,
    }
    space = {"gridcolor": GRID, "backgroundcolor": "white", "linecolor": FAINT, "zeroline": False}
    layout = {
        "font": {"family": FONT, "size": 13, "color": INK},
        "title": {
            "font": {"size": 16, "color": INK},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "pad": {"l": 14},
            "y": 1,
            "yref": "container",
            "yanchor": "top",
        },
        "colorway": list(PALETTE),
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "xaxis": lines,
        "yaxis": lines,
        "scene": {"xaxis": space, "yaxis": space, "zaxis": space},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
            "title": {"text": ""},
            "bgcolor": "rgba(255,255,255,0)",
        },
        "hoverlabel": {
            "bgcolor": "white",
            "bordercolor": FAINT,
            "align": "left",
            "font": {"family": FONT, "size": 12, "color": INK},
        },
        # A vertical bar does not cover title and legend. The button that uploads a chart is removed.
        "modebar": {
            "orientation": "v",
            "bgcolor": "rgba(255,255,255,0)",
            "color": FAINT,
            "activecolor": INK,
            "remove": ["sendChartToCloud", "select2d", "lasso2d"],
        },
        "margin": {"l": 64, "r": 48, "t": _TOP_MARGIN, "b": 56},
        "hovermode": "closest",
    }
    return go.layout.Template(layout=layout)


pio.templates[TEMPLATE] = _template()


TITLE_LINE = 20
"""Pixels of the height and the top margin that each further line of a title takes."""
_TITLE_LETTERS = 84
"""Letters in a line of a title: what fits the narrowest usual figure, 700 pixels."""
TITLE_ROOM = 44
"""Pixels of the top margin that a title of one line takes."""


def finish(figure: go.Figure, title: str, height: int) -> go.Figure:
    """Apply the template, and set the height in pixels and a title that states the result."""
    lines = textwrap.wrap(title, _TITLE_LETTERS, break_long_words=False)
    further = TITLE_LINE * (len(lines) - 1)
    figure.update_layout(
        template=TEMPLATE,
        height=height + further,
        title={"text": "<br>".join(lines), "pad": {"t": 18, "l": 14}},
    )
    if further:
        figure.update_layout(margin_t=(figure.layout.margin.t or _TOP_MARGIN) + further)
    return figure


def message(title: str, reason: str) -> go.Figure:
    """Return a placeholder figure with the reason why there is nothing to show."""
    figure = finish(go.Figure(), title, height=200)
    figure.add_annotation(
        text=text(reason), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False,
        font={"size": 14, "color": MUTED},
    )  # fmt: skip
    figure.update_xaxes(visible=False).update_yaxes(visible=False)
    figure.update_layout(meta={"reason": reason})
    return figure


def says_why(
    title: str,
) -> Callable[[Callable[[TablesT], go.Figure]], Callable[[TablesT], go.Figure]]:
    """Decorate a `plot_*` function so that `NothingToShowError` becomes a placeholder with the reason."""

    def decorate(plot: Callable[[TablesT], go.Figure]) -> Callable[[TablesT], go.Figure]:
        @functools.wraps(plot)
        def plot_or_say(results: TablesT) -> go.Figure:
            try:
                return plot(results)
            except NothingToShowError as reason:
                return message(title, str(reason))

        return plot_or_say

    return decorate


def text(words: object) -> str:
    """Escape text from users for plotly, which interprets some HTML."""
    return html.escape(str(words), quote=False)


def looks(groups: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return a color, a symbol and a symbol for three dimensions per group.

    Color and symbol change together, so that either distinguishes the first groups; 8 colors and 7 symbols have no
    common divisor, so that a pair repeats only after 56 groups.
    """
    return {
        group: (PALETTE[i % len(PALETTE)], SYMBOLS[i % len(SYMBOLS)], SYMBOLS_3D[i % len(SYMBOLS_3D)])
        for i, group in enumerate(groups)
    }
