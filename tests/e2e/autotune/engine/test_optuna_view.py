"""What Optuna's own functions see of a sweep: curves, limits and the front, with a fake executor."""

from __future__ import annotations

import optuna
import pytest

from autotune.ledger.ledger import Ledger
from autotune.ledger.optuna_storage import open_storage
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.budget_spec import Budget
from autotune.sweep.confirm_spec import Confirm
from tests.support.sweeps import fake_run, small_sweep

pytestmark = pytest.mark.usefixtures("light_sweeps")

QUIET = {"confirm": Confirm(seeds=0)}


def study_of(results: SweepTables) -> optuna.Study:
    return optuna.load_study(
        study_name=results.sweep.name, storage=f"sqlite:///{results.folder / 'study.db'}"
    )


@pytest.fixture(scope="module")
def limited(tiny_model, reviews, tmp_path_factory, light_sweeps) -> SweepTables:
    """A sweep whose limit on the accuracy some trials break."""
    sweep = small_sweep(tiny_model("bert"), reviews)
    whole = fake_run(sweep.model_copy(update=QUIET), tmp_path_factory.mktemp("free") / "out")
    limit = float(whole.trials["accuracy"].median())
    objectives = (sweep.objectives[0].model_copy(update={"min": limit}), *sweep.objectives[1:])
    changes = {**QUIET, "objectives": objectives}
    return fake_run(sweep.model_copy(update=changes), tmp_path_factory.mktemp("limited") / "out")


def test_optuna_leaves_trials_outside_a_limit_off_its_front(limited):
    study = study_of(limited)
    outside = set(limited.trials.loc[~limited.trials["feasible"].astype(bool), "trial"])
    best = {trial.number for trial in study.best_trials}
    assert outside
    assert best
    assert not best & outside
    names = set(limited.trials.loc[limited.trials["feasible"].astype(bool), "trial"])
    assert best <= names


def test_curves_are_the_intermediate_values_of_the_study(limited):
    study = study_of(limited)
    for trial in study.trials:
        own = limited.curves[limited.curves["trial"] == trial.number]
        assert trial.intermediate_values == dict(zip(own["step"], own["metric.accuracy"], strict=True))
    figure = optuna.visualization.plot_intermediate_values(study)
    assert len(figure.data) == len(study.trials)


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_tpe_proposes_after_a_pruned_trial_whose_curve_was_known(directions):
    storage = open_storage(None)
    sampler = optuna.samplers.TPESampler(n_startup_trials=1, seed=0)
    study = optuna.create_study(storage=storage, study_name="one", directions=directions, sampler=sampler)
    ledger = Ledger(study, storage)
    for number, is_final in enumerate([True, False]):
        study.ask().suggest_float("x", 0.0, 1.0)
        ledger.changed()
        ledger.show_curve(number, {3: 0.5, 6: 0.75}, is_final=is_final)
        if is_final:
            study.tell(number, [0.75] * len(directions))
        else:
            ledger.stop(number)
    complete, pruned = study.trials
    assert complete.intermediate_values == {3: 0.5, 6: 0.75}
    # Optuna's TPE fails on a pruned trial with intermediate values where there are several objectives.
    assert bool(pruned.intermediate_values) == (len(directions) == 1)
    assert 0 <= study.ask().suggest_float("x", 0.0, 1.0) <= 1


def test_a_sweep_without_limits_has_no_constraints(tiny_model, reviews, tmp_path):
    sweep = small_sweep(tiny_model("bert"), reviews)
    results = fake_run(sweep.model_copy(update={**QUIET, "budget": Budget(trials=2)}), tmp_path / "out")
    assert all("constraints" not in trial.system_attrs for trial in study_of(results).trials)
