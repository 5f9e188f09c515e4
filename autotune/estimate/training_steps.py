"""Training steps of a sweep's own trials, as a measurement runs them: one at a time and never to the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Configuration
from trials.data.task_data import TaskData
from trials.kinds.registry import find_kind
from trials.records import Fidelity, TrialSpec

if TYPE_CHECKING:
    from trials.base.model import Base

HELD_OUT = 2
"""Validation examples of a measurement, which none of its steps reads."""

Step = Callable[[], None]
"""One training step of every trial of a measurement."""


def begin_training(
    base: Base,
    data: TaskData,
    specs: Sequence[TrialSpec],
    *,
    is_isolated: bool = False,
    chunk_tokens: int | None = None,
) -> Step:
    """Start trials as an executor would, and return what trains one step of each.

    Args:
        base: the base model.
        data: what the trials train on; its splits are those of the measurement.
        specs: the trials, with more steps than the measurement makes, since the last one evaluates. They train as a
            pack if their adapters can.
        is_isolated: whether trials train by themselves, without states that earlier trials have left.
        chunk_tokens: the maximum number of tokens of one forward pass of a pack; by default what suits the device.
    """
    from trials.packing.pack import Pack
    from trials.packing.prefix_cache import PrefixCache
    from trials.training.run import Run, train_batch

    can_pack = find_kind(base.task.type).packs(data.fields)
    mixes_rows = any(REGISTRY[str(spec.config["family"])].mixes_rows for spec in specs)
    if not is_isolated and can_pack and not mixes_rows:
        pack = Pack(base, data, chunk_tokens, PrefixCache(limit=0))
        if all(pack.enter(ticket, spec) is None for ticket, spec in enumerate(specs)):
            return lambda: _check(pack.advance())
    runs = [Run(base, data, spec) for spec in specs]

    def step() -> None:
        for run in runs:
            run.update(*train_batch(run, run.next_batch() or []))

    return step


def _check(ended: Mapping[int, object]) -> None:
    """Fail if a run has ended, which is an error so far from its last step."""
    if ended:
        raise RuntimeError("the configuration cannot be trained")


def trial_of(config: Configuration, data: TaskData, steps: int, seed: int = 0) -> TrialSpec:
    """Return a trial whose every step reads all training examples of `data`."""
    own = {**config, "epochs": steps, "batch_size": len(data.splits["train"])}
    return TrialSpec(own, seed, fidelity=Fidelity(evaluations=1))


def examples_near(data: TaskData, tokens: float, count: int) -> TaskData:
    """Return the `count` training examples with lengths nearest to `tokens`, repeated if there are fewer."""
    nearest = np.argsort(np.abs(data.lengths("train") - tokens), kind="stable")
    return with_examples(data, np.resize(nearest, count))


def typical_examples(data: TaskData, count: int) -> TaskData:
    """Return `count` training examples whose lengths are evenly spread quantiles of those of all."""
    order = np.argsort(data.lengths("train"), kind="stable")
    places = (np.arange(count) + 0.5) / count * len(order)
    return with_examples(data, order[places.astype(int)])


def with_examples(data: TaskData, chosen: NDArray[np.int64]) -> TaskData:
    """Return data with the chosen training examples, and hardly any others."""
    places = {"train": chosen.tolist()}
    places |= {
        name: list(range(min(HELD_OUT, len(data.splits[name])))) for name in data.splits if name != "train"
    }
    splits = {name: [data.splits[name][i] for i in indices] for name, indices in places.items()}
    raw = {name: data.raw[name].select(indices) for name, indices in places.items()}
    return replace(data, splits=splits, raw=raw, _cuts={})
