"""Trials of one runner, trained in a pack and alone, and the comparison of the two."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces.families import REGISTRY
from search_spaces.language.loader import load_space
from trials.execution.runner import Runner
from trials.packing.pack import Pack
from trials.records import Fidelity, TrialResult, TrialSpec, TrialStatus

FIDELITY = Fidelity(train_samples=96, eval_samples=40, evaluations=2)
COMMON = {"batch_size": 16, "epochs": 2, "weight_decay": 0.01, "warmup": 0.1, "schedule": "linear"}


def spec(runner: Runner, family: str, seed: int = 0, **changes: object) -> TrialSpec:
    families = {"families": [family]}
    space = load_space(families, shape=runner.base.shape, task=runner.base.task.shape_task).space
    return TrialSpec({**space.default(family=family), **COMMON, **changes}, seed, FIDELITY)


def supported(runner: Runner) -> list[str]:
    shape = runner.base.shape
    return [name for name, family in REGISTRY.items() if family.unsupported(shape, shape.task) is None]


def packed(
    runner: Runner, specs: list[TrialSpec], apart: bool = False, **arguments: int
) -> list[TrialResult]:
    """The results of a pack; `apart` says that some may leave it and go on beside it."""
    pack = Pack(runner.base, runner.data, **arguments)
    results = {
        ticket: result for ticket, s in enumerate(specs) if (result := pack.enter(ticket, s)) is not None
    }
    while len(pack):
        results.update(pack.advance())
        assert apart or not pack.unjoined
    return [results[ticket] for ticket in range(len(specs))]


def alone(runner: Runner, spec: TrialSpec) -> TrialResult:
    return runner.run(replace(spec, is_isolated=True))


def agree(one: TrialResult, other: TrialResult, rel: float = 1e-4) -> None:
    assert one.status == other.status == TrialStatus.COMPLETE, (one.error, other.error)
    assert [p.step for p in one.curve] == [p.step for p in other.curve]
    for mine, theirs in zip(one.curve, other.curve, strict=True):
        assert mine.metrics["eval_loss"] == pytest.approx(theirs.metrics["eval_loss"], rel=rel)
    assert one.trainable_params == other.trainable_params
