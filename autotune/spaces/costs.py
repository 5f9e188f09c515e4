"""Costs of a search space before any training, for `autotune cost`.

Costs are per training example and per inference, so that they need no data set: an epoch over n examples costs n
times as much. Shares are relative to full fine-tuning on the same tokens, which trains and stores every parameter,
the head included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autotune.formatting.units import label, quantity
from autotune.spaces.summary import families_of, of_family
from autotune.spaces.tables import share_text
from autotune.spaces.task_forms import TaskForm
from search_spaces.costs.cost_model import BYTES_PER_NUMBER, KNOWN_COSTS, CostModel
from search_spaces.costs.workload import Workload
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
_STRIP = 24
"""Characters of the range strip of a family in the terminal."""


@dataclass(frozen=True)
class CostView:
    """Costs of random configurations of a space.

    Args:
        name: of the space.
        shape: of the model.
        tokens: per text.
        configs: the random configurations, by family.
        costs: by family and then by the name of a cost, an array over the family's configurations.
        full: the costs of full fine-tuning, by name.
        texts: per training example.
    """

    name: str
    shape: ModelShape
    tokens: int
    configs: dict[str, list[Configuration]]
    costs: dict[str, dict[str, NDArray[np.float64]]]
    full: dict[str, float]
    texts: int = 1

    def shares(self, family: str, cost: str) -> NDArray[np.float64]:
        """Return the costs of a family's configurations relative to full fine-tuning."""
        return self.costs[family][cost] / self.full[cost]


def view_costs(
    name: str,
    space: SearchSpace,
    shape: ModelShape,
    tokens: int,
    samples: int,
    form: TaskForm | None = None,
) -> CostView:
    """Compute the costs of random configurations of each family.

    Args:
        name: of the space.
        space: bound to the model.
        shape: of the model.
        tokens: per text; ignored for images, which have one token per patch and one for the class.
        samples: the number of configurations per family.
        form: of the task; by default one text per example, as in the task of the shape.
    """
    tokens = shape.patches + 1 if shape.patches else tokens
    form = form or TaskForm(shape.task)
    work = Workload(tokens, tokens**2, train_samples=1, rows=form.rows, has_reference=form.has_reference)
    model = CostModel(shape, shape.task, work)
    rng = np.random.default_rng(0)
    configs, costs = {}, {}
    for family in families_of(space):
        columns = of_family(space, family)
        drawn = columns.configurations(columns.random(samples, rng))
        table = model.many([_one_example(config) for config in drawn])
        configs[family] = drawn
        costs[family] = {cost: np.asarray(getattr(table, cost), dtype=float) for cost in KNOWN_COSTS}
    return CostView(name, shape, tokens, configs, costs, _full_fine_tuning(model), form.rows)


def _one_example(config: Configuration) -> Configuration:
    """Return a configuration whose training is one pass over the example of the workload."""
    return {name: value for name, value in config.items() if name != TRAIN_SAMPLES.name} | {"epochs": 1}


def _full_fine_tuning(model: CostModel) -> dict[str, float]:
    parameters = model.shape.base_parameters + model.shape.head_parameters
    return {
        "trainable_params": float(parameters),
        "stored_bytes": float(BYTES_PER_NUMBER * parameters),
        "train_flops": model.full_fine_tuning_flops(),
        "inference_flops": model({"family": "full"}).inference_flops,
    }


def costs_json(view: CostView) -> dict[str, Any]:
    """Return quantiles of every cost by family, absolute and relative, as values that JSON can represent."""
    return {
        "space": view.name,
        "tokens": view.tokens,
        "texts": view.texts,
        "full_fine_tuning": view.full,
        "families": {
            family: {
                "configurations": len(view.configs[family]),
                **{
                    cost: {
                        "absolute": _quantiles(values),
                        "share": _quantiles(view.shares(family, cost)),
                    }
                    for cost, values in costs.items()
                },
            }
            for family, costs in view.costs.items()
        },
    }


def costs_tables(view: CostView) -> RenderableType:
    """Return one table per cost, with the family of the lowest median first."""
    parts: list[RenderableType] = []
    for cost in KNOWN_COSTS:
        parts += [_cost_table(view, cost), Text()]
    example = "example" if view.texts == 1 else f"example of {view.texts} texts"
    parts.append(
        Text(
            f"Costs per training {example} and per inference, with {view.tokens} tokens per text; percentages are "
            "relative to full fine-tuning.\nStrips: ─ all configurations, █ the middle half, on one scale per table.",
            style="dim",
        )
    )
    return Group(*parts)


def _cost_table(view: CostView, cost: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", title_justify="left", title_style="bold")
    table.title = f"{label(cost)} (full fine-tuning: {quantity(cost, view.full[cost])})"
    table.add_column("family", no_wrap=True)
    for heading in ("min", "median", "max", "min", "median", "max"):
        table.add_column(heading, justify="right", no_wrap=True)
    values = {family: view.shares(family, cost) for family in view.costs}
    low, high, logarithmic = _scale(np.concatenate(list(values.values())))
    table.add_column(f"{share_text(low)} to {share_text(high)}{', log' if logarithmic else ''}", no_wrap=True)
    for family, shares in sorted(values.items(), key=lambda item: float(np.median(item[1]))):
        quantiles = _quantiles(shares)
        cells = [quantity(cost, q * view.full[cost]) for q in _ends(quantiles)]
        cells += [share_text(q) for q in _ends(quantiles)]
        table.add_row(family, *cells, strip(list(quantiles.values()), low, high, logarithmic))
    return table


def strip(quantiles: list[float], low: float, high: float, logarithmic: bool, width: int = _STRIP) -> str:
    """Draw five quantiles as text, such as `  ──███──── `.

    Args:
        quantiles: minimum, lower quartile, median, upper quartile, maximum.
        low: the value at the left end; smaller values are drawn there.
        high: the value at the right end.
        logarithmic: whether the scale is logarithmic.
        width: characters of the text.
    """

    def place(value: float) -> int:
        if high <= low:
            return 0
        if logarithmic:
            share = math.log(max(value, low) / low) / math.log(high / low)
        else:
            share = (value - low) / (high - low)
        return min(max(round(share * (width - 1)), 0), width - 1)

    first, lower, _, upper, last = map(place, quantiles)
    marks = ["─" if first <= i <= last else " " for i in range(width)]
    marks[lower : upper + 1] = "█" * (upper + 1 - lower)
    return "".join(marks)


def _scale(values: NDArray[np.float64]) -> tuple[float, float, bool]:
    """Return the ends of a common scale, and whether it is logarithmic: if the costs span a factor of ten or more."""
    positive = values[values > 0]
    if len(positive) and positive.max() >= 10 * positive.min():
        return float(positive.min()), float(positive.max()), True
    return float(values.min()), float(values.max()), False


def _quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values())).tolist(), strict=True))


def _ends(quantiles: dict[str, float]) -> tuple[float, float, float]:
    return quantiles["min"], quantiles["median"], quantiles["max"]
