"""What a sweep would choose for the case of a benchmark: the row `auto` beside the rows with fixed settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from autotune.calibrate.choice import VARIABLE, calibrate
from autotune.prepare.bound_base import bind_base
from autotune.sweep.sweep_file import parse_sweep
from benchmarks.trainer_and_packs import Variant
from search_spaces.parameters.types import Configuration
from trials.records import Fidelity
from trials.tasks.specs import ModelSpec, TaskSpec

_TRIALS = 100
"""The trials of the sweep, which is long enough for several processes."""


def calibrated_variant(
    model: ModelSpec, task: TaskSpec, config: Configuration, fidelity: Fidelity
) -> tuple[Variant, str]:
    """Return what a sweep without an executor and with `precision: auto` chooses, and its note.

    Args:
        model: the base model; its precision is ignored.
        task: of the benchmark.
        config: the only configuration of the sweep's space.
        fidelity: of its trials.
    """
    names = ("family", "weight_decay", "warmup", "schedule")
    parameters = {name: value for name, value in config.items() if name not in names}
    sweep = parse_sweep(
        {
            "name": "calibrated",
            "model": {**model.model_dump(), "precision": "auto"},
            "task": task.model_dump(exclude_none=True),
            "space": {"families": [config["family"]], "parameters": parameters},
            "budget": {"trials": _TRIALS},
            "fidelity": {"train_samples": fidelity.train_samples, "eval_samples": fidelity.eval_samples},
        }
    )
    own = bind_base(sweep)
    with _measured_again():
        found = calibrate(sweep, own.data, own.space, own.costs)
    executor = found.executor
    count = executor.processes or 1
    variant = Variant(executor.workers or 1, count, found.model.precision, is_chosen=True)
    return variant, "; ".join(found.notes)


@contextmanager
def _measured_again() -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "new"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
