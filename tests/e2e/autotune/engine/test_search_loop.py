"""The search loop with a fake executor: budgets, interrupts, full disks, and what must never be lost."""

from __future__ import annotations

import math
import resource
import shutil
from pathlib import Path

import pandas as pd
import pytest
from optuna.storages._rdb import models

from autotune.engine.samplers import sampler_notes
from autotune.engine.sweep_run import SearchFailedError, SweepInterruptedError
from autotune.ledger.ledger import LedgerError, claim_folder, open_ledger
from autotune.prepare.prepared_sweep import prepare
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sweep.budget_spec import Budget
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.sampler_spec import NamedSamplerSpec, ParetoSpec
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import Watcher, fake_run, small_sweep, stop_at
from tests.support.texts import same_splits
from trials.records import TrialResult, TrialStatus

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture
def sweep(tiny_model, reviews):
    return small_sweep(tiny_model("bert"), reviews)


@pytest.fixture(scope="module")
def whole(tiny_model, reviews, tmp_path_factory, light_sweeps) -> SweepTables:
    """The sweep, finished without an interrupt: only to be read."""
    return fake_run(small_sweep(tiny_model("bert"), reviews), tmp_path_factory.mktemp("whole") / "out")


@pytest.fixture
def finished(whole, tmp_path) -> Path:
    """A folder of its own with the finished sweep."""
    return shutil.copytree(whole.folder, tmp_path / "finished")


def complete(folder: Path) -> pd.DataFrame:
    trials = read_tables(folder).trials
    return trials[trials["status"] == "complete"]


def test_confirmation_uses_seeds_that_the_search_never_used_and_scores_the_test_split(whole):
    runs = whole.confirmations
    assert not set(runs["seed"]) & set(whole.trials["seed"])
    assert runs["seed"].nunique() == 2
    assert set(runs["trial"]) <= set(whole.front["trial"])
    assert runs["test.accuracy"].between(0, 1).all()
    assert "test.accuracy" not in whole.trials


def test_the_startup_has_the_defaults_of_each_family_and_begins_with_the_least_training(sweep, tmp_path):
    changes = {"budget": Budget(trials=7), "sampler": ParetoSpec(n_startup=7), "confirm": Confirm(seeds=0)}
    results = fake_run(sweep.model_copy(update=changes), tmp_path / "out")
    startup = results.trials["config"].tolist()
    assert all(default in startup for default in prepare(sweep).space.defaults())
    assert results.trials["cost.train_flops"].is_monotonic_increasing


def test_priors_guide_the_startup_and_what_the_model_cannot_offer_is_said(tiny_model, reviews, tmp_path):
    changes = {
        "priors": {
            "family": {"lora": 100},
            "lora.learning_rate": {"center": 1e-3, "spread": 1.2},
            "lora.layers": {"center": 40, "spread": 2},
        },
        "sampler": {"name": "pareto", "n_startup": 8},
        "budget": {"trials": 8},
        "confirm": {"seeds": 0},
    }
    sweep = small_sweep(tiny_model("bert"), reviews, **changes)
    [note] = [each for each in sampler_notes(prepare(sweep)) if each.startswith("priors.")]
    assert note.startswith("priors.lora.layers: the center 40 is outside 1 to ")
    startup = fake_run(sweep, tmp_path / "out").trials["config"].tolist()
    rates = [config["lora.learning_rate"] for config in startup if "lora.learning_rate" in config]
    assert sum(abs(math.log(rate / 1e-3)) < math.log(1.2**3) for rate in rates) >= 2
    with pytest.raises(InvalidInputError, match="priors"):
        fake_run(sweep.model_copy(update={"priors": None}), tmp_path / "out")


def test_running_again_repeats_nothing(sweep, finished):
    watcher = Watcher()
    fake_run(sweep, finished, watcher)
    assert watcher.started == []


def test_the_same_seed_gives_the_same_search(sweep, whole, tmp_path):
    first, second = whole.trials, fake_run(sweep, tmp_path / "again").trials
    assert first["config"].tolist() == second["config"].tolist()
    assert first["accuracy"].tolist() == second["accuracy"].tolist()


def test_an_interrupted_sweep_resumes_where_it_stopped(sweep, whole, tmp_path):
    with pytest.raises(SweepInterruptedError):
        fake_run(sweep, tmp_path / "out", Watcher(stop_at(3)))
    assert len(complete(tmp_path / "out")) == 3
    watcher = Watcher()
    fake_run(sweep, tmp_path / "out", watcher)
    assert len(complete(tmp_path / "out")) == 6
    assert len(watcher.finished) >= 3
    assert complete(tmp_path / "out")["config"].tolist() == whole.trials["config"].tolist()


def test_an_interrupt_during_confirmation_resumes_there(sweep, tmp_path):
    with pytest.raises(SweepInterruptedError):
        fake_run(sweep, tmp_path / "out", Watcher(stop_at(7)))
    done = len(read_tables(tmp_path / "out").confirmations)
    assert done == 1
    watcher = Watcher()
    results = fake_run(sweep, tmp_path / "out", watcher)
    assert len(watcher.started) == len(results.confirmations) - done


def test_the_ledger_appears_with_all_tables(sweep, tmp_path, monkeypatch):
    """A reader that came while the tables are made would make them too, and the sweep would fail."""
    prepared, seen = prepare(sweep), []
    create_all = models.BaseModel.metadata.create_all

    def look(*args: object, **kwargs: object) -> None:
        create_all(*args, **kwargs)
        seen.append((tmp_path / "study.db").exists())

    monkeypatch.setattr(models.BaseModel.metadata, "create_all", look)
    with claim_folder(tmp_path, prepared.sweep):
        open_ledger(tmp_path, prepared.sweep)
        assert seen[0] is False
        assert complete(tmp_path).empty
    assert not (tmp_path / ".study.db").exists()


def test_recovery_closes_a_trial_whose_result_was_written(sweep, tmp_path):
    prepared = prepare(sweep)
    with claim_folder(tmp_path / "out", prepared.sweep):
        ledger = open_ledger(tmp_path / "out", prepared.sweep)
        trial = ledger.study.ask()
        prepared.space.suggest(trial)
        result = TrialResult(TrialStatus.COMPLETE, metrics={"accuracy": 0.75, "eval_loss": 0.5})
        trial.set_user_attr("values", [0.75, 64.0])
        trial.set_user_attr("result", result.to_json())
        assert open_ledger(tmp_path / "out", prepared.sweep).recover() == 0
    assert complete(tmp_path / "out")["accuracy"].tolist() == [0.75]


def test_a_sweep_whose_trials_all_fail_ends_with_their_errors(sweep, tmp_path):
    with pytest.raises(SearchFailedError, match="it was made to fail"):
        fake_run(sweep, tmp_path / "out", executor=FakeExecutor(fails=lambda spec: True))
    assert (read_tables(tmp_path / "out").trials["status"] == "failed").sum() == 5


def test_flops_and_time_end_a_search(tiny_model, reviews, tmp_path):
    one = small_sweep(tiny_model("bert"), reviews, budget={"flops": 1.0}, confirm={"seeds": 0})
    assert len(fake_run(one, tmp_path / "flops").trials) == 1
    none = small_sweep(tiny_model("bert"), reviews, budget={"hours": 1e-9}, confirm={"seeds": 0})
    assert len(fake_run(none, tmp_path / "time").trials) == 0


@pytest.mark.parametrize(
    "sampler",
    [
        "pareto",
        {"strategy": "carbs"},
        pytest.param({"strategy": "autopeft", "n_startup": 3}, marks=pytest.mark.slow),
        {"name": "tpe", "n_startup_trials": 3},
        "nsga2",
        "gp",
        "optuna.samplers:QMCSampler",
    ],
    ids=["pareto", "carbs", "autopeft", "tpe", "nsga2", "gp", "module:class"],
)
def test_every_sampler_keeps_a_hard_limit(sampler, tiny_model, reviews, tmp_path):
    objectives = ["accuracy", {"name": "trainable_params", "max": 300}]
    limited = small_sweep(
        tiny_model("bert"), reviews, sampler=sampler, objectives=objectives, confirm={"seeds": 0}
    )
    trials = fake_run(limited, tmp_path / "out").trials
    ran = trials[trials["status"] == "complete"]
    assert len(ran) == 6
    assert ran["trainable_params"].max() <= 300


def test_a_folder_that_holds_another_sweep_is_refused(finished, tiny_model, reviews):
    before = (finished / "study.db").read_bytes()
    with pytest.raises(InvalidInputError, match="already holds another sweep: seed differ"):
        fake_run(small_sweep(tiny_model("bert"), reviews, seed=1), finished)
    assert (finished / "study.db").read_bytes() == before


def test_a_larger_budget_continues_the_same_sweep(finished, tiny_model, reviews):
    fake_run(small_sweep(tiny_model("bert"), reviews, budget={"trials": 7}), finished)
    assert len(complete(finished)) == 7


def test_two_processes_cannot_work_in_one_folder(sweep, tmp_path):
    prepared = prepare(sweep)
    with (
        claim_folder(tmp_path / "out", prepared.sweep),
        pytest.raises(InvalidInputError, match="another process"),
    ):
        fake_run(sweep, tmp_path / "out")


def test_an_impossible_limit_writes_nothing(tiny_model, reviews, tmp_path):
    objectives = ["accuracy", {"name": "trainable_params", "min": 1e12}]
    with pytest.raises(InvalidInputError, match=r"objectives\[1\].*Move the limit"):
        fake_run(small_sweep(tiny_model("bert"), reviews, objectives=objectives), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_model_writes_nothing(reviews, tmp_path):
    with pytest.raises(InvalidInputError, match="model: 'nowhere/at-all'"):
        fake_run(small_sweep(Path("nowhere/at-all"), reviews), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_that_the_model_cannot_do(tiny_model, write_jsonl, tmp_path):
    # A model type without a language-modeling head.
    folder = tmp_path / "vision"
    from transformers import ViTConfig, ViTModel

    from tests.support.base_models import write_tokenizer

    ViTModel(
        ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(str(folder))
    write_tokenizer(folder)
    task = {"type": "causal-lm", **same_splits(write_jsonl("c.jsonl", [{"t": "the film"}] * 40)), "text": "t"}
    with pytest.raises(InvalidInputError, match=r"task\.type: .* cannot do causal-lm"):
        fake_run(
            small_sweep(folder, tmp_path, task=task, objectives=["eval_loss", "trainable_params"]),
            tmp_path / "o",
        )
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("sampler", ["pareto", pytest.param("random", marks=pytest.mark.slow)])
def test_a_full_disk_loses_no_result(sampler, tiny_model, reviews, tmp_path):
    sweep = small_sweep(tiny_model("bert"), reviews, sampler=sampler)
    folder = tmp_path / "out"
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(finished: int) -> None:
        if finished == 3:
            size = (folder / "study.db").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))

    try:
        with pytest.raises(LedgerError, match="All results so far are kept"):
            fake_run(sweep, folder, Watcher(fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert len(complete(folder)) >= 3
    fake_run(sweep, folder)
    assert len(complete(folder)) == 6


@pytest.mark.parametrize(
    ("sampler", "objectives", "expected"),
    [
        ("pareto", ["accuracy"], []),
        ({"name": "pareto", "n_startup": 5}, ["accuracy"], []),
        (
            {"name": "pareto", "n_startup": 6},
            ["accuracy"],
            ["sampler.n_startup is 6 and budget.trials is 6: every trial is a startup trial"],
        ),
        ("random", ["accuracy"], []),
        (
            "random",
            [{"name": "accuracy"}, {"name": "trainable_params", "max": 5000}],
            ["does not know the limits"],
        ),
        ("gp", ["accuracy"], ["sampler gp draws lora.targets, lora.layers, lora.rank, lora.scale and "]),
        ("cmaes", ["accuracy"], ["sampler cmaes draws family, lora.targets, "]),
    ],
)
def test_what_a_sampler_cannot_use_is_said(sampler, objectives, expected, tiny_model, reviews):
    prepared = prepare(small_sweep(tiny_model("bert"), reviews, sampler=sampler, objectives=objectives))
    notes = sampler_notes(prepared)
    assert len(notes) == len(expected)
    assert all(text in note for text, note in zip(expected, notes, strict=True))


def test_a_sampler_that_fails_is_named(tiny_model, reviews, tmp_path):
    """Optuna's brute force has no grid for a continuous parameter."""
    sweep = small_sweep(tiny_model("bert"), reviews, sampler="optuna.samplers:BruteForceSampler")
    with pytest.raises(
        SearchFailedError, match=r"sampler optuna.samplers:BruteForceSampler failed with ValueError"
    ):
        fake_run(sweep, tmp_path / "out")


def test_a_sampler_that_is_not_installed_writes_nothing(sweep, tmp_path):
    gone = NamedSamplerSpec(name="gone.package:GoneSampler")
    with pytest.raises(InvalidInputError, match=r"'gone\.package:GoneSampler' cannot be imported"):
        fake_run(sweep.model_copy(update={"sampler": gone}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
