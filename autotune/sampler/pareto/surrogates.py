"""The surrogate of each uncertain objective: the one that was asked for, or the one that predicts best.

`auto` compares the surrogates by leave-one-out predictive likelihood (`selection.choose`) when a study has 20
observations, and again each time it has half as many more than at the last comparison; in between, the choice stands.
From 100 observations on it uses the default: the ensemble takes several times as long, and that many observations
determine the lengthscales without its prior. The choice and the scores are stored with the trial that was proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autotune.sampler.sources import SourceTrust
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, Hyperparameters, PriorMean
from surrogates.gaussian_processes.mixture import Mixture
from surrogates.gaussian_processes.observations import WithinGroups
from surrogates.gaussian_processes.ranking_ensemble import Ranking, ranking_ensemble
from surrogates.gaussian_processes.saas import SaasEnsemble
from surrogates.gaussian_processes.selection import Choice, choose

Array = NDArray[np.float64]
Surrogate = GaussianProcess | Mixture

_FIRST_COMPARISON = 20
_GROWTH = 1.5
_MANY = 100
"""Number of observations from which `auto` uses the default."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the surrogate of one objective is fitted to; see `GaussianProcess.fit`.

    `sources` are processes of the same objective of other studies by name.
    """

    X: Array
    y: Array
    embedding: Embedding
    extra_noise: Array
    replicates: Array
    within: WithinGroups
    sources: Mapping[str, GaussianProcess] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the fit of a process."""
        return {name: value for name, value in vars(self).items() if name != "sources"}


def _matern(data: Data, start: Hyperparameters | None) -> GaussianProcess:
    return GaussianProcess.fit(**data.arguments(), start=start)


def _saas(data: Data, start: Hyperparameters | None) -> SaasEnsemble:
    return SaasEnsemble.fit(**data.arguments())


def _bayesian_saas(data: Data, start: Hyperparameters | None) -> SaasEnsemble:
    from surrogates.gaussian_processes.saas_bayesian import fit_bayesian_saas

    return fit_bayesian_saas(**data.arguments())


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
        trust: how far sources inform each objective that was fitted, by its index.
    """

    name: str = "auto"
    memory: Mapping[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    trust: dict[int, SourceTrust] = field(default_factory=dict)

    def fit(self, objective: int, data: Data) -> Surrogate:
        """Return the surrogate of an objective, informed by the sources."""
        key = str(objective)
        own = self._own(key, data)
        if not data.sources:
            return own
        names, processes = list(data.sources), list(data.sources.values())
        features = torch.as_tensor(data.embedding.features(data.X), dtype=torch.double)

        def informed(i: int, prior_mean: PriorMean) -> GaussianProcess:
            start = self._start(f"{key}:{names[i]}")
            process = GaussianProcess.fit(**data.arguments(), prior_mean=prior_mean, start=start)
            self._keep(f"{key}:{names[i]}", process)
            return process

        ensemble, ranking = ranking_ensemble(own, processes, informed, features, data.y)
        self.trust[objective] = _trust(names, ranking)
        self.notes.setdefault("sources", {})[key] = asdict(self.trust[objective])
        return ensemble

    def _fit(self, name: str, key: str, data: Data) -> Surrogate:
        surrogate = _FITS[name](data, self._start(key))
        if isinstance(surrogate, GaussianProcess):
            self._keep(key, surrogate)
        return surrogate

    def _start(self, key: str) -> Hyperparameters | None:
        numbers = self.memory.get("hyperparameters", {}).get(key)
        return None if numbers is None else Hyperparameters.from_list(numbers)

    def _keep(self, key: str, process: GaussianProcess) -> None:
        self.notes.setdefault("hyperparameters", {})[key] = process.hyperparameters.as_list()

    def _own(self, key: str, data: Data) -> Surrogate:
        """Return the surrogate of an objective without the sources."""
        if self.name != "auto":
            return self._fit(self.name, key, data)
        earlier = self.memory.get("surrogates", {}).get(key)
        n = len(data.y)
        default = _COMPARED[0]
        if n >= _MANY:
            return self._fit(default, key, data)
        due = _FIRST_COMPARISON if earlier is None else _GROWTH * earlier["n"]
        if n < due:
            if earlier is not None:
                self._note(key, earlier)
            name = default if earlier is None else earlier["name"]
            return self._fit(name, key, data)
        fitted = {name: self._fit(name, key, data) for name in _COMPARED}
        choice = choose({name: surrogate.leave_one_out() for name, surrogate in fitted.items()})
        self._note(key, _as_json(choice))
        return fitted[choice.name]

    def _note(self, key: str, choice: Mapping[str, Any]) -> None:
        self.notes.setdefault("surrogates", {})[key] = dict(choice)


def _as_json(choice: Choice) -> dict[str, Any]:
    scores = {name: round(score, 4) for name, score in choice.scores.items()}
    return {"name": choice.name, "scores": scores, "n": choice.n}


def _trust(names: Sequence[str], ranking: Ranking) -> SourceTrust:
    agreement = [None if np.isnan(value) else round(float(value), 3) for value in ranking.agreement]
    weights = [round(float(weight), 3) for weight in ranking.weights]
    return SourceTrust(
        n=ranking.n,
        own=round(ranking.own, 3),
        weights=dict(zip(names, weights, strict=True)),
        agreement=dict(zip(names, agreement, strict=True)),
        dropped=[name for name, is_bad in zip(names, ranking.is_dropped, strict=True) if is_bad],
    )
