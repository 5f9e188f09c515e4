"""What a sweep leaves open about speed, what the answer depends on, and the answer."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from autotune.calibrate.candidates import Candidate, candidates
from autotune.calibrate.chunk_size import chunk_sizes
from autotune.calibrate.layout import Layout, Layouts, layouts
from autotune.estimate.speed import step_flops
from autotune.estimate.sweep_time import Sizes, is_isolated, slot_of, sweep_time
from autotune.estimate.trial_work import Speed, TrialWork, typical_configuration
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.schema import Sweep
from autotune.version import __version__
from search_spaces.costs.cost_model import CostModel
from search_spaces.parameters.types import Configuration
from trials.data.task_data import TaskData
from trials.tasks.specs import ModelSpec

_PACKAGES = ("torch", "transformers", "peft")
_BUCKETS = 2
"""Lengths and batch sizes whose binary logarithms round to the same half have the same answer."""


@dataclass(frozen=True)
class Answer:
    """What is chosen for a sweep.

    Args:
        candidate: how the base model computes.
        layout: how trials are divided among processes.
        rate: the training examples per second with that candidate in one process, roughly.
        why: what was measured, in clauses for the user.
        is_complete: whether all was measured in time; otherwise another calibration may have another answer.
        chunk_tokens: the maximum number of tokens of one forward pass of a pack; None for that of the sweep.
    """

    candidate: Candidate
    layout: Layout
    rate: float
    why: tuple[str, ...] = ()
    is_complete: bool = True
    chunk_tokens: int | None = None

    @property
    def text(self) -> str:
        """The answer in a sentence for the user."""
        return "; ".join((f"{self.candidate}, {self.layout}", *self.why))


class Question:
    """What a sweep leaves open about speed, and what the answer depends on.

    Args:
        sweep: the sweep.
        data: of its task.
        costs: returns the known costs of a configuration.
        configs: random configurations of its space.
    """

    def __init__(
        self, sweep: Sweep, data: TaskData, costs: CostModel, configs: Sequence[Configuration]
    ) -> None:
        self.sweep, self.data, self.costs = sweep, data, costs
        self._configs = configs
        self.candidates: list[Candidate] = candidates(sweep)
        self.layouts: Layouts = layouts(sweep, costs.shape)
        self.is_isolated = is_isolated(sweep)

    @cached_property
    def config(self) -> Configuration:
        """A typical configuration, which is measured."""
        return typical_configuration(self._configs, self.costs)

    @cached_property
    def chunk_sizes(self) -> tuple[int, ...]:
        """The chunk sizes that the sweep leaves open, in tokens, the usual one first; empty if none is open."""
        longest = int(self.data.tokens("train").max())
        return chunk_sizes(self.sweep, self.config, longest, is_isolated=self.is_isolated)

    @property
    def batch_size(self) -> int:
        """The batch size of the typical configuration."""
        return int(self.config.get("batch_size", self.costs.workload.batch_size))

    def seconds(self, speed: Speed) -> float:
        """Return the seconds of the sweep, search and confirmation, at a speed that is only assumed."""
        sweep, counts = self.sweep, {name: len(split) for name, split in self.data.splits.items()}
        train = min(sweep.fidelity.train_samples or counts["train"], counts["train"])
        evaluated = min(sweep.fidelity.eval_samples or counts["validation"], counts["validation"])
        sizes = Sizes(train, evaluated, counts["test"], (counts["train"], counts["validation"]))
        works = [TrialWork.of(config, self.costs) for config in self._configs]
        slot = slot_of(sweep, speed, self.costs.shape, self.costs.workload.tokens, sizes)
        return sweep_time(sweep, works, speed, slot, sizes).total.typical

    def seconds_at(self, rate: float) -> float:
        """Return the same at a number of training examples per second."""
        per_flop = 1 / (rate * step_flops(self.config, self.costs)(1))
        return self.seconds(Speed(per_flop, 0.0, 0.0))

    def model(self, answer: Answer) -> ModelSpec:
        """Return the sweep's base model with an answer."""
        return answer.candidate.of(self.sweep.model)

    def executor(self, answer: Answer) -> ExecutorSpec:
        """Return the sweep's executor with an answer."""
        is_open = self.sweep.is_executor_open and not self.is_isolated
        spec = answer.layout.of(self.sweep.executor, is_open=is_open)
        if answer.chunk_tokens is None:
            return spec
        return spec.model_copy(update={"chunk_tokens": answer.chunk_tokens})

    @cached_property
    def digest(self) -> str:
        """The digest of everything that the answer depends on, and of what is asked."""
        model, shape = self.sweep.model, self.costs.shape
        lengths = self.data.lengths("train")
        asked = {
            "device": _device(model),
            "versions": [__version__, *(version(name) for name in _PACKAGES)],
            "model": [model.name, model.revision, model.weights, shape.model_type],
            "size": [shape.width, shape.depth, shape.base_parameters, shape.vocabulary],
            "task": [self.sweep.task.type, self.data.outputs],
            "lengths": [_bucket(float(np.mean(lengths))), _bucket(float(lengths.max()))],
            "trial": [str(self.config["family"]), _bucket(self.batch_size), self.is_isolated],
            "candidates": [dataclasses.asdict(candidate) for candidate in self.candidates],
            "layouts": dataclasses.asdict(self.layouts),
            "chunks": self.chunk_sizes,
        }
        text = json.dumps(asked, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _bucket(number: float) -> int:
    return round(_BUCKETS * math.log2(max(number, 1.0)))


def _device(model: ModelSpec) -> list[Any]:
    """Return what identifies the device that computes, as far as its speed depends on it."""

    import torch

    from trials.base import processor
    from trials.base.cores import usable_cores
    from trials.base.model import choose_device

    device = choose_device(model.device)
    if device.type == "cuda":
        return [torch.cuda.get_device_name(device), torch.cuda.device_count()]
    limits = {name: os.environ.get(name) for name in processor.LIMITS}
    cores = [usable_cores(), torch.get_num_threads()]
    return [device.type, processor.model_name(), processor.instructions(), limits, cores]
