"""Ladders of parts of the data: a share of the examples, or of the texts' length. Every rung starts over."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.ladder.rungs import SLOW_FAMILIES
from autotune.ladder.spec import LadderSpec
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.budget_spec import Budget
from autotune.sweep.confirm_spec import Confirm
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.sweep_file import load_sweep
from tests.support.ladders import partial_sweep
from tests.support.sweeps import run_and_kill, small_sweep
from tests.support.texts import same_splits
from trials.base.model import load_base
from trials.data.task_data import load_task
from trials.records import Fidelity, PartialRun, TrialSpec, TrialStatus
from trials.training.run import Run

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture(scope="module")
def whole(tiny_model, reviews, tmp_path_factory) -> Callable[[str], SweepTables]:
    """`whole("data")` is the uninterrupted sweep of that kind."""
    folder = tmp_path_factory.mktemp("whole")
    return cache(lambda of: run_sweep(partial_sweep(tiny_model, reviews, of), folder / of))


@pytest.mark.parametrize("of", ["data", pytest.param("length", marks=pytest.mark.slow)])
def test_complete_trials_equal_those_without_a_ladder(of, whole, tiny_model, reviews, tmp_path):
    on_ladder = whole(of).trials
    budget = {"trials": 3}  # the first three are the families' defaults, with the same seeds
    alone = run_sweep(
        partial_sweep(tiny_model, reviews, of, ladder=False, budget=budget), tmp_path / "out"
    ).trials
    pairs = [
        (on_ladder.iloc[i], alone.iloc[i]) for i in range(3) if on_ladder["status"].iloc[i] == "complete"
    ]
    assert pairs
    for here, there in pairs:
        assert (here["config"], here["seed"]) == (there["config"], there["seed"])
        assert here["metric.eval_loss"] == pytest.approx(there["metric.eval_loss"], rel=1e-6)
        assert here["cost.train_flops"] == there["cost.train_flops"]


@pytest.mark.slow
def test_a_killed_process_loses_nothing(whole, tiny_model, reviews, tmp_path):
    folder = tmp_path / "out"
    run_and_kill(partial_sweep(tiny_model, reviews, "data"), folder, lambda trials: trials["share"].notna())
    results = run_sweep(load_sweep(folder / "sweep.yaml"), folder)
    assert results.ladder is not None
    assert results.ladder.settled
    # Who was killed in its first run is tried again under another number.
    trials = results.trials[results.trials["status"] != "lost"]
    assert len(trials) == 6
    assert set(trials["status"]) == {"complete", "paused"}


@pytest.mark.slow
@pytest.mark.parametrize("of", ["data", "length"])
def test_trials_are_promoted_in_packs(of, whole, tiny_model, reviews, tmp_path):
    results = run_sweep(partial_sweep(tiny_model, reviews, of, executor="packed"), tmp_path / "out")
    assert results.ladder is not None
    assert results.ladder.settled
    both = (results, whole(of))
    losses = [found.curves.groupby("trial")["metric.eval_loss"].last() for found in both]
    shares = [found.trials.set_index("trial")["share"] for found in both]
    # The first three are the families' defaults.
    as_far = [n for n in range(3) if shares[0][n] == shares[1][n]]
    assert as_far
    for number in as_far:
        assert losses[0][number] == pytest.approx(losses[1][number], abs=1e-4)


def test_a_promoted_trial_that_fails_is_charged_for_its_run(tiny_model, reviews, tmp_path, monkeypatch):
    original = Run.update

    def diverging(run: Run, loss: float, seconds: float = 0.0) -> None:
        full = run.spec.partial_run is None and run.spec.config["family"] == "norm"
        original(run, float("nan") if full else loss, seconds)

    monkeypatch.setattr(Run, "update", diverging)
    ladder = {"of": "data", "min": "50%", "eta": 2, "random_share": 1}
    trials = run_sweep(partial_sweep(tiny_model, reviews, "data", ladder=ladder), tmp_path / "out").trials
    failed = trials[trials["status"] == "failed"]
    assert not failed.empty
    assert set(failed["param.family"]) == {"norm"}
    assert failed["share"].unique().tolist() == [1.5]


@pytest.mark.slow
@pytest.mark.parametrize("of", ["data", "length"])
def test_the_quickstart_with_partial_runs(of, tmp_path):
    sweep = load_sweep("quickstart")
    changes = {
        "ladder": LadderSpec(of=of, min=0.5),
        "fidelity": Fidelity(train_samples=32, eval_samples=16, evaluations=1),
        "budget": Budget(trials=3),
        "confirm": Confirm(seeds=0),
        "executor": ExecutorSpec(),
    }
    results = run_sweep(sweep.model_copy(update=changes), tmp_path / "out")
    assert results.ladder is not None
    slow = results.trials["param.family"].isin(SLOW_FAMILIES)  # these begin a rung higher
    assert results.ladder.reached[0] == 3 - slow.sum() > 0
    assert set(results.trials["status"]) <= {"complete", "paused"}
    assert "complete" in set(results.trials["status"])


@pytest.mark.parametrize("of", ["data", pytest.param("length", marks=pytest.mark.slow)])
def test_a_language_model_is_scored_on_untruncated_texts(of, tiny_model, write_jsonl, tmp_path):
    rows = [{"t": " ".join(["the film was good and the end was sad"] * (1 + i % 3))} for i in range(60)]
    sweep = small_sweep(
        tiny_model("llama"),
        tmp_path,
        task={
            "type": "causal-lm",
            **same_splits(write_jsonl("c.jsonl", rows)),
            "text": "t",
            "max_length": 24,
        },
        space={"families": ["lora", "ia3"], "parameters": {"epochs": 1, "batch_size": 16}},
        objectives=["eval_loss", "trainable_params"],
        budget={"trials": 3},
        confirm={"seeds": 0},
        ladder={"of": of, "min": "50%"},
    )
    results = run_sweep(sweep, tmp_path / "out")
    assert results.ladder is not None
    assert results.ladder.settled
    # What is cut are training texts alone, so the loss of nearly untrained models differs little between rungs.
    losses = results.curves.groupby("trial")["metric.eval_loss"].last()
    assert len(losses) == 3
    assert losses.max() - losses.min() < 0.5


@pytest.fixture(scope="module")
def loaded(tiny_model, reviews):
    task = partial_sweep(tiny_model, reviews, "data").task
    sweep = small_sweep(tiny_model("bert"), reviews)
    data = load_task(task, sweep.model)
    return load_base(sweep.model, task, data), data


def seen(loaded: Any, part: PartialRun | None, **config: Any) -> list[tuple[int, ...]]:
    """The token ids of every example that a run trains on in its first epoch."""
    base, data = loaded
    given = {
        "family": "head",
        "head.learning_rate": 1e-3,
        "epochs": 1,
        "batch_size": 8,
        "weight_decay": 0.0,
        "optimizer": "adamw",
        "schedule": "linear",
        "warmup": 0.0,
        **config,
    }
    run = Run(base, data, TrialSpec(given, seed=0, partial_run=part))
    found = []
    while (batch := run.next_batch()) is not None:
        found += [tuple(example["input_ids"]) for example in batch]
        run.update(0.0)
    assert run.result().status == (TrialStatus.COMPLETE if part is None else TrialStatus.PAUSED)
    return found
