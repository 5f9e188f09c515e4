"""Sweeps on a ladder with a fake executor: which trials are promoted, what is saved, and what an interrupt leaves."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import optuna
import pytest
from rich.console import Console

from autotune.cli.live_display import PlainProgress
from autotune.cli.status import overview, overview_json
from autotune.engine.sweep_run import SweepInterruptedError
from autotune.ladder.promotion import PromotionScheduler
from autotune.ladder.rungs import SLOW_FAMILIES
from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import open_ledger, read_sweep
from autotune.report.page import report_html
from autotune.results.completion import is_finished
from autotune.results.ladder_view import read_scheduler
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sampler.history import Observation
from autotune.sweep.comparison import search_differences
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import dump_sweep, load_sweep
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.ladders import ladder_sweep, states, waiting_states, what_was_found
from tests.support.sweeps import Watcher, fake_run, stop_at
from trials.records import TrialResult, TrialStatus

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture
def sweep(tiny_model, reviews) -> Sweep:
    return ladder_sweep(tiny_model, reviews)


@pytest.fixture
def quick_sweep(tiny_model, reviews) -> Sweep:
    """The sweep without a model of its trials: its random proposals cost no time."""
    return ladder_sweep(tiny_model, reviews, sampler="random")


@pytest.fixture(scope="module")
def whole(tiny_model, reviews, tmp_path_factory) -> SweepTables:
    """The sweep, uninterrupted."""
    return fake_run(ladder_sweep(tiny_model, reviews), tmp_path_factory.mktemp("whole") / "out")


def test_trials_are_promoted_and_the_front_holds_complete_ones(sweep, tmp_path):
    watcher = Watcher()
    results = fake_run(sweep, tmp_path / "out", watcher)
    trials = results.trials
    assert set(trials["status"]) == {"complete", "paused"}
    paused = trials[trials["status"] == "paused"]
    assert set(paused["share"].round(3)) <= {0.222, 0.556}
    assert paused["accuracy"].isna().all()
    assert not paused["on_front"].any()
    assert set(results.front["status"]) == {"complete"}
    assert results.ladder is not None
    assert results.ladder.reached[0] == 10
    assert results.ladder.reached[-1] == (trials["status"] == "complete").sum()
    # No trial is trained twice: a promoted one resumes where it stopped.
    runs = sum(results.ladder.reached)
    assert len(watcher.started) == len(watcher.finished) == runs
    flops = trials["cost.train_flops"]
    assert results.ladder.used == pytest.approx((flops * trials["share"]).sum() / flops.sum())
    assert 0.1 < results.ladder.used < 0.9
    assert states(tmp_path / "out") == waiting_states(tmp_path / "out") != set()


@pytest.mark.parametrize(
    "after", [pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(13, marks=pytest.mark.slow)]
)
def test_a_resumed_sweep_gives_the_results_of_an_uninterrupted_one(after, sweep, whole, tmp_path):
    with pytest.raises(SweepInterruptedError):
        fake_run(sweep, tmp_path / "out", Watcher(stop_at(after)))
    assert states(tmp_path / "out") == waiting_states(tmp_path / "out")
    watcher = Watcher()
    resumed = fake_run(sweep, tmp_path / "out", watcher)
    assert what_was_found(resumed) == what_was_found(whole)
    assert resumed.ladder == whole.ladder
    assert whole.ladder is not None
    assert len(watcher.finished) == sum(whole.ladder.reached) - after


@pytest.mark.slow
def test_without_its_checkpoints_a_sweep_gives_the_same_results(sweep, whole, tmp_path):
    with pytest.raises(SweepInterruptedError):
        fake_run(sweep, tmp_path / "out", Watcher(stop_at(6)))
    for path in (tmp_path / "out" / "states").iterdir():
        path.unlink()
    assert what_was_found(fake_run(sweep, tmp_path / "out")) == what_was_found(whole)


def test_files_that_no_trial_resumes_from_are_deleted(quick_sweep, tmp_path):
    with pytest.raises(SweepInterruptedError):
        fake_run(quick_sweep, tmp_path / "out", Watcher(stop_at(4)))
    folder = tmp_path / "out" / "states"
    for name in ("0-1.safetensors", ".3-0.safetensors.123.tmp", "99-0.safetensors"):
        (folder / name).write_bytes(b"left by a dead process")
    fake_run(quick_sweep, tmp_path / "out")
    assert states(tmp_path / "out") == waiting_states(tmp_path / "out")


@pytest.mark.slow
def test_a_larger_budget_promotes_waiting_trials(tiny_model, reviews, tmp_path):
    ladder = {"random_share": 1}
    small = ladder_sweep(tiny_model, reviews, ladder=ladder, budget={"flops": 1.0})
    assert fake_run(small, tmp_path / "out").trials["status"].tolist() == ["paused"]
    larger = ladder_sweep(tiny_model, reviews, ladder=ladder, budget={"trials": 2})
    watcher = Watcher()
    assert fake_run(larger, tmp_path / "out", watcher).trials["status"].tolist() == ["complete"] * 2
    assert watcher.started == [0, 0, 1, 1, 1]


def test_even_one_trial_reaches_the_top(tiny_model, reviews, tmp_path):
    results = fake_run(ladder_sweep(tiny_model, reviews, budget={"trials": 1}), tmp_path / "out")
    assert results.trials["status"].tolist() == ["complete"]


def test_the_flops_budget_counts_the_training_done(tiny_model, reviews, tmp_path):
    first = fake_run(ladder_sweep(tiny_model, reviews, budget={"trials": 1}), tmp_path / "one").trials
    flops = float(first["cost.train_flops"].iloc[0])
    sweep = ladder_sweep(tiny_model, reviews, ladder={"random_share": 0}, budget={"flops": 0.5 * flops})
    trials = fake_run(sweep, tmp_path / "out").trials
    spent = (trials["cost.train_flops"] * trials["share"]).sum()
    assert 0.5 * flops <= spent < 0.9 * flops
    assert len(trials) >= 2


def test_the_sampler_observes_the_lower_rungs(whole):
    trials = FolderReader(whole.folder, whole.sweep).trials()
    resolved = whole.sweep
    on = read_scheduler(resolved, trials)
    told = {trial.number: on.observe(trial) for trial in trials}
    table, curves = whole.trials.set_index("trial"), whole.curves
    for number, seen in told.items():
        row = table.loc[number]
        if row["status"] == "complete":
            assert seen == [row["accuracy"], row["cost.trainable_params"]]
            continue
        assert isinstance(seen, Observation)
        assert np.isfinite(seen.values).all()
        assert seen.values[1] == row["cost.trainable_params"]
        assert seen.variances[0] > 0
        assert seen.variances[1] == 0
    # On the lowest rung all are carried on alike, by what rule ever was best, and are the least sure.
    low = [n for n in told if table.loc[n, "status"] == "paused" and table.loc[n, "share"] < 0.3]
    here = curves[curves["trial"].isin(low)].groupby("trial")["metric.accuracy"].last()
    seen_low = {n: seen for n in low if isinstance(seen := told[n], Observation)}
    carried = np.array([seen.values[0] - here[n] for n, seen in seen_low.items() if seen.values[0] < 1.0])
    assert len(low) >= 2
    assert np.ptp(carried) < 1e-9
    assert np.ptp([seen.variances[0] for seen in seen_low.values()]) == 0
    (model,) = on.promotion.models().values()
    assert model.variance[0] > model.variance[1] > model.variance[2] == 0


def test_proposals_depend_on_the_lower_rungs(sweep, tmp_path, monkeypatch):
    seen: list[int] = []
    from autotune.sampler import pareto_sampler as module

    read = module.History.read

    def remember(*args: Any, **options: Any) -> Any:
        history = read(*args, **options)
        seen.append(len(history.configs))
        return history

    monkeypatch.setattr(module.History, "read", remember)
    results = fake_run(sweep, tmp_path / "out")
    complete = (results.trials["status"] == "complete").sum()
    assert max(seen) == len(results.trials) - 1 > complete


def test_a_promotion_lost_too_often_ends_the_trial(quick_sweep, tmp_path, monkeypatch):
    original, lost = FakeExecutor.next_result, []

    def dying(executor: FakeExecutor) -> tuple[int, TrialResult]:
        ticket, _, spec = executor._queue[0]
        is_promotion = spec.segment is not None and spec.segment.start is not None
        if is_promotion and (not lost or spec.seed == lost[0]):
            executor._queue.popleft()
            lost.append(spec.seed)
            return ticket, TrialResult(TrialStatus.LOST, error="the worker process died")
        return original(executor)

    monkeypatch.setattr(FakeExecutor, "next_result", dying)
    results = fake_run(quick_sweep, tmp_path / "out")
    assert len(lost) == 3
    row = results.trials.set_index("seed").loc[lost[0]]
    assert row["status"] == "lost"
    assert not [name for name in states(tmp_path / "out") if name.startswith(f"{row['trial']}-")]
    assert (results.trials["status"] != "lost").sum() == 10


def test_a_pruned_trial_stays_pruned(quick_sweep, tmp_path, monkeypatch):
    def prunable(promotion: PromotionScheduler) -> list[Any]:
        return [c for c in promotion.candidates.values() if c.status == "waiting" and c.rung == 0][:1]

    monkeypatch.setattr(PromotionScheduler, "prunable", prunable)
    results = fake_run(quick_sweep, tmp_path / "out")
    stopped = results.trials[results.trials["status"] == "stopped"]
    assert not stopped.empty
    assert stopped["accuracy"].isna().all()
    assert states(tmp_path / "out") == waiting_states(tmp_path / "out")
    study = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}")
    pruned = [t.number for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    assert pruned == stopped["trial"].tolist()
    watcher = Watcher()
    again = fake_run(quick_sweep, tmp_path / "out", watcher)
    assert what_was_found(again) == what_was_found(results)
    assert watcher.started == []


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("nsga2", marks=pytest.mark.slow)])
def test_trials_are_promoted_with_every_sampler(sampler, tiny_model, reviews, tmp_path):
    results = fake_run(
        ladder_sweep(tiny_model, reviews, sampler=sampler, budget={"trials": 6}), tmp_path / "out"
    )
    assert (results.trials["status"] == "complete").sum() in range(1, 6)


@pytest.mark.parametrize("judge", [pytest.param("score", marks=pytest.mark.slow), "loss"])
def test_a_rung_is_ranked_by_score_or_loss_as_the_sweep_asks(judge, tiny_model, reviews, tmp_path):
    sweep = ladder_sweep(tiny_model, reviews, ladder={"judge": judge}, budget={"trials": 5})
    first: dict[int, dict[str, float]] = {}

    class FirstRung(Watcher):
        def trial_finished(self, number: int, result: Any, values: dict[str, float], on_front: bool) -> None:
            first.setdefault(number, {f"metric.{name}": value for name, value in result.metrics.items()})

    results = fake_run(sweep, tmp_path / "out", FirstRung())
    promotion = read_scheduler(results.sweep, FolderReader(results.folder, results.sweep).trials()).promotion
    for number, candidate in promotion.candidates.items():
        row = first[number]
        expected = row["metric.eval_loss"] if judge == "loss" else -row["metric.accuracy"]
        assert candidate.values[0][0] == pytest.approx(expected)
        assert candidate.outcomes[0][0] == pytest.approx(-row["metric.accuracy"])
        cost = results.trials.set_index("trial").loc[number, "cost.trainable_params"]
        assert candidate.values[0][1] == float(results.objectives[1].loss(cost))


def test_trials_with_measured_costs_are_promoted(tiny_model, reviews, tmp_path):
    sweep = ladder_sweep(tiny_model, reviews, objectives=["accuracy", "train_seconds"], budget={"trials": 5})
    results = fake_run(sweep, tmp_path / "out")
    assert results.front["train_seconds"].gt(0).all()


def test_confirmation_runs_train_in_full(tiny_model, reviews, tmp_path):
    sweep = ladder_sweep(tiny_model, reviews, budget={"trials": 4}, confirm={"seeds": 1, "points": 1})
    results = fake_run(sweep, tmp_path / "out")
    assert results.confirmations["test.accuracy"].between(0, 1).all()
    assert len(results.confirmations) == 1


def test_displays_show_the_rungs_and_their_rank_correlation(tiny_model, reviews, tmp_path):
    sweep = ladder_sweep(tiny_model, reviews, ladder={"random_share": 0.6, "min": "12%"}, sampler="random")
    console = Console(file=io.StringIO(), width=200)
    with PlainProgress(console) as watcher:
        results = fake_run(sweep, tmp_path / "out", watcher)
    log = console.file.getvalue()
    assert "paused after 22.2 % of its training, validation loss" in log
    assert "rungs 10 › " in log
    assert is_finished(results)
    found = overview_json(results)["ladder"]
    assert json.loads(json.dumps(found)) == found
    assert found["rungs"][0]["reached"] == 10
    assert found["rungs"][0]["trials"] == 5
    assert found["verdict"] in ("trusted", "doubtful", "not trusted")
    screen = Console(file=io.StringIO(), width=200)
    screen.print(overview(results))
    assert "10 trained to 12 %: rank correlation with the top" in screen.file.getvalue()
    page = report_html(results)
    assert '<section id="ladder">' in page
    assert "of the FLOPs of training every trial in full" in page


def test_too_few_trials_are_reported_as_not_measured(whole):
    assert overview_json(whole)["ladder"]["verdict"] == "not measured"
    assert "fewer than 5 of the random share reached it" in report_html(whole)


def test_a_sweep_without_a_ladder_shows_none(tiny_model, reviews, tmp_path):
    results = fake_run(
        ladder_sweep(tiny_model, reviews, ladder=False, budget={"trials": 2}), tmp_path / "out"
    )
    assert results.ladder is None
    assert "ladder" not in overview_json(results)
    assert '<section id="ladder">' not in report_html(results)
    assert not (tmp_path / "out" / "states").exists()
    assert results.trials["share"].tolist() == [1.0, 1.0]


def test_defaults_are_written_and_read(tiny_model, reviews, tmp_path):
    sweep = ladder_sweep(tiny_model, reviews)
    assert sweep.ladder is not None
    assert sweep.ladder.ladder.rungs == pytest.approx((0.2, 0.2**0.5, 1.0))
    assert sweep.ladder.first_rung == dict(SLOW_FAMILIES)
    dump_sweep(sweep, tmp_path / "sweep.yaml")
    again = load_sweep(tmp_path / "sweep.yaml")
    assert again == sweep
    assert search_differences(again, sweep) == []
    other = ladder_sweep(tiny_model, reviews, ladder={"min": "25%"})
    assert search_differences(sweep, other) == ["ladder.min"]
    assert search_differences(sweep, ladder_sweep(tiny_model, reviews, ladder=None)) == ["ladder"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"ladder: 3 is neither true nor a mapping\. Write ladder: true, or ladder: {min: 20%}\."),
        ({"min": 1}, r"ladder\.min: 1 does not fit\. Write the share of each configuration's own training"),
        ({"min": "much"}, r"ladder\.min: 'much' does not fit"),
        ({"min": "x%"}, r"ladder\.min: 'x%' does not fit"),
        ({"eta": 1}, r"ladder\.eta: 1 does not fit\. Write a number above 1"),
        ({"share": 0}, r"ladder\.share: 0 does not fit"),
        ({"judge": "accuracy"}, r"ladder\.judge: 'accuracy' does not fit\. Write score or loss"),
        ({"random_share": True}, r"ladder\.random_share: True does not fit"),
        ({"close": 0.5}, r"ladder\.close: 0\.5 does not fit\. Write two parts"),
        (
            {"first_rung": {"promt": 1}},
            r"ladder\.first_rung\.promt: no such family\. Did you mean 'prompt'\?",
        ),
        ({"first_rung": {"prompt": -1}}, r"ladder\.first_rung\.prompt: -1 does not fit"),
        ({"first_rung": 1}, r"ladder\.first_rung: 1 does not fit\. Write families and rungs"),
        ({"mn": 0.1}, r"ladder\.mn: unknown key\. Did you mean 'min'\?"),
    ],
)
def test_a_wrong_ladder_names_the_field_and_the_fix(given, message, tiny_model, reviews):
    with pytest.raises(InvalidInputError, match=message):
        ladder_sweep(tiny_model, reviews, ladder=given)


def test_every_problem_is_reported_at_once(tiny_model, reviews):
    with pytest.raises(InvalidInputError) as caught:
        ladder_sweep(tiny_model, reviews, ladder={"min": 2, "eta": 0}, budget={})
    assert {problem.where for problem in caught.value.problems} == {"ladder.min", "ladder.eta", "budget"}


def test_a_ladder_cannot_be_added_to_a_folder(sweep, tiny_model, reviews, tmp_path):
    fake_run(ladder_sweep(tiny_model, reviews, ladder=False, budget={"trials": 1}), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="another sweep: ladder differ"):
        fake_run(sweep, tmp_path / "out")


def test_recovery_keeps_waiting_trials(quick_sweep, tmp_path):
    with pytest.raises(SweepInterruptedError):
        fake_run(quick_sweep, tmp_path / "out", Watcher(stop_at(3)))
    before = read_tables(tmp_path / "out").trials
    assert open_ledger(tmp_path / "out", read_sweep(tmp_path / "out")).recover() == 0
    assert read_tables(tmp_path / "out").trials["status"].tolist() == before["status"].tolist()
