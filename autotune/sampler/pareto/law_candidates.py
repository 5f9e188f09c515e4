"""Candidates along the cost axis: members of the front with another amount of training, scaled along laws.

In a space that searches the amount of training, the best value of another hyperparameter may depend on it. A local
search changes one or two parameters at a time, so it does not scale a whole configuration. Here one parameter that
sets the amount of training gets another value, and each ordered hyperparameter with a law hp*(cost)
(`surrogates.laws.search_laws`) moves along it. The acquisition function ranks the result like any other candidate.

Laws are fitted to the finished trials again each time their number has grown by a quarter. The slopes are stored with
the proposal, so that later proposals, in this process or another one, take the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.proposal import Proposer
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Parameter, Value
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    import pandas as pd

    from surrogates.laws.search_laws import ValueScale

Array = NDArray[np.float64]

_KEY = "laws"
"""Key of the slopes in the notes of a proposal."""
_GROWTH = 1.25
_MOST_LAWS = 6
"""Maximum number of laws; a fit takes about 0.3 seconds at 100 trials."""
_FRONT_POINTS = 8
_AMOUNTS = 4
"""Other amounts that each parameter takes in each front point."""
_COST, _LOSS = "cost ", "loss "
"""Columns beside those of the parameters, whose names have no spaces."""


def law_candidates(proposer: Proposer, front: Array) -> Array:
    """Return the encoded candidates, shape [l, d]; none where the study has no law or no parameter of the amount.

    Args:
        proposer: the study.
        front: encoded members of the front, shape [f, d].
    """
    setters = _amount_parameters(proposer.space)
    slopes = _slopes(proposer, front, setters)
    if not slopes:
        return np.empty((0, len(proposer.space)))
    points = proposer.space.decode(_spread_over_costs(proposer, front))
    moved = [
        config
        for point in points
        for parameter in setters
        if parameter.name in point
        for config in _moved(proposer, point, parameter, slopes)
    ]
    valid = [config for config in moved if not proposer.space.problems(config)]
    return proposer.columns.resolve(proposer.space.encode(valid), proposer.rng)


def keep_laws(proposer: Proposer) -> None:
    """Carry the slopes of the latest proposal over, for a proposal that does not use them."""
    if _KEY in proposer.memory:
        proposer.notes[_KEY] = proposer.memory[_KEY]


def _amount_parameters(space: SearchSpace) -> list[Parameter]:
    """Return the ordered parameters that set the amount of training and have several values."""
    from surrogates.laws.parameter_scales import SETS_COST  # imports pandas

    found = [space[name] for name in SETS_COST if name in space]
    return [each for each in found if not each.nominal and not each.distribution().single()]


def _slopes(proposer: Proposer, front: Array, setters: Sequence[Parameter]) -> Mapping[str, float]:
    """Return the expected slope of each law by the name of its hyperparameter: the remembered or the fitted ones."""
    history = proposer.history
    if not setters or proposer.trial_cost is None:
        return {}
    remembered = proposer.memory.get(_KEY)
    n = len(history.configs)
    if remembered is None or n >= _GROWTH * remembered["n"]:
        remembered = {"n": n, "slopes": _fitted(proposer, front, setters)}
    proposer.notes[_KEY] = dict(remembered)
    return cast("Mapping[str, float]", remembered["slopes"])


def _fitted(proposer: Proposer, front: Array, setters: Sequence[Parameter]) -> dict[str, float]:
    """Fit the laws of the hyperparameters that the front uses, and return their slopes."""
    from surrogates.laws.parameter_scales import SETS_COST
    from surrogates.laws.search_laws import FEWEST_TRIALS, SMALLEST_SPAN, SearchLaw, search_laws

    frame = _complete_trials(proposer)
    if len(frame) < FEWEST_TRIALS or frame[_COST].max() < SMALLEST_SPAN * frame[_COST].min():
        return {}
    known = [each for each in proposer.space.parameters if each.name in frame]
    scales = {each.name: _scale(each) for each in known if _has_numbers(each)}
    groups = [each.name for each in known if isinstance(each, Categorical) and _has_texts(each)]
    uses = dict(zip(proposer.space.names, (~np.isnan(front)).sum(axis=0).tolist(), strict=True))
    wanted = [name for name in scales if uses[name] and name not in {each.name for each in setters}]
    laws = search_laws(
        frame,
        _COST,
        _LOSS,
        scales,
        maximize=False,
        groups=groups,
        determine_cost=SETS_COST,
        only=sorted(wanted, key=lambda name: -uses[name])[:_MOST_LAWS],
    )
    return {law.name: round(law.expected_slope, 6) for law in laws if isinstance(law, SearchLaw)}


def _complete_trials(proposer: Proposer) -> pd.DataFrame:
    """Return the complete trials of positive cost, with the first uncertain objective as their loss."""
    import pandas as pd

    history, objectives = proposer.history, proposer.objectives
    frame = pd.DataFrame.from_records(history.configs)
    uncertain = [j for j in range(len(objectives)) if j not in objectives.known]
    if not uncertain or proposer.trial_cost is None:
        return frame.assign(**{_COST: 1.0, _LOSS: 0.0})[:0]
    j = uncertain[0]
    costs = proposer.trial_cost(history.configs)
    frame = frame.assign(**{_COST: costs, _LOSS: objectives.minimized(history.values[:, j], j)})
    return frame[np.isfinite(costs) & (costs > 0) & (history.variances[:, j] == 0)]


def _moved(
    proposer: Proposer, point: Configuration, setter: Parameter, slopes: Mapping[str, float]
) -> list[Configuration]:
    """Return a front point with other amounts of training, scaled along the laws."""
    assert proposer.trial_cost is not None
    units = proposer.rng.uniform(*setter.unit_range, size=_AMOUNTS)
    others = [{**point, setter.name: setter.from_unit(float(unit))} for unit in units]
    cost, *costs = proposer.trial_cost([point, *others]).tolist()
    return [
        _scaled(proposer.space, config, slopes, math.log(to / cost))
        for config, to in zip(others, costs, strict=True)
        if cost > 0 and to > 0 and to != cost
    ]


def _scaled(
    space: SearchSpace, config: Configuration, slopes: Mapping[str, float], log_ratio: float
) -> Configuration:
    """Return a configuration with its hyperparameters moved along their laws, within their ranges."""
    from surrogates.laws.search_laws import shifted

    moved = {
        name: _nearest(space[name], shifted(float(config[name]), _scale(space[name]), slope * log_ratio))
        for name, slope in slopes.items()
        if name in config
    }
    return {**config, **moved}


def _nearest(parameter: Parameter, value: float) -> Value:
    """Return the value of an ordered parameter that is nearest to a number on the parameter's scale."""
    if isinstance(parameter, Categorical):
        is_log = _scale(parameter) == "log"

        def distance(choice: Value) -> float:
            return abs(math.log(float(choice) / value)) if is_log else abs(float(choice) - value)

        return min(parameter.choices, key=distance)
    assert isinstance(parameter, Float | Int | Centered)
    return parameter.from_unit(parameter.to_unit(min(max(value, parameter.low), parameter.high)))


def _scale(parameter: Parameter) -> ValueScale:
    from surrogates.laws.parameter_scales import value_scale

    choices = parameter.choices if isinstance(parameter, Categorical) else ()
    return value_scale(parameter, np.array(choices, dtype=float))


def _has_numbers(parameter: Parameter) -> bool:
    """Return whether a parameter is ordered and has several numbers as its values."""
    if isinstance(parameter, Categorical):
        numbers = [not isinstance(choice, bool | str) for choice in parameter.choices]
        return parameter.ordered and all(numbers) and len(numbers) > 1
    return isinstance(parameter, Float | Int | Centered) and not parameter.distribution().single()


def _has_texts(parameter: Categorical) -> bool:
    return any(isinstance(choice, str) for choice in parameter.choices)


def _spread_over_costs(proposer: Proposer, front: Array) -> Array:
    """Return at most `_FRONT_POINTS` members of the front, evenly by the rank of their cost."""
    assert proposer.trial_cost is not None
    order = np.argsort(proposer.trial_cost(proposer.space.decode(front)), kind="stable")
    places = np.linspace(0, len(order) - 1, min(_FRONT_POINTS, len(order)))
    return front[order[np.round(places).astype(int)]]
