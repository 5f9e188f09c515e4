"""The benchmark of transfer between sweeps: its table of training runs, and its figures on searches made by hand."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import transfer, transfer_trials
from benchmarks.transfer_tables import (
    Ratio,
    Search,
    Trust,
    agreement_table,
    transfer_table,
    trial_ratio,
    trust_table,
)
from benchmarks.transfer_trials import Setting, TableExecutor, TrialTable, configurations, fill, sweep_of
from trials.execution.interface import Executor
from trials.records import TrialResult, TrialSpec, TrialStatus

SPACE = {
    "families": ["lora", "ia3"],
    "parameters": {
        **{
            name: value
            for name, value in transfer_trials.SPACE["parameters"].items()
            if not name.startswith(("parallel.", "bitfit."))
        },
        "lora.targets": "q+v",
        "lora.layers": 1,
        "lora.rank": [1, 4],
        "lora.learning_rate": [1e-3, 1e-2],
        "ia3.targets": "k+v",
        "ia3.layers": [1, 2],
        "ia3.learning_rate": 1e-2,
        "epochs": 1,
        "warmup": 0.0,
    },
}
"""Six configurations."""


class FakeTraining(Executor):
    """Scores a configuration by its learning rate and its task, and counts the training runs."""

    name = "fake"
    runs = 0

    def start(self, model: object, task: object) -> None:
        self._bonus = 0.1 if "trec" in str(task.train) else 0.0  # type: ignore[attr-defined]
        self._queue: list[tuple[int, TrialSpec]] = []

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        ticket, spec = self._queue.pop(0)
        type(self).runs += 1
        rate = next(v for k, v in spec.config.items() if k.endswith("learning_rate"))
        accuracy = 0.6 + 20 * float(rate) + self._bonus
        return ticket, TrialResult(TrialStatus.COMPLETE, metrics={"accuracy": accuracy, "eval_loss": 0.5})

    def stop(self) -> None:
        self._queue = []


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    for task in ("sst2", "cr", "trec"):
        folder = tmp_path / "data" / task
        folder.mkdir(parents=True)
        for split in ("train", "validation", "test"):
            rows = [f"{split} {task} text {i}\t{'good' if i % 3 else 'bad'}" for i in range(12)]
            (folder / f"{split}.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    return Setting(tmp_path / "data", "builtin:pocket", 8, 8, trials=4, space=SPACE, precision="fp32")


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> type[FakeTraining]:
    monkeypatch.setattr(transfer_trials, "PackedExecutor", FakeTraining)
    FakeTraining.runs = 0
    return FakeTraining


def test_a_configuration_is_trained_once_per_task_and_read_from_the_file(
    setting: Setting, training: type[FakeTraining], tmp_path: Path
) -> None:
    path, configs = tmp_path / "out" / "trials.jsonl", configurations(setting)
    assert len(configs) == 6
    table = TrialTable(path, setting)
    executor = TableExecutor(table, "cr", setting)
    sweep = sweep_of("cr", 0, setting)
    executor.start(sweep.model, sweep.task)
    first = executor.run(TrialSpec(configs[0]))
    assert executor.run(TrialSpec(configs[0], seed=5)) == first
    assert training.runs == 1
    fill(table, setting, workers=2, chunk=4)
    assert training.runs == 3 * len(configs)
    again = TrialTable(path, setting)
    assert len(again) == 3 * len(configs)
    assert again.get("cr", configs[0]) == first
    assert not again.missing("trec", configs)
    other = Setting(setting.data, setting.model, 9, 8, space=SPACE)
    assert len(TrialTable(path, other)) == 0


def test_searches_run_once_and_make_the_tables(
    setting: Setting, training: type[FakeTraining], tmp_path: Path
) -> None:
    out, configs = tmp_path / "out", configurations(setting)
    table = TrialTable(out / "trials.jsonl", setting)
    fill(table, setting)
    given = transfer.parser().parse_args(["--out", str(out), "--seeds", "1", "--arms", "cold", "start"])
    for _ in range(2):
        transfer.run(given, table, setting)
    front = transfer.source_front(transfer.source_folder(out, 1))
    assert front
    assert all(config in configs for config in front)
    found = transfer.load(out)
    assert [(each.task, each.arm, len(each.volumes)) for each in found] == [
        (task, arm, 4) for arm in ("cold", "start") for task in ("cr", "trec")
    ]
    assert all(list(each.volumes) == sorted(each.volumes) for each in found)
    rows = transfer_table(found, table, configs, setting).rows
    assert [row[:2] for row in rows] == [
        (task, arm) for task in ("CR", "TREC") for arm in ("`cold`", "`start`")
    ]
    agreement = agreement_table(table, configs, setting).rows
    assert [row[1:3] for row in agreement] == [("1.00", "1.00")] * 3


def test_trust_is_counted_over_seeds() -> None:
    trusts = [Trust(10, 2, 0.4, 0.5), Trust(10, 0, 0.6, 0.7)]
    found = [Search("start", "trec", seed, (0.5,), trust) for seed, trust in enumerate(trusts)]
    rows = trust_table([*found, search("cold", 0.5)]).rows
    assert rows == (("TREC", "2 of 20", "0.50 (0.40 to 0.60)", "0.60 (0.50 to 0.70)", "2"),)
    assert Search.from_json(json.loads(json.dumps(asdict(found[0])))) == found[0]


def search(arm: str, *volumes: float, seed: int = 0) -> Search:
    return Search(arm, "cr", seed, volumes)


def test_trials_to_a_volume_and_what_did_not_reach_it() -> None:
    cold, fast = search("cold", 0.1, 0.2, 0.3, 0.4), search("start", 0.3, 0.3, 0.3, 0.3)
    assert cold.trials_to(0.3) == 3
    assert trial_ratio(fast, cold, 0.3) == pytest.approx(1 / 3)
    assert trial_ratio(fast, cold, 0.35) == math.inf
    assert trial_ratio(cold, fast, 0.35) == pytest.approx(4 / 4)


def test_a_ratio_is_the_median_over_seeds_with_its_intervals() -> None:
    ratio = Ratio.of([0.5, 0.5, 0.5, 0.5, 0.5])
    assert (ratio.median, ratio.likely, ratio.ends) == (0.5, (0.5, 0.5), (0.5, 0.5))
    unreached = Ratio.of([0.2, 0.4, math.inf])
    assert unreached.median == 0.4
    assert unreached.ends == (0.2, math.inf)
    assert str(unreached) == "0.40; 0.20 to ∞; 0.20 to ∞"


def test_only_seeds_with_all_arms_are_compared() -> None:
    whole = [search(arm, 0.5, seed=seed) for arm in ("cold", "start") for seed in (0, 1)]
    assert transfer.paired(whole) == whole
    assert [each.seed for each in transfer.paired(whole[:-1])] == [0, 0]
