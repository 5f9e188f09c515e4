"""The configurations of `try` are trained first, once, whatever the sampler, and say where they come from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from autotune.cli.dry_run import dry_run_overview
from autotune.cli.status import overview, overview_json
from autotune.engine.plan import plan_sweep
from autotune.engine.sweep_run import SweepInterruptedError
from autotune.results.sweep_tables import read_tables
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import Watcher, fake_run, small_sweep, stop_at

pytestmark = pytest.mark.usefixtures("light_sweeps")

TRIES = [{"lora.rank": 2}, {"family": "head"}, {"family": "lora", "lora.rank": 2}, {"family": "norm"}]
"""The third is the first once more."""
ORIGINS = {"try[0]": 0, "try[1]": 1, "try[3]": 2}


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Sweep]:
    def make(**changes: Any) -> Sweep:
        given = {"budget": {"trials": 6}, "confirm": {"seeds": 0}, "try": TRIES, **changes}
        return small_sweep(tiny_model("bert"), reviews, **given)

    return make


SAMPLERS = ["pareto", {"strategy": "carbs"}, {"strategy": "autopeft"}, "random", "tpe", "nsga2"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_they_are_the_first_trials_of_every_sampler(sampler: Any, sweep: Any, tmp_path: Path) -> None:
    results = fake_run(sweep(sampler=sampler), tmp_path / "out")
    assert overview_json(results)["tried_first"] == ORIGINS
    families = [config["family"] for config in results.trials["config"]]
    assert families[:3] == ["lora", "head", "norm"]
    assert results.config(0)["lora.rank"] == 2
    assert overview_json(results)["budget"]["trials"]["used"] == 6


def test_an_interrupted_sweep_does_not_enqueue_them_twice(sweep: Any, tmp_path: Path) -> None:
    with pytest.raises(SweepInterruptedError):
        fake_run(sweep(), tmp_path / "out", Watcher(stop_at(2)), FakeExecutor(workers=2))
    results = fake_run(sweep(), tmp_path / "out")
    assert set(overview_json(results)["tried_first"]) == set(ORIGINS)
    complete = results.trials[results.trials["status"] == "complete"]
    assert len(complete) == 6
    assert sorted(complete["origin"].dropna()) == sorted(ORIGINS)
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    assert not study.get_trials(states=(optuna.trial.TrialState.WAITING,))


def test_displays_say_where_a_trial_comes_from(sweep: Any, tmp_path: Path) -> None:
    fake_run(sweep(), tmp_path / "out")
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(overview(read_tables(tmp_path / "out")))
    text = console.export_text()
    assert "trial 0 (try[0]), trial 1 (try[1]), trial 2 (try[3])" in text
    assert (
        "try[2] is the same configuration as try[0]; it is trained once"
        in read_tables(tmp_path / "out").notes
    )
    console.print(dry_run_overview(plan_sweep(sweep(), tmp_path / "new"), 0))
    assert "try[1]: head lr" in console.export_text()


def test_more_than_the_budget_and_other_ones_are_refused(sweep: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"try: has 3 configurations, and budget\.trials is 2"):
        fake_run(sweep(budget={"trials": 2}), tmp_path / "out")
    limited = ["accuracy", {"name": "trainable_params", "max": 40}]
    with pytest.raises(
        InvalidInputError, match=r"try\[0\]: breaks trainable_params <= 40 \(trainable_params is "
    ):
        fake_run(sweep(objectives=limited), tmp_path / "out")
    fake_run(sweep(), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="already holds another sweep: try differ"):
        fake_run(sweep(**{"try": TRIES[:2]}), tmp_path / "out")
