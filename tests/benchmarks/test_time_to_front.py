"""The benchmark of the time to a front: its figures and its table, on trials made by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from benchmarks import time_to_front
from benchmarks.front_by_hand import Workers, end_running, open_study
from benchmarks.front_records import Done, Record, first_at, moments, reference_volume, table
from benchmarks.time_to_front import Clock, Setting, is_far, result_tables, run_arm, sweep_of

CORNER = (0.5, 6.0)


def done(
    number: int, wall: float, accuracy: float | None, parameters: float | None, share: float = 1.0
) -> Done:
    return Done(number, wall, wall / 2, 1e12, share, accuracy, parameters)


def record(arm: str, seed: int, *trials: Done) -> Record:
    return Record(arm, seed, True, list(trials))


def fast(seed: int = 0, pace: float = 1.0) -> Record:
    """0.3 · 2 with the first, 0.3 · 2 + 0.2 · 2 with the third; the second is only promoted."""
    return record(
        "both",
        seed,
        done(0, 10 * pace, 0.8, 1e4),
        done(1, 20 * pace, None, None, share=0.2),
        done(1, 30 * pace, 0.7, 1e2),
    )


def test_hypervolume_and_costs_grow_with_the_trials():
    path = moments(fast(), CORNER)
    assert [moment.volume for moment in path] == pytest.approx([0.6, 0.6, 0.6 + 0.2 * 2])
    assert [moment.flops for moment in path] == pytest.approx([1e12, 1.2e12, 2e12])
    assert [moment.trials for moment in path] == [1, 2, 2]
    assert [moment.cpu for moment in path] == [5, 10, 15]
    assert first_at(path, 0.6) == path[0]
    assert first_at(path, 0.61) == path[2]
    assert first_at(path, 1.01) is None


def test_trials_without_parameters_have_a_logarithm_and_bad_ones_no_volume():
    only = record("gp", 0, done(0, 1, 0.6, 0), done(1, 2, 0.4, 500), done(2, 3, 0.9, 1e7))
    assert [moment.volume for moment in moments(only, CORNER)] == pytest.approx([0.4, 0.4, 0.4])


def test_the_reference_is_of_all_trials():
    other = record("gp", 0, done(0, 50, 0.9, 1e5))
    assert reference_volume([fast(), other], CORNER) == pytest.approx(1.0 + 0.1 * 1)
    assert reference_volume([], CORNER) == 0.0


def test_the_table_names_the_arms_that_ran_out_of_time():
    slow = [record("gp", seed, done(0, 100, 0.8, 1e4), done(1, 400, 0.7, 1e2)) for seed in range(3)]
    never = record("tpe", 0, done(0, 123, 0.6, 1e5))
    records = [*slow, never, fast(), fast(1, pace=2), record("both", 2, done(0, 99, 0.8, 1e4))]
    lines = table(records, CORNER).as_markdown()
    gp, tpe, both = lines.splitlines()[2:]
    assert "| 3 of 3 | 400 (400 to 400) | 1.0× | > 0.3× |" in gp
    assert "| 0 of 1 | not within 1 trials / 123 s |" in tpe
    assert "| 2 of 3 | 60 (30 to > 99) | 6.7× | > 2.0× |" in both
    assert "| 1.000 (1.000 to 1.000) |" in gp
    assert "(0.600 to 1.000) |" in both
    assert len({line.count("|") for line in lines.splitlines()}) == 1
    without = [*slow[:2], record("gp", 2, done(0, 500, 0.8, 1e4))]
    assert (
        "| 30 | 13.3× |" in table([fast(), *without], CORNER).as_markdown()
    )  # the median is known all the same
    half = [fast(), record("both", 1, done(0, 99, 0.8, 1e4))]
    assert "| 1 of 2 | not within 2 trials / 99 s |" in table(half, CORNER).as_markdown()


def test_records_resume_where_they_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = Setting({"fidelity": {"train_samples": 3, "eval_samples": 4}}, CORNER, 2, 4, 1.0)
    begun = []

    def one_more(made: Record, path: Path, *_: object) -> None:
        begun.append(len(made.trials))
        made.trials.append(done(len(made.trials), Clock(made).read()[0] + 5, 0.8, 1e4))
        made.save(path)
        if len(made.trials) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(time_to_front, "by_hand", one_more)
    with pytest.raises(KeyboardInterrupt):
        run_arm("gp", 0, given, tmp_path)
    assert not Record.load(tmp_path / "gp-0.json").complete
    finished = run_arm("gp", 0, given, tmp_path)
    assert finished.complete
    assert finished.trials[1].wall >= finished.trials[0].wall + 5
    assert run_arm("gp", 0, given, tmp_path) == finished
    assert begun == [0, 1]
    run_arm("gp", 0, replace(given, trials=3), tmp_path)
    assert begun == [0, 1, 2]
    run_arm("gp", 0, replace(given, trials=9, minutes=0.1), tmp_path)  # it has had its time
    assert begun == [0, 1, 2]
    half = Record("tpe", 1, False, [done(0, 9, 0.7, 1e3)])
    tables = result_tables([finished, half], given, threads=1)
    assert list(tables) == ["share-95", "share-90", "share-75"]
    assert "Not complete: tpe-1." in tables["share-95"].caption
    assert tables["share-90"].caption.startswith("To 90% of the reference")
    assert tables["share-90"].rows[0][0] == "`gp`"


def quick(*more: str) -> Setting:
    """Of trials that take seconds."""
    given = [
        "--out=.",
        "--quick",
        "--samples=48",
        "--eval-samples=40",
        "--trials=2",
        "--ladder-times=2",
        "--minutes=1",
    ]
    return time_to_front.setting(time_to_front.parser().parse_args([*given, *more]))


@pytest.mark.parametrize(
    ("arm", "executor", "has_ladder", "precision", "trials"),
    [
        ("default", "local", False, "auto", 2),
        ("plain", "local", False, "fp32", 2),
        ("packed", "packed", False, "fp32", 2),
        ("both", "packed", True, "fp32", 4),
        ("int8", "packed", False, "int8", 2),
        ("plain8", "local", False, "int8", 2),
    ],
)
def test_an_arm_has_what_its_name_says(
    arm: str, executor: str, has_ladder: bool, precision: str, trials: int
):
    sweep = sweep_of(arm, 3, quick())
    assert (sweep.executor.name, sweep.ladder is not None) == (executor, has_ladder)
    assert (sweep.model.precision, sweep.budget.trials, sweep.seed) == (precision, trials, 3)


def test_packs_are_as_many_as_one_says():
    given = quick("--workers", "4", "--processes", "2")
    packs = sweep_of("packed", 0, given).executor
    assert (packs.name, packs.workers, packs.processes) == ("packed", 4, 2)
    assert sweep_of("plain", 0, given).executor.processes is None
    assert sweep_of("packed", 0, quick()).executor.workers is None


def test_the_default_arm_leaves_executor_and_precision_open():
    written = sweep_of("default", 0, quick()).model_dump(exclude_unset=True)
    assert "executor" not in written
    assert written["model"]["precision"] == "auto"


def test_an_arm_by_hand_ends_at_its_share_of_the_reference_until_that_grows():
    given = Setting({}, CORNER, 9, 9, 1.0, until=0.9)
    own, low, high = (record("gp", 0, done(0, 9, accuracy, 1e4)) for accuracy in (0.8, 0.81, 0.95))
    assert is_far(own, given, [low])
    assert not is_far(own, given, [low, high])
    assert not is_far(own, given, [])  # it would be its own reference
    assert not is_far(own, replace(given, until=None), [low])
    assert not is_far(replace(own, arm="packed"), given, [low])  # the arms that make the reference go on


def test_arms_by_hand_may_have_minutes_of_their_own():
    given = Setting({}, CORNER, 9, 9, 7.0, hand_minutes=40.0)
    assert (given.minutes_of("tpe"), given.minutes_of("default")) == (40.0, 7.0)
    assert replace(given, hand_minutes=None).minutes_of("tpe") == 7.0


@pytest.fixture
def piped() -> Iterator[tuple[Workers, list[Connection]]]:
    """Two workers without processes, and their ends of the pipes."""
    workers, theirs = Workers(2, 1, {}, Path("unused.db"), record("tpe", 0, done(0, 9, 0.8, 1e4))), []
    for _ in range(2):
        ours, end = Pipe()
        workers._workers[ours] = Process()
        theirs.append(end)
    yield workers, theirs
    for pipe in (*workers._workers, *theirs):
        pipe.close()


def test_trials_of_several_processes_come_in_the_order_of_their_end(
    piped: tuple[Workers, list[Connection]],
):
    workers, (first, second) = piped
    trials = workers.trials(lambda begun: begun < 5)  # one ended in an earlier process
    second.send(done(2, 0, 0.7, 1e3))
    assert next(trials).number == 2
    first.send(done(1, 0, 0.6, 1e3))
    assert next(trials).number == 1
    second.send(done(3, 0, 0.6, 1e3))
    assert next(trials).number == 3
    first.send(done(4, 0, 0.6, 1e3))
    assert [trial.number for trial in trials] == [4]
    messages = []
    for end in (first, second):
        while end.poll():
            messages.append(end.recv())
    assert len(messages) == 2 * 4  # begin, and recorded


def test_a_process_by_hand_that_fails_or_dies_ends_the_benchmark(piped: tuple[Workers, list[Connection]]):
    workers, (first, second) = piped
    first.send("Traceback of what went wrong")
    with pytest.raises(RuntimeError, match="Traceback of what went wrong"):
        list(workers.trials(lambda begun: begun < 2))
    second.close()
    with pytest.raises(RuntimeError, match="has died"):
        workers._receive(list(workers._workers)[1])


def test_trials_that_an_ended_process_left_running_are_failed(tmp_path: Path):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = open_study(storage, "tpe", 1)
    study.tell(study.ask(), [0.8, 3.0])
    study.ask()
    again = open_study(storage, "tpe", 2)
    end_running(again)
    assert [trial.state.name for trial in again.get_trials()] == ["COMPLETE", "FAIL"]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["tpe", "both", "default"])
def test_an_arm_runs_by_hand_and_as_a_sweep(tmp_path: Path, arm: str):
    given = quick()
    finished = run_arm(arm, 0, given, tmp_path)
    path = moments(finished, given.corner)
    assert path[-1].trials == (4 if arm == "both" else 2)
    assert any(trial.accuracy is not None for trial in finished.trials)
    assert all(0 < a.wall < b.wall and a.flops <= b.flops for a, b in pairwise(path))
    assert math.isfinite(path[-1].volume)
