"""Trainer + peft against packs on one base model: speed in rounds, utilization, and memory against its model."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.models import Sizes, base_model, decoder, encoder, sentences, token_texts
from benchmarks.gpu.report import Report
from benchmarks.step_memory import step_memory
from benchmarks.trainer_and_packs import Measured, Setting, Variant, model_flops, packed, with_trainer
from search_spaces.parameters.types import Configuration
from trials.execution.runner import Runner
from trials.packing.memory import PeakMemory
from trials.packing.memory_model import MemoryModel
from trials.records import Fidelity, TrialSpec

TRAINER = "Trainer + peft"
_MEMORY_STEPS = 2


@dataclass(frozen=True)
class Case:
    """A base model, its data, and the length of a trial.

    Args:
        model: encoder or decoder.
        tokens: Tokens of each text of the decoder; 0 for the sentences of the encoder.
        weights: As in `ModelSpec`.
        precision: As in `ModelSpec`.
        batch: The batch size of every trial.
        steps: The optimizer steps of every trial.
        held_out: The examples that are scored at the end of a trial.
        packs: The numbers of configurations at a time.
        rounds: How often Trainer and all packs follow each other.
    """

    model: str
    tokens: int
    weights: str
    precision: str
    batch: int
    steps: int
    held_out: int = 64
    packs: tuple[int, ...] = (1, 8, 32)
    rounds: int = 3

    def tiny(self) -> Case:
        """Return the same case with few and short texts and small packs."""
        return replace(
            self, tokens=min(self.tokens, 16), batch=2, steps=5, held_out=4, packs=(1, 4), rounds=1
        )

    def trials(self, k: int) -> int:
        """Return how many trials packs of `k` train in a round: those of one pack, and two one after another."""
        return max(k, 2)


@dataclass(frozen=True)
class Bench:
    """A case on a device with its files written."""

    case: Case
    setting: Setting
    runner: Runner

    @classmethod
    def prepare(cls, case: Case, device: str, folder: Path, sizes: Sizes) -> tuple[Bench, str]:
        """Write model and data, load them, and return them with a description of the model."""
        examples = case.batch * case.steps
        if case.model == "encoder":
            name, what = encoder(folder, sizes)
            task = sentences(folder, examples, case.held_out)
        else:
            name, what = decoder(folder, sizes)
            task = token_texts(folder, case.tokens, examples, case.held_out)
        model = base_model(name, device, case.weights, case.precision)
        runner = Runner(model, task)
        lengths = {len(example["input_ids"]) for example in runner.data.splits["train"]}
        if case.model == "decoder" and lengths != {case.tokens}:
            raise RuntimeError(f"texts have {sorted(lengths)} tokens, not {case.tokens}")
        base = runner.base
        return cls(case, Setting(model, task, runner.data, base.shape, base.device), runner), what

    def specs(self, count: int) -> list[TrialSpec]:
        """Return trials of the case's length; the same for the same count's beginning."""
        fidelity = Fidelity(self.case.batch * self.case.steps, self.case.held_out, evaluations=1)
        configs = configurations(count, self.setting.shape.depth, self.case.batch)
        return [TrialSpec(config, seed, fidelity) for seed, config in enumerate(configs)]


def configurations(count: int, layers: int, batch: int) -> list[Configuration]:
    """Return LoRA on all matrices of all layers with ranks of 4 to 32, whose speed differs little."""
    rng = np.random.default_rng(0)
    return [
        {
            "family": "lora",
            "lora.targets": "all",
            "lora.layers": layers,
            "lora.rank": int(2 ** rng.integers(2, 6)),
            "lora.scale": 2.0,
            "lora.rslora": True,
            "lora.dora": False,
            "lora.dropout": 0.0,
            "lora.learning_rate": float(np.exp(rng.uniform(np.log(2e-4), np.log(2e-3)))),
            "batch_size": batch,
            "epochs": 1,
            "weight_decay": 0.01,
            "warmup": 0.1,
            "schedule": "linear",
        }
        for _ in range(count)
    ]


def compare(case: Case, device: str, folder: Path, sizes: Sizes, report: Report) -> None:
    """Measure the memory of packs, then Trainer and packs in rounds; the report is saved after each measurement."""
    bench, what = Bench.prepare(case, device, folder, sizes)
    report.add(case=_facts(case), model=what)
    for k in case.packs:
        with report.noting(f"memory, K = {k}"):
            report.row("memory", _memory(bench, k))
    setting, specs = bench.setting, bench.specs(max(map(case.trials, case.packs)))
    del bench  # its base model would count as memory of either side
    release(setting.device)
    arms: dict[str, Callable[[], Measured]] = {TRAINER: lambda: _trainer(setting, specs[:1], folder)}
    counts = {TRAINER: 1}
    for k in case.packs:
        chosen, variant = specs[: case.trials(k)], Variant(k, 1, case.precision)
        arms[f"K = {k}"] = lambda chosen=chosen, v=variant: packed(setting.model, setting.task, chosen, v)
        counts[f"K = {k}"] = len(chosen)
    flops = {name: model_flops(setting, specs[:count]) for name, count in counts.items()}
    with report.noting("warm-up of Trainer"):
        arms[TRAINER]()
    failed: set[str] = set()
    for turn in range(case.rounds):
        for name, run in arms.items():
            seconds = expected_seconds(name, counts, report.rows("speed"))
            if name in failed or not report.has_time(seconds, f"round {turn + 1}, {name}"):
                continue
            failed.add(name)
            with report.noting(f"round {turn + 1}, {name}"):
                report.row("speed", _speed(name, turn, run, counts[name], flops[name], case, setting.device))
                failed.discard(name)
            release(setting.device)


def expected_seconds(name: str, counts: dict[str, int], rows: list[dict[str, Any]]) -> float:
    """Return how long an arm will probably take: as in an earlier round, or by the arm of one pack size below."""
    own = [row["whole"] for row in rows if row["arm"] == name]
    if own:
        return max(own)
    packs = [row for row in rows if row["arm"] != TRAINER]
    if name == TRAINER or not packs:
        return 0.0
    last = packs[-1]
    return float(last["whole"] - last["train"] + last["train"] * counts[name] / counts[last["arm"]])


def release(device: torch.device) -> None:
    """Give the memory of what is no longer used back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _facts(case: Case) -> dict[str, Any]:
    return {
        name: getattr(case, name)
        for name in ("model", "tokens", "weights", "precision", "batch", "steps", "held_out")
    }


def _memory(bench: Bench, k: int) -> dict[str, Any]:
    case, base = bench.case, bench.runner.base
    release(base.device)
    found = step_memory(base, bench.runner.data, bench.specs(k), _MEMORY_STEPS)
    # The copies that a CPU multiplies in another format are no parameters, and are not measured here.
    precision = case.precision if base.device.type == "cuda" else "fp32"
    tensors = {id(t): t.nbytes for t in (*base.model.parameters(), *base.model.buffers())}
    return {
        "k": k,
        "tokens": found.tokens,
        "length": found.length,
        "base_predicted": MemoryModel(base.shape).base_bytes(case.weights, precision, base.device.type),
        "base_measured": float(sum(tensors.values())),
        "predicted": found.predicted,
        "measured": found.measured,
    }


def _trainer(setting: Setting, specs: list[TrialSpec], folder: Path) -> Measured:
    written = tempfile.mkdtemp(dir=folder)
    try:
        total = Measured()
        for spec in specs:
            total += with_trainer(setting, spec, written, eval_batch=int(spec.config["batch_size"]))
        return total
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _speed(
    name: str,
    turn: int,
    run: Callable[[], Measured],
    count: int,
    flops: float,
    case: Case,
    device: torch.device,
) -> dict[str, Any]:
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    started = time.perf_counter()
    with PeakMemory(device) as memory:
        found = run()
    return {
        "arm": name,
        "round": turn,
        "trials": count,
        "train": found.train,
        "whole": time.perf_counter() - started,
        "examples_per_second": count * case.batch * case.steps / found.train,
        "trials_per_hour": 3600 * count / found.whole,
        "flops_per_second": flops / found.train,
        "loss": found.losses[0],
        "peak_memory": float(memory.peak - before),
    }
