"""Costs of a search space: training and inference FLOPs over trainable parameters, one color per family."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from autotune.figures.style import finish, looks, text
from autotune.figures.trial_points import log_ticks, positions
from autotune.formatting.compact import short_config
from autotune.formatting.units import label, quantity, si
from autotune.spaces.costs import CostView

_DRAWN = 1_500
"""Marks per family; more would overlap."""
_PANELS = ("train_flops", "inference_flops")


def plot_space_costs(view: CostView) -> go.Figure:
    """Plot one mark per sampled configuration; FLOPs are shares of full fine-tuning."""
    figure = make_subplots(1, 2, horizontal_spacing=0.1)
    parameters = {family: costs["trainable_params"][:_DRAWN] for family, costs in view.costs.items()}
    every = np.concatenate(list(parameters.values()))
    positive = every[every > 0]
    edge = float(positive.min() / 3) if len(positive) and (every <= 0).any() else None
    for family, (color, symbol, _) in looks(list(view.costs)).items():
        hover = _hovers(view, family)
        for column, cost in enumerate(_PANELS, start=1):
            figure.add_trace(
                go.Scatter(
                    x=positions(parameters[family], edge), y=view.shares(family, cost)[:_DRAWN],
                    mode="markers", name=text(family), legendgroup=family, showlegend=column == 1,
                    marker={"color": color, "symbol": symbol, "size": 6, "opacity": 0.6},
                    hovertext=hover, hoverinfo="text",
                ),
                row=1, col=column,
            )  # fmt: skip
    ticks = log_ticks(positive) if len(positive) else []
    values, words = list(ticks), [si(tick) for tick in ticks]
    if edge is not None:
        values, words = [edge, *values], ["0", *words]
    figure.update_xaxes(
        title={"text": label("trainable_params")}, type="log", tickvals=values, ticktext=words
    )
    for column, cost in enumerate(_PANELS, start=1):
        title = f"{label(cost)}, share of full fine-tuning"
        figure.update_yaxes(title={"text": title}, tickformat="~%", rangemode="tozero", row=1, col=column)
    about = f"Costs of {text(view.name)} on {text(view.shape.model_type)} with {view.tokens} tokens per text"
    return finish(figure, about, 560)


def _hovers(view: CostView, family: str) -> list[str]:
    costs = view.costs[family]
    return [
        "<br>".join(
            [text(short_config(config)), *(f"{label(c)} {quantity(c, float(costs[c][i]))}" for c in costs)]
        )
        for i, config in enumerate(view.configs[family][:_DRAWN])
    ]
