"""The surrogate of each uncertain objective: the one that was asked for, or the one that predicts best.

`auto` compares the surrogates by leave-one-out predictive likelihood (`selection.choose`) when a study has 20
observations, and again each time it has half as many more than at the last comparison; in between, the choice stands.
From 100 observations on it uses the default: the ensemble takes several times as long, and that many observations
determine the lengthscales without its prior. The choice and the scores are stored with the trial that was proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, Hyperparameters
from surrogates.gaussian_processes.observations import WithinGroups
from surrogates.gaussian_processes.saas import SaasEnsemble
from surrogates.gaussian_processes.selection import Choice, choose

Array = NDArray[np.float64]
Surrogate = GaussianProcess | SaasEnsemble

_FIRST_COMPARISON = 20
_GROWTH = 1.5
_MANY = 100
"""Number of observations from which `auto` uses the default."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the surrogate of one objective is fitted to; see `GaussianProcess.fit`."""

    X: Array
    y: Array
    embedding: Embedding
    extra_noise: Array
    replicates: Array
    within: WithinGroups


def _matern(data: Data, start: Hyperparameters | None) -> GaussianProcess:
    return GaussianProcess.fit(**vars(data), start=start)


def _saas(data: Data, start: Hyperparameters | None) -> SaasEnsemble:
    return SaasEnsemble.fit(**vars(data))


def _bayesian_saas(data: Data, start: Hyperparameters | None) -> SaasEnsemble:
    from surrogates.gaussian_processes.saas_bayesian import fit_bayesian_saas

    return fit_bayesian_saas(**vars(data))


_FITS: dict[str, Callable[[Data, Hyperparameters | None], Surrogate]] = {
    "matern": _matern,
    "saas": _saas,
    "saas-bayesian": _bayesian_saas,
}
_COMPARED = ("matern", "saas")
"""Surrogates that `auto` compares, the default first; a fully Bayesian fit takes tens of seconds."""


@dataclass
class SurrogateFits:
    """Fits the surrogates of one proposal, with what an earlier proposal left for it.

    Args:
        name: name of the surrogate, or `auto`.
        memory: what the latest earlier proposal left in its notes.
        notes: what this proposal leaves for later ones, as JSON values.
    """

    name: str = "auto"
    memory: Mapping[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def fit(self, objective: int, data: Data) -> Surrogate:
        """Return the surrogate of an objective."""
        key = str(objective)
        numbers = self.memory.get("hyperparameters", {}).get(key)
        start = None if numbers is None else Hyperparameters.from_list(numbers)
        surrogate = (
            self._automatic(key, data, start) if self.name == "auto" else _FITS[self.name](data, start)
        )
        if isinstance(surrogate, GaussianProcess):
            self.notes.setdefault("hyperparameters", {})[key] = surrogate.hyperparameters.as_list()
        return surrogate

    def _automatic(self, key: str, data: Data, start: Hyperparameters | None) -> Surrogate:
        earlier = self.memory.get("surrogates", {}).get(key)
        n = len(data.y)
        if n >= _MANY:
            return _FITS[_COMPARED[0]](data, start)
        due = _FIRST_COMPARISON if earlier is None else _GROWTH * earlier["n"]
        if n < due:
            if earlier is not None:
                self._note(key, earlier)
            return _FITS[_COMPARED[0] if earlier is None else earlier["name"]](data, start)
        fitted = {name: _FITS[name](data, start) for name in _COMPARED}
        choice = choose({name: surrogate.leave_one_out() for name, surrogate in fitted.items()})
        self._note(key, _as_json(choice))
        return fitted[choice.name]

    def _note(self, key: str, choice: Mapping[str, Any]) -> None:
        self.notes.setdefault("surrogates", {})[key] = dict(choice)


def _as_json(choice: Choice) -> dict[str, Any]:
    scores = {name: round(score, 4) for name, score in choice.scores.items()}
    return {"name": choice.name, "scores": scores, "n": choice.n}
