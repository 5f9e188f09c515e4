"""Laws hp*(cost) of a sweep: the best value of each ordered hyperparameter over cost, from all its finished trials.

Costs are those of the full training of a configuration: the training FLOPs, or the second objective if that one is a
cost and spans more. The scale of a hyperparameter is that of the search space. If each family has its own learning
rate, a pooled law of multiples of each family's typical rate is fitted too, since a family may have few trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from autotune.objectives import KNOWN_COSTS, is_cost
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import complete_trials, quality
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.language.loader import load_space
from surrogates.laws import NoLaw, SearchLaw, search_laws
from surrogates.laws.parameter_scales import SETS_COST, value_scale
from surrogates.laws.search_laws import ValueScale

FLOPS = "train_flops"
POOLED_RATE = "learning_rate (all families)"
"""Name of the pooled law, whose values are multiples of the geometric mean of a family's rates."""
TENFOLD = 10.0
_PREFIX = "param."


@dataclass(frozen=True)
class SweepLaws:
    """The laws of a sweep.

    Args:
        cost: name of the cost.
        why_cost: why it is that cost, in a clause.
        costs: smallest and largest cost of the finished trials; NaN without trials.
        laws: one entry per ordered hyperparameter with more than one value.
        trials: number of finished trials of positive cost.
        left_out: number of finished trials of cost 0, which have no logarithm.
    """

    cost: str
    why_cost: str
    costs: tuple[float, float]
    laws: tuple[SearchLaw | NoLaw, ...]
    trials: int
    left_out: int

    @property
    def span(self) -> float:
        """Ratio of the largest to the smallest cost."""
        return self.costs[1] / self.costs[0]

    @property
    def found(self) -> list[SearchLaw]:
        """The hyperparameters that have a law."""
        return [law for law in self.laws if isinstance(law, SearchLaw)]

    def law_of(self, name: str) -> SearchLaw | NoLaw | None:
        """Return the law of a hyperparameter; of a family's learning rate without one, the pooled law."""
        by_name = {law.name: law for law in self.laws}
        own = by_name.get(name)
        if isinstance(own, NoLaw) and name.endswith(".learning_rate"):
            pooled = by_name.get(POOLED_RATE)
            return pooled if isinstance(pooled, SearchLaw) else own
        return own


def laws_of_sweep(results: SweepTables, cost: str | None = None) -> SweepLaws:
    """Fit the laws of a sweep.

    Args:
        results: the sweep.
        cost: name of the cost; by default the training FLOPs, or the cost objective if it spans more.

    Raises:
        InvalidInputError: `cost` is not a cost of the sweep.
    """
    trials = complete_trials(results)
    cost, why = _chosen_cost(results, trials, cost)
    values = _costs(trials, cost)
    rows = trials[np.isfinite(values) & (values > 0)]
    frame = pd.DataFrame({name.removeprefix(_PREFIX): rows[name] for name in rows if _is_parameter(name)})
    scales = _scales(results.sweep, frame)
    groups = [str(name) for name in frame if name not in scales and _is_choice(frame[name])]
    objective = quality(results)
    frame = frame.assign(
        **{"cost ": _costs(rows, cost), "loss ": np.asarray(objective.loss(rows[objective.name]))}
    )
    laws: list[SearchLaw | NoLaw] = []
    if len(rows):
        laws = search_laws(
            frame, "cost ", "loss ", scales, maximize=False, groups=groups, determine_cost=SETS_COST
        )
        laws += _pooled(frame, scales, groups)
    known = frame["cost "]
    ends = (float(known.min()), float(known.max())) if len(rows) else (float("nan"), float("nan"))
    return SweepLaws(cost, why, ends, tuple(laws), len(rows), len(trials) - len(rows))


def _is_parameter(name: Any) -> bool:
    return str(name).startswith(_PREFIX)


def _costs(trials: pd.DataFrame, cost: str) -> np.ndarray:
    column = cost if cost in trials else f"cost.{cost}"
    return np.asarray(pd.to_numeric(trials[column], errors="coerce"), dtype=float)


def _span(trials: pd.DataFrame, cost: str) -> float:
    values = _costs(trials, cost)
    values = values[np.isfinite(values) & (values > 0)]
    return float(values.max() / values.min()) if len(values) else 1.0


def _chosen_cost(results: SweepTables, trials: pd.DataFrame, cost: str | None) -> tuple[str, str]:
    """Return the cost and the reason for it."""
    objectives = [objective.name for objective in results.objectives if is_cost(objective.name)]
    recorded = [name for name in KNOWN_COSTS if f"cost.{name}" in trials]
    names = list(dict.fromkeys([*objectives, *recorded]))
    if cost is not None:
        if cost not in names:
            what = f"{cost!r} is not a cost of the sweep"
            raise InvalidInputError(Problem("--cost", what, did_you_mean(cost, names)))
        return cost, "chosen by --cost"
    if FLOPS not in names:
        return (objectives or names or [FLOPS])[0], "the cost objective"
    flops = _span(trials, FLOPS)
    others = [name for name in objectives[:1] if name != FLOPS]
    if others and (other := _span(trials, others[0])) > flops:
        return others[0], f"it spans a factor of {other:.3g}, {FLOPS} one of {flops:.3g}"
    if others:
        return FLOPS, f"it spans a factor of {flops:.3g}, {others[0]} one of {_span(trials, others[0]):.3g}"
    return FLOPS, "the default"


def _scales(sweep: Sweep, frame: pd.DataFrame) -> dict[str, ValueScale]:
    """Return the scale of each ordered hyperparameter of which the trials have several values."""
    known = {each.name: each for each in load_space(sweep.space, loss=sweep.task.loss).space.parameters}
    found: dict[str, ValueScale] = {}
    for name in frame:
        values = frame[name].dropna()
        if values.nunique() < 2 or values.map(lambda value: isinstance(value, bool | str)).any():
            continue
        found[str(name)] = value_scale(known.get(str(name)), np.asarray(values, dtype=float))
    return found


def _is_choice(column: pd.Series) -> bool:
    values = column.dropna()
    return len(values) > 0 and bool(values.map(lambda value: isinstance(value, str)).all())


def _pooled(frame: pd.DataFrame, scales: dict[str, ValueScale], groups: list[str]) -> list[SearchLaw | NoLaw]:
    """Return the pooled law of the learning rates of several families; none if there is one."""
    rates = [name for name in scales if name.endswith(".learning_rate")]
    if len(rates) < 2:
        return []
    logs = np.log(frame[rates].astype(float))
    multiples = np.exp((logs - logs.mean()).bfill(axis=1).iloc[:, 0])
    shared: dict[str, ValueScale] = {name: scale for name, scale in scales.items() if "." not in name}
    return search_laws(
        frame.assign(**{POOLED_RATE: multiples}), "cost ", "loss ", {**shared, POOLED_RATE: "log"}, maximize=False,
        groups=groups, determine_cost=SETS_COST, only=[POOLED_RATE],
    )  # fmt: skip
