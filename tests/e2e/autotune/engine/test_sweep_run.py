"""The whole path on a tiny model: budgets, interrupts, crashes, full disks, and what must never be lost."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages._rdb import models

from autotune.engine.sweep_run import SearchFailedError, SweepInterruptedError, run_sweep
from autotune.ledger.ledger import LedgerError, claim_folder, open_ledger
from autotune.prepare.prepared_sweep import prepare
from autotune.results.sweep_tables import read_tables
from search_spaces.errors import InvalidInputError
from tests.support.configuration_keys import config_key
from tests.support.sweeps import Watcher, run_and_kill, small_sweep
from trials.execution.runner import Runner
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.training.run import Run


@pytest.fixture
def sweep(tiny_model, reviews):
    return small_sweep(tiny_model("bert"), reviews)


def complete(folder: Path) -> pd.DataFrame:
    trials = read_tables(folder).trials
    return trials[trials["status"] == "complete"]


def stop_at(count: int):
    def after(finished: int) -> None:
        if finished == count:
            raise KeyboardInterrupt

    return after


def test_a_sweep_leaves_everything_it_promises(sweep, tmp_path):
    watcher = Watcher()
    results = run_sweep(sweep, tmp_path / "out", watcher)
    assert watcher.phases == ["loading", "search", "confirm", "report", "done"]
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"sweep.yaml", "study.db", "front.csv", "trials.parquet", "report.html"} <= files
    assert len(complete(tmp_path / "out")) == 6
    assert results.trials["config"].map(config_key).nunique() == 6
    front = pd.read_csv(tmp_path / "out" / "front.csv")
    assert set(front["trial"]) == set(results.front["trial"])
    assert results.baselines["majority class"] == pytest.approx(0.5, abs=0.15)
    assert 0 <= results.hypervolume <= 1
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_confirmation_uses_seeds_that_the_search_never_used_and_scores_the_test_split(sweep, tmp_path):
    results = run_sweep(sweep, tmp_path / "out")
    runs = results.confirmations
    assert not set(runs["seed"]) & set(results.trials["seed"])
    assert runs["seed"].nunique() == 2
    assert set(runs["trial"]) <= set(results.front["trial"])
    assert runs["test.accuracy"].between(0, 1).all()
    assert "test.accuracy" not in results.trials


def test_the_first_trials_are_the_customary_default_of_each_family(sweep, tmp_path):
    results = run_sweep(sweep, tmp_path / "out")
    assert results.trials["param.family"].head(3).tolist() == ["lora", "norm", "head"]
    assert results.trials["param.lora.rank"].iloc[0] == 8


def test_running_again_repeats_nothing(sweep, tmp_path):
    run_sweep(sweep, tmp_path / "out")
    watcher = Watcher()
    run_sweep(sweep, tmp_path / "out", watcher)
    assert watcher.started == []


def test_the_same_seed_gives_the_same_search(sweep, tmp_path):
    first = run_sweep(sweep, tmp_path / "a").trials
    second = run_sweep(sweep, tmp_path / "b").trials
    assert first["config"].tolist() == second["config"].tolist()
    assert first["accuracy"].tolist() == second["accuracy"].tolist()


def test_an_interrupted_sweep_resumes_where_it_stopped(sweep, tmp_path):
    with pytest.raises(SweepInterruptedError):
        run_sweep(sweep, tmp_path / "out", Watcher(stop_at(3)))
    assert len(complete(tmp_path / "out")) == 3
    watcher = Watcher()
    run_sweep(sweep, tmp_path / "out", watcher)
    assert len(complete(tmp_path / "out")) == 6
    assert len(watcher.finished) >= 3
    whole = run_sweep(sweep, tmp_path / "whole")
    assert complete(tmp_path / "out")["config"].tolist() == whole.trials["config"].tolist()


def test_a_trial_interrupted_midway_runs_again_with_its_configuration_and_seed(sweep, tmp_path, monkeypatch):
    calls = []

    def interrupted(*args: object) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        original(*args)

    original = Run.update
    monkeypatch.setattr(Run, "update", interrupted)
    with pytest.raises(SweepInterruptedError):
        run_sweep(sweep, tmp_path / "out")
    lost = read_tables(tmp_path / "out").trials.iloc[-1]
    assert lost["status"] == "lost"
    results = run_sweep(sweep, tmp_path / "out")
    again = results.trials[results.trials["config"].map(config_key) == config_key(lost["config"])]
    assert again["status"].tolist() == ["lost", "complete"]
    assert again["seed"].nunique() == 1
    assert len(complete(tmp_path / "out")) == 6


def test_the_time_of_a_search_is_the_walls_and_goes_on_in_the_next_session(tiny_model, reviews, tmp_path):
    # Two trials at a time: their own seconds, summed, say more than the clock on the wall.
    packed = small_sweep(tiny_model("bert"), reviews, executor={"name": "packed", "workers": 2})
    began = time.perf_counter()
    with pytest.raises(SweepInterruptedError):
        run_sweep(packed, tmp_path / "out", Watcher(stop_at(3)))
    first = read_tables(tmp_path / "out").search_seconds
    results = run_sweep(packed, tmp_path / "out")
    assert 0 < first < results.search_seconds < time.perf_counter() - began
    ended = results.trials[results.trials["status"] == "complete"].sort_values("finished")
    assert ended["elapsed"].is_monotonic_increasing
    assert ended["elapsed"].iloc[-1] == results.search_seconds
    assert (results.confirmations["elapsed"] > 0).all()


def test_an_interrupt_during_confirmation_resumes_there(sweep, tmp_path):
    with pytest.raises(SweepInterruptedError):
        run_sweep(sweep, tmp_path / "out", Watcher(stop_at(7)))
    done = len(read_tables(tmp_path / "out").confirmations)
    assert done == 1
    watcher = Watcher()
    results = run_sweep(sweep, tmp_path / "out", watcher)
    assert len(watcher.started) == len(results.confirmations) - done


def test_a_killed_process_loses_nothing(sweep, tmp_path):
    folder = tmp_path / "out"
    before = run_and_kill(sweep, folder, lambda trials: trials["status"] == "complete")
    run_sweep(sweep, folder)
    after = complete(folder)
    assert len(after) == 6
    assert before <= set(after["trial"])
    assert after["config"].map(config_key).nunique() == 6


def test_the_ledger_appears_whole(sweep, tmp_path, monkeypatch):
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


def test_a_result_that_was_written_but_not_told_is_told_on_recovery(sweep, tmp_path):
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


def test_nothing_but_failures_end_the_sweep_with_their_reasons(sweep, tmp_path, monkeypatch):
    def broken(*args: object) -> None:
        raise RuntimeError("the kernel does not like this")

    monkeypatch.setattr(Run, "update", broken)
    with pytest.raises(SearchFailedError, match="the kernel does not like this"):
        run_sweep(sweep, tmp_path / "out")
    assert (read_tables(tmp_path / "out").trials["status"] == "failed").sum() == 5


def test_some_failures_are_recorded_and_passed_over(sweep, tmp_path, monkeypatch):
    original = Run.update

    def moody(run: Run, loss: float, *args: float) -> None:
        bad = any("lora_A" in name for name, _ in run.model.named_parameters())
        original(run, float("nan") if bad else loss, *args)

    monkeypatch.setattr(Run, "update", moody)
    results = run_sweep(sweep, tmp_path / "out")
    counts = results.trials["status"].value_counts()
    assert counts["failed"] >= 1
    assert counts["failed"] + counts["complete"] == 6
    assert results.trials.loc[results.trials["status"] == "failed", "error"].str.contains("loss became").all()
    assert "lora" not in set(results.front["param.family"])


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [(["accuracy", "trainable_params"], False), (["accuracy", "train_seconds"], True)],
)
def test_what_is_measured_is_measured_alone(objectives, expected, tiny_model, reviews, tmp_path, monkeypatch):
    asked: list[bool] = []
    original = Runner.run

    def watch(runner: Runner, spec: TrialSpec) -> TrialResult:
        asked.append(spec.is_isolated)
        return original(runner, spec)

    monkeypatch.setattr(Runner, "run", watch)
    changes = {"objectives": objectives, "budget": {"trials": 2}, "confirm": {"seeds": 1, "points": 1}}
    results = run_sweep(small_sweep(tiny_model("bert"), reviews, **changes), tmp_path / "out")
    assert asked == [expected] * 3
    assert (results.trials["cost.train_seconds"] > 0).all()


def test_flops_and_time_end_a_search(tiny_model, reviews, tmp_path):
    one = small_sweep(tiny_model("bert"), reviews, budget={"flops": 1.0}, confirm={"seeds": 0})
    assert len(run_sweep(one, tmp_path / "flops").trials) == 1
    none = small_sweep(tiny_model("bert"), reviews, budget={"hours": 1e-9}, confirm={"seeds": 0})
    assert len(run_sweep(none, tmp_path / "time").trials) == 0


@pytest.mark.parametrize("sampler", ["pareto", "tpe", "nsga2", "random"])
def test_every_sampler_keeps_a_hard_limit(sampler, tiny_model, reviews, tmp_path):
    objectives = ["accuracy", {"name": "trainable_params", "max": 300}]
    limited = small_sweep(
        tiny_model("bert"), reviews, sampler=sampler, objectives=objectives, confirm={"seeds": 0}
    )
    trials = run_sweep(limited, tmp_path / "out").trials
    ran = trials[trials["status"] == "complete"]
    assert len(ran) == 6
    assert ran["trainable_params"].max() <= 300


def test_a_causal_language_model_is_measured_from_the_untouched_base(tiny_model, write_jsonl, tmp_path):
    rows = [{"p": "the film was", "c": "good"}, {"p": "the end was", "c": "sad"}] * 40
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={
            "type": "causal-lm",
            "train": str(write_jsonl("c.jsonl", rows)),
            "prompt": "p",
            "completion": "c",
        },
        space={"families": ["lora", "ia3"], "parameters": {"epochs": 1, "batch_size": 16}},
        objectives=["eval_loss", "trainable_params", "train_flops"],
        budget={"trials": 3},
    )
    results = run_sweep(sweep, tmp_path / "out")
    assert results.objectives[0].reference == results.baselines["base without adapter"]
    assert len(complete(tmp_path / "out")) == 3


def test_a_folder_that_holds_another_sweep_is_refused(sweep, tiny_model, reviews, tmp_path):
    run_sweep(sweep, tmp_path / "out")
    before = (tmp_path / "out" / "study.db").read_bytes()
    with pytest.raises(InvalidInputError, match="already holds another sweep: seed differ"):
        run_sweep(small_sweep(tiny_model("bert"), reviews, seed=1), tmp_path / "out")
    assert (tmp_path / "out" / "study.db").read_bytes() == before


def test_a_larger_budget_continues_the_same_sweep(sweep, tiny_model, reviews, tmp_path):
    run_sweep(sweep, tmp_path / "out")
    run_sweep(small_sweep(tiny_model("bert"), reviews, budget={"trials": 7}), tmp_path / "out")
    assert len(complete(tmp_path / "out")) == 7


def test_two_processes_cannot_work_in_one_folder(sweep, tmp_path):
    prepared = prepare(sweep)
    with (
        claim_folder(tmp_path / "out", prepared.sweep),
        pytest.raises(InvalidInputError, match="another process"),
    ):
        run_sweep(sweep, tmp_path / "out")


def test_an_impossible_limit_writes_nothing(tiny_model, reviews, tmp_path):
    objectives = ["accuracy", {"name": "trainable_params", "min": 1e12}]
    with pytest.raises(InvalidInputError, match=r"objectives\[1\].*Move the limit"):
        run_sweep(small_sweep(tiny_model("bert"), reviews, objectives=objectives), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_nowhere_writes_nothing(reviews, tmp_path):
    with pytest.raises(InvalidInputError, match="model: 'nowhere/at-all'"):
        run_sweep(small_sweep(Path("nowhere/at-all"), reviews), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_folder_without_weights(tiny_model, reviews, tmp_path):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny_model("bert"), bare)
    (bare / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match="no weights in safetensors"):
        run_sweep(small_sweep(bare, reviews), tmp_path / "out")
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
    task = {"type": "causal-lm", "train": str(write_jsonl("c.jsonl", [{"t": "the film"}] * 40)), "text": "t"}
    with pytest.raises(InvalidInputError, match=r"task\.type: .* cannot do causal-lm"):
        run_sweep(
            small_sweep(folder, tmp_path, task=task, objectives=["eval_loss", "trainable_params"]),
            tmp_path / "o",
        )
    assert not (tmp_path / "o").exists()


def test_on_a_full_disk_what_was_told_stays_told(sweep, tmp_path):
    folder = tmp_path / "out"
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(finished: int) -> None:
        if finished == 3:
            size = (folder / "study.db").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))

    try:
        with pytest.raises(LedgerError, match="Everything that was told before stays told"):
            run_sweep(sweep, folder, Watcher(fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert len(complete(folder)) >= 3
    run_sweep(sweep, folder)
    assert len(complete(folder)) == 6
