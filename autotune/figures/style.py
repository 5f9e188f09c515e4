"""How figures look: one plotly template, one palette, one way to say that there is nothing to show."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import plotly.io as pio

from autotune.results.sweep_tables import SweepTables
from search_spaces.errors import AutotuneError

# Okabe and Ito (2008), less yellow and black, which fail on white; wine and olive from Tol (2021).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#999933")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "pentagon", "triangle-down")
SYMBOLS_3D = ("circle", "square", "diamond")
INK, MUTED, FAINT, GRID = "#1a2233", "#5d6778", "#b9c0cb", "#e9ecf1"
FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LINE = "#7c8798"
QUALITY_SCALE = ((0.0, "#d9dfe7"), (0.45, "#8fb8d8"), (0.75, "#1f7fbf"), (1.0, "#022f52"))
"""From pale to dark: the best stands out on white, and it also reads in gray."""
TEMPLATE = "autotune"


class NothingToShowError(AutotuneError, ValueError):
    """The results hold nothing that this figure could show; the message says why, for people."""


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
        # Upright, the tools do not lie on title and legend. The one that uploads a chart is removed.
        "modebar": {
            "orientation": "v",
            "bgcolor": "rgba(255,255,255,0)",
            "color": FAINT,
            "activecolor": INK,
            "remove": ["sendChartToCloud", "select2d", "lasso2d"],
        },
        "margin": {"l": 64, "r": 48, "t": 96, "b": 56},
        "hovermode": "closest",
    }
    return go.layout.Template(layout=layout)


pio.templates[TEMPLATE] = _template()


TITLE_ROOM = 44
"""Pixels of the top margin that the title takes."""


def finish(figure: go.Figure, title: str, height: int) -> go.Figure:
    """Put a figure into the house style, with a title that says what is seen."""
    figure.update_layout(template=TEMPLATE, height=height, title={"text": title, "pad": {"t": 18, "l": 14}})
    return figure


def message(title: str, reason: str) -> go.Figure:
    """A figure that says why there is nothing to see."""
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
) -> Callable[[Callable[[SweepTables], go.Figure]], Callable[[SweepTables], go.Figure]]:
    """Decorates a `plot_*` function: where there is `NothingToShowError`, it gives a figure that says why."""

    def decorate(plot: Callable[[SweepTables], go.Figure]) -> Callable[[SweepTables], go.Figure]:
        @functools.wraps(plot)
        def plot_or_say(results: SweepTables) -> go.Figure:
            try:
                return plot(results)
            except NothingToShowError as reason:
                return message(title, str(reason))

        return plot_or_say

    return decorate


def text(words: object) -> str:
    """Words from users inside plotly's little HTML: tags are shown, not obeyed."""
    return html.escape(str(words), quote=False)


def looks(groups: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """A color, a symbol and a symbol for three dimensions a group; no two groups share color and symbol.

    Color and symbol change together, so that either alone tells the first groups apart; 8 colors and
    7 symbols have no common divisor, so the pairs repeat only after 56 groups.
    """
    return {
        group: (PALETTE[i % len(PALETTE)], SYMBOLS[i % len(SYMBOLS)], SYMBOLS_3D[i % len(SYMBOLS_3D)])
        for i, group in enumerate(groups)
    }
