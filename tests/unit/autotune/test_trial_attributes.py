"""Trial attributes: what is written is read, under keys that never change, and in one place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import autotune
from autotune.ledger.optuna_storage import TrialWriter, open_storage
from autotune.trial_attributes import Attributes, RungResult, RungValues, TrialAttributes, stored
from trials.records import TrialResult, TrialStatus

RESULT = TrialResult(TrialStatus.PAUSED, metrics={"accuracy": 0.5}, seconds=2.0)


def read(state: TrialState = TrialState.FAIL, **attributes) -> TrialAttributes:
    plain = json.loads(json.dumps(stored(**attributes)))
    return TrialAttributes(create_trial(state=state, user_attrs=plain))


def test_the_keys_are_those_that_folders_hold() -> None:
    assert set(Attributes.__annotations__) == {
        *(
            "status",
            "values",
            "result",
            "costs",
            "baselines",
            "elapsed",
            "seed",
            "tries",
            "rungs",
            "first_rung",
            "origin",
        ),
        *("trial", "fidelity", "error", "failed_cost"),
        *("probe", "examples", "tokens", "params", "learning_rate", "batch_size"),
    }


def test_what_is_written_is_read() -> None:
    rungs = [RungResult(0, 0.25, RESULT)]
    attributes = read(
        status=TrialStatus.FAILED, result=RESULT, rungs=rungs, values=[1.0], costs={"train_flops": 2.0}, seed=3,
        tries=2, first_rung=1, trial=4, elapsed=5.0, baselines={"majority class": 0.5}, error="no", failed_cost=6.0,
    )  # fmt: skip
    assert (attributes.status, attributes.result, attributes.rungs) == (TrialStatus.FAILED, RESULT, rungs)
    assert (attributes.values, attributes.costs, attributes.seed) == ([1.0], {"train_flops": 2.0}, 3)
    assert (attributes.tries, attributes.first_rung, attributes.repeated_trial) == (2, 1, 4)
    assert (attributes.elapsed, attributes.baselines) == (5.0, {"majority class": 0.5})
    assert (attributes.error, attributes.failed_cost) == ("no", 6.0)


def test_values_of_a_black_box_survive_json() -> None:
    record = RungValues(1, 3.0, [0.5], [[(2.0, 0.6), (3.0, 0.5)]], {"loss": 0.5}, 2.0, {"path": "x"})
    (again,) = read(rungs=[record]).rung_values
    assert again.state == {"path": "x"}
    assert [tuple(point) for point in again.curves[0]] == [(2.0, 0.6), (3.0, 0.5)]


def test_defaults_of_a_trial_without_attributes() -> None:
    attributes = read()
    assert attributes.status is attributes.values is attributes.outcome is attributes.seed is None
    assert (attributes.tries, attributes.first_rung, attributes.failed_cost) == (1, 0, 0.0)


@pytest.mark.parametrize("status", ["unheard of", ["failed"], 3])
def test_a_status_of_another_program_is_none(status: object) -> None:
    assert TrialAttributes(create_trial(state=TrialState.FAIL, user_attrs={"status": status})).status is None


@pytest.mark.parametrize(
    ("state", "status"), [(TrialState.RUNNING, TrialStatus.PAUSED), (TrialState.PRUNED, TrialStatus.STOPPED)]
)
def test_the_outcome_of_a_trial_on_a_rung(state: TrialState, status: TrialStatus) -> None:
    found = read(state, rungs=[RungResult(0, 0.25, RESULT)]).outcome
    assert found is not None
    assert (found.status, found.metrics) == (status, RESULT.metrics)


@pytest.mark.parametrize("name", [None, "study.db"])
def test_a_running_trial_is_written_to(name: str | None, tmp_path: Path) -> None:
    storage = open_storage(None if name is None else tmp_path / name)
    study = optuna.create_study(storage=storage, study_name="one")
    study.ask()
    writer = TrialWriter(storage, "one")
    writer.set_attributes(0, stored(seed=7))
    writer.set_intermediate_value(0, 2, 0.25)
    (trial,) = study.get_trials()
    assert (trial.state, trial.user_attrs, trial.intermediate_values) == (
        TrialState.RUNNING, {"seed": 7}, {2: 0.25},
    )  # fmt: skip


def test_no_module_uses_private_parts_of_optuna() -> None:
    private = re.compile(r"(?<!self)\._(storage|trial_id|study_id|backend)\b|optuna\.\w*\._")
    folder = Path(autotune.__file__).parent
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if private.search(path.read_text())
    }
    # A sampler stores what it remembers with the trial, as Optuna's own do; there is no public way.
    assert found == {"sampler/pareto_sampler.py"}
