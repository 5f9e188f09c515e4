"""The parameters of preference losses, which are in the space of a sweep on preference pairs.

`beta` is the strength with which a loss separates the answers of a pair, and `margin` the gap that SimPO asks for. A
space has the ranges of the task's loss. A space that is read without a task has those that it names.
"""

from __future__ import annotations

from collections.abc import Mapping

from search_spaces.parameters.types import Float, Parameter

BETA, MARGIN = "beta", "margin"
DEFAULT_LOSS = "dpo"
"""The loss of a task on preference pairs that names none."""

_OF_RATIOS = Float(name=BETA, low=0.01, high=1.0, log=True, default=0.1)
"""Around 0.1, the usual value (Rafailov et al., 2023, arXiv 2305.18290), also of IPO and KTO."""
_OF_MEANS = Float(name=BETA, low=1.0, high=10.0, log=True, default=2.0)
"""SimPO's rewards are means per token, so its beta is larger (Meng et al., 2024, arXiv 2405.14734, table 7)."""
_OF_ODDS = Float(name=BETA, low=0.03, high=1.0, log=True, default=0.1)
"""The weight of ORPO's odds ratio beside the loss of the better answer (Hong et al., 2024, arXiv 2403.07691)."""

LOSS_PARAMETERS: Mapping[str, tuple[Parameter, ...]] = {
    "dpo": (_OF_RATIOS,),
    "ipo": (_OF_RATIOS,),
    "kto": (_OF_RATIOS,),
    "simpo": (_OF_MEANS, Float(name=MARGIN, low=0.0, high=3.0, default=1.0)),
    "orpo": (_OF_ODDS,),
}
"""The parameters of each loss."""

ON_PREFERENCES: dict[str, str] = {
    BETA: "It is a parameter of sweeps with task.type preference.",
    MARGIN: "It is a parameter of sweeps with task.type preference and loss: simpo.",
}
"""The parameters, with the task that brings them."""


def loss_parameters(entries: Mapping[str, object], loss: str | None) -> tuple[Parameter, ...]:
    """Return the parameters of a preference loss, or without one those that a space names.

    Args:
        entries: the entry `parameters` of the space file, by parameter name.
        loss: the loss of the sweep's task, if it is on preference pairs.
    """
    if loss is not None:
        return LOSS_PARAMETERS[loss]
    known = {parameter.name: parameter for found in LOSS_PARAMETERS.values() for parameter in found}
    return tuple(known[name] for name in ON_PREFERENCES if name in entries)
