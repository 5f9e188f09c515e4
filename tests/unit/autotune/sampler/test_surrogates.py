"""The surrogate of the strategy `pareto`: by name, chosen automatically, and remembered by the study."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
import pytest

from autotune.sampler.pareto import surrogates
from autotune.sampler.pareto.surrogates import Data, SurrogateFits
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.strategies import STRATEGIES
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess
from surrogates.gaussian_processes.observations import WithinGroups
from surrogates.gaussian_processes.saas import SaasEnsemble


def data(n: int, columns: int = 3) -> Data:
    X = np.random.default_rng(n).random((n, columns))
    return Data(
        X=X,
        y=np.sin(3 * X[:, 0]),
        embedding=Embedding(np.zeros(columns, dtype=int)),
        extra_noise=np.zeros(n),
        replicates=np.ones(n),
        within=WithinGroups(),
    )


def test_names_are_those_of_the_registry() -> None:
    assert set(STRATEGIES["pareto"].surrogates) == {"auto", *surrogates._FITS}


def test_a_surrogate_by_name() -> None:
    assert isinstance(SurrogateFits("matern").fit(0, data(12)), GaussianProcess)
    saas = SurrogateFits("saas")
    assert isinstance(saas.fit(0, data(12)), SaasEnsemble)
    assert saas.notes == {}


def test_the_last_fit_is_where_the_next_one_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = SurrogateFits("matern")
    first.fit(1, data(80))
    starts: list[Any] = []
    fit = GaussianProcess.fit

    def spy(*arguments: Any, **named: Any) -> GaussianProcess:
        starts.append(named["start"])
        return fit(*arguments, **named)

    monkeypatch.setattr(GaussianProcess, "fit", spy)
    SurrogateFits("matern", memory=first.notes).fit(1, data(80))
    assert starts[0].as_list() == first.notes["hyperparameters"]["1"]


def test_surrogates_are_compared_when_the_study_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    leave_one_out = SaasEnsemble.leave_one_out

    def spy(self: SaasEnsemble) -> np.ndarray:
        compared.append(len(self.members[0].observations.y))
        return leave_one_out(self)

    monkeypatch.setattr(SaasEnsemble, "leave_one_out", spy)
    memory: dict[str, Any] = {}
    for n in (19, 20, 21, 29, 30, 31):
        fits = SurrogateFits("auto", memory)
        fits.fit(0, data(n))
        memory = fits.notes
    assert compared == [20, 30]
    record = memory["surrogates"]["0"]
    assert record["n"] == 30
    assert set(record["scores"]) == {"matern", "saas"}


def test_a_surrogate_that_predicts_better_is_chosen_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        GaussianProcess, "leave_one_out", lambda self: np.full(len(self.observations.y), -1.0)
    )
    monkeypatch.setattr(SaasEnsemble, "leave_one_out", lambda self: np.linspace(0.0, 0.1, 20))
    fits = SurrogateFits("auto")
    assert isinstance(fits.fit(0, data(20)), SaasEnsemble)
    assert fits.notes["surrogates"]["0"]["name"] == "saas"
    assert isinstance(SurrogateFits("auto", fits.notes).fit(0, data(22)), SaasEnsemble)


def test_many_observations_have_the_default_surrogate() -> None:
    memory = {"surrogates": {"0": {"name": "saas", "n": 90, "scores": {}}}}
    assert isinstance(SurrogateFits("auto", memory).fit(0, data(99)), SaasEnsemble)
    assert isinstance(SurrogateFits("auto", memory).fit(0, data(100)), GaussianProcess)


def test_the_study_records_the_choice() -> None:
    study = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=ParetoSampler(seed=0, n_startup=19, n_candidates=16, known_objectives={1: lambda c: c["y"]}),
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return (x - 0.3) ** 2 - y, y

    study.optimize(objective, n_trials=23)
    notes = [trial.system_attrs["autotune:proposal"] for trial in study.trials[20:]]
    assert [note["surrogates"]["0"]["n"] for note in notes] == [20, 20, 20]


@pytest.mark.parametrize(
    ("strategy", "surrogate", "message"),
    [
        ("pareto", "sas", "Did you mean 'saas'"),
        ("carbs", "saas", "this strategy has no"),
        ("autopeft", "matern", "this strategy has no"),
    ],
)
def test_messages(strategy: str, surrogate: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParetoSampler(strategy=strategy, surrogate=surrogate)
