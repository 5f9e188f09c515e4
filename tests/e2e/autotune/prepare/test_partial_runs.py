"""Rungs that are parts of the data: a share of the examples, or of the texts' length, with a fake executor."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from autotune.cli.live_display import PlainProgress
from autotune.cli.status import overview_json
from autotune.engine.events import Progress
from autotune.engine.sweep_run import SweepInterruptedError
from autotune.ledger.folder_reader import FolderReader
from autotune.prepare.partial_runs import partial_share
from autotune.prepare.prepared_sweep import prepare
from autotune.results.ladder_view import read_scheduler
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.comparison import search_differences
from search_spaces.errors import InvalidInputError
from tests.support.ladders import KINDS, LENGTH, partial_sweep, what_was_found
from tests.support.sweeps import SPACE, Watcher, fake_run, small_sweep
from trials.base.model import load_base
from trials.data.task_data import load_task
from trials.records import PartialRun, TrialResult, TrialSpec, TrialStatus
from trials.training.run import Run, example_count, truncation_length

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture(scope="module")
def whole(tiny_model, reviews, tmp_path_factory) -> dict[str, SweepTables]:
    """A sweep of each kind, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return {of: fake_run(partial_sweep(tiny_model, reviews, of), folder / of) for of in KINDS}


@pytest.mark.parametrize("of", KINDS)
def test_the_cost_is_the_sum_over_the_rungs(of, whole):
    results = whole[of]
    assert set(results.trials["status"]) == {"complete", "paused"}
    prepared = prepare(results.sweep)
    promotion = read_scheduler(results.sweep, FolderReader(results.folder, results.sweep).trials())
    rungs = promotion.ladder.rungs
    assert rungs == pytest.approx((0.4, 0.4**0.5, 1.0))
    for row, trial in zip(
        results.trials.itertuples(), FolderReader(results.folder, results.sweep).trials(), strict=True
    ):
        reached = promotion.promotion.candidates[trial.number].rung
        parts = [PartialRun(of, share) for share in rungs[: reached + 1] if share < 1]  # type: ignore[arg-type]
        each = [partial_share(part, row.config, prepared.costs, results.sweep.task) for part in parts]
        assert all(0 < share < 1 for share in each)
        assert each == sorted(each)
        assert row.share == pytest.approx(sum(each) + (row.status == "complete"))
        assert [record["rung"] for record in trial.user_attrs.get("rungs", [])] == list(range(len(parts)))
        # What the configuration costs is what it costs in full.
        assert row._asdict()["share"] > 0
        assert trial.user_attrs["costs"]["train_flops"] == prepared.costs(row.config).train_flops
    assert results.ladder is not None
    flops = results.trials["cost.train_flops"]
    assert results.ladder.used == pytest.approx((flops * results.trials["share"]).sum() / flops.sum())
    words = {"data": "40 % of the examples", "length": "40 % of the length"}[of]
    assert results.ladder.rows[0].share == words
    assert overview_json(results)["ladder"]["flops_share"] == pytest.approx(results.ladder.used)
    assert not (results.folder / "states").exists()


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize("after", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_a_resumed_sweep_gives_the_results_of_an_uninterrupted_one(
    of, after, whole, tiny_model, reviews, tmp_path
):
    def stop(ended: int) -> None:
        if ended == after:
            raise KeyboardInterrupt

    sweep = partial_sweep(tiny_model, reviews, of)
    with pytest.raises(SweepInterruptedError):
        fake_run(sweep, tmp_path / "out", Watcher(stop))
    watcher = Watcher()
    resumed = fake_run(sweep, tmp_path / "out", watcher)
    assert what_was_found(resumed) == what_was_found(whole[of])
    assert whole[of].ladder is not None
    assert len(watcher.finished) == sum(whole[of].ladder.reached) - after


def test_flops_count_every_rung(tiny_model, reviews, tmp_path):
    one = fake_run(partial_sweep(tiny_model, reviews, "data", budget={"trials": 1}), tmp_path / "one").trials
    assert one["status"].tolist() == ["complete"]
    assert one["share"][0] == pytest.approx((math.ceil(0.4 * 48) + math.ceil(0.4**0.5 * 48)) / 48 + 1)
    budget = {"flops": 1.5 * float(one["cost.train_flops"].iloc[0])}
    trials = fake_run(partial_sweep(tiny_model, reviews, "data", budget=budget), tmp_path / "out").trials
    spent = (trials["cost.train_flops"] * trials["share"]).sum()
    assert budget["flops"] <= spent < 2 * budget["flops"]


def test_a_larger_budget_promotes_waiting_trials(tiny_model, reviews, tmp_path):
    ladder = {"of": "data", "min": "50%", "random_share": 1}
    small = partial_sweep(tiny_model, reviews, "data", ladder=ladder, budget={"flops": 1.0})
    assert fake_run(small, tmp_path / "out").trials["share"].tolist() == [0.5]
    larger = partial_sweep(tiny_model, reviews, "data", ladder=ladder, budget={"trials": 2})
    watcher = Watcher()
    assert fake_run(larger, tmp_path / "out", watcher).trials["share"].tolist() == [1.5, 1.5]
    assert watcher.started == [0, 1, 1]


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


def test_the_examples_of_a_rung_are_among_those_of_the_next(loaded):
    low, middle, top = (
        seen(loaded, part) for part in (PartialRun("data", 0.2), PartialRun("data", 0.45), None)
    )
    assert len(low) == math.ceil(0.2 * len(top))
    assert len(middle) == math.ceil(0.45 * len(top))
    for below, above in ((low, middle), (middle, top)):
        left = list(above)
        for example in below:
            left.remove(example)  # raises where it is not there, counted as often as it occurs


def test_texts_are_truncated_to_a_share_of_the_sequence_length(loaded):
    _, data = loaded
    assert len(seen(loaded, PartialRun("length", 0.8))) == len(data.splits["train"])
    assert max(map(len, seen(loaded, PartialRun("length", 0.8)))) == math.ceil(0.8 * LENGTH)
    assert max(map(len, seen(loaded, None))) == LENGTH
    assert truncation_length({}, 100, PartialRun("length", 0.29)) == 29
    assert truncation_length({"sequence_length": 40}, 100, PartialRun("length", 0.5)) == 20
    assert truncation_length({"sequence_length": 400}, 100, PartialRun("length", 0.5)) == 50
    assert truncation_length({"sequence_length": 40}, 100, PartialRun("data", 0.5)) == 40
    assert truncation_length({}, 100, PartialRun("length", 0.01)) == 8
    assert truncation_length({}, 6, PartialRun("length", 0.01)) == 6
    assert truncation_length({}, 100, None) is None
    assert example_count(10, PartialRun("data", 0.3)) == 3
    assert example_count(10, PartialRun("data", 0.01)) == 1
    assert example_count(10, PartialRun("length", 0.3)) == example_count(10, None) == 10


def test_a_rung_of_the_length_costs_less_than_its_share_of_short_texts(tiny_model, reviews):
    sweep = partial_sweep(tiny_model, reviews, "length")
    prepared = prepare(sweep)
    config = prepared.space.defaults()[0]
    low, high = (
        partial_share(PartialRun("length", s), config, prepared.costs, sweep.task) for s in (0.4, 0.4**0.5)
    )
    # Texts of all lengths up to the full one: the shorter of them are not cut at all.
    assert 0.4 < low <= high < 1
    assert partial_share(None, config, prepared.costs, sweep.task) == 1.0


def test_a_space_with_sequence_lengths_is_measured_at_each(tiny_model, reviews):
    space = {**SPACE, "parameters": {**SPACE["parameters"], "sequence_length": [10, 12]}}  # type: ignore[dict-item]
    sweep = partial_sweep(tiny_model, reviews, "length", space=space, ladder={"of": "length", "min": "75%"})
    prepared = prepare(sweep)
    for length, cut in ((10, 8), (12, 9)):
        config = {**prepared.space.defaults()[0], "sequence_length": length}
        share = partial_share(PartialRun("length", 0.75), config, prepared.costs, sweep.task)
        lower = prepared.costs({**config, "sequence_length": cut}).train_flops
        assert share == lower / prepared.costs(config).train_flops


def test_a_length_that_truncates_no_text_is_refused(tiny_model, reviews):
    sweep = partial_sweep(tiny_model, reviews, "length")
    longer = sweep.model_copy(update={"task": sweep.task.model_copy(update={"max_length": 64})})
    with pytest.raises(
        InvalidInputError,
        match=r"ladder\.of: 26 tokens, 40 % of 64, cut no training example: the longest has \d+\. "
        r"Lower task\.max_length to \d+ or less, or write data\.",
    ):
        prepare(longer)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lenght", r"ladder\.of: 'lenght' does not fit\. Did you mean 'length'\?"),
        (3, r"ladder\.of: 3 does not fit\. Use one of: training, data, length, base\."),
    ],
)
def test_an_unknown_kind_of_rung_is_refused(given, message, tiny_model, reviews):
    with pytest.raises(InvalidInputError, match=message):
        partial_sweep(tiny_model, reviews, "", ladder={"of": given})


def test_another_kind_is_another_search(tiny_model, reviews):
    data, length = (partial_sweep(tiny_model, reviews, of) for of in KINDS)
    assert search_differences(data, length) == ["ladder.of"]


def test_the_spec_survives_json():
    spec = TrialSpec({"family": "head"}, partial_run=PartialRun("data", 0.2))
    assert TrialSpec.from_json(spec.to_json()) == spec
    assert TrialSpec.from_json(TrialSpec({"family": "head"}).to_json()).partial_run is None


@pytest.mark.parametrize(("of", "said"), [("training", "after 65"), ("data", "after a total of 65")])
def test_the_log_names_the_quantity_of_a_share(of, said, tiny_model, reviews):
    sweep = small_sweep(tiny_model("bert"), reviews, ladder={"of": of})
    console = Console(file=io.StringIO(), width=200)
    with PlainProgress(console) as watcher:
        watcher.sweep_started(sweep, [])
        watcher.trial_started(0, {"family": "head"}, seed=0)
        paused = TrialResult(TrialStatus.PAUSED, metrics={"eval_loss": 0.5}, flops_share=0.65)
        watcher.trial_finished(0, paused, {}, on_front=False)
        watcher.progress(Progress(phase="search"))
    assert f"paused {said}" in console.file.getvalue()
