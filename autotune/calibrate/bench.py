"""The measurements of a calibration, on the sweep's own base model, data and a typical configuration."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autotune.calibrate.agreement import SEEDS, STEPS, Trace
from autotune.calibrate.candidates import Candidate
from autotune.calibrate.race import timed
from autotune.estimate.training_steps import Step, begin_training, trial_of, typical_examples
from search_spaces.parameters.types import Configuration
from trials.data.task_data import TaskData
from trials.records import Fidelity, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

if TYPE_CHECKING:
    from trials.base.model import Base
    from trials.training.run import Run

_MANY_STEPS = 100
"""More steps than any measurement makes; the last one of a trial would evaluate."""
_PROBED = 8
"""The examples of the step that shows the seconds per example."""
_COMPARED = 8
"""The most examples of a batch of the trials that are compared."""
_MOST_GRADIENTS = 500_000
"""Gradients of more parameters are compared by a sample of them."""


@dataclass
class Bench:
    """The base model in the forms that the candidates need, and what is measured on it.

    Args:
        model: the base model.
        task: of the sweep.
        data: of the task.
        config: a typical configuration.
        is_isolated: whether trials train by themselves.
        threads: that the measurement computes with; with one on a CPU, processor time is compared.
    """

    model: ModelSpec
    task: TaskSpec
    data: TaskData
    config: Configuration
    is_isolated: bool
    threads: int
    _bases: dict[Candidate, Base] = field(default_factory=dict)
    _loading: float = 0.0

    def clock(self) -> float:
        """Return a time in seconds that stands still while a base model is loaded, which a run needs anyway."""
        return time.perf_counter() - self._loading

    def meter(self) -> float:
        """Return the seconds that are compared: of the processor where one thread computes, else of the wall."""
        return time.process_time() if self.is_serial else time.perf_counter()

    @property
    def is_serial(self) -> bool:
        """Whether one thread of the CPU does all the work."""
        return self.threads == 1 and self.is_on_cpu

    @property
    def is_on_cpu(self) -> bool:
        """Whether trials compute on the CPU."""
        from trials.base.model import choose_device

        return choose_device(self.model.device).type == "cpu"

    def base(self, candidate: Candidate) -> Base:
        """Return the base model as a candidate computes, loaded once."""
        from trials.base.model import load_base

        if candidate not in self._bases:
            tick = time.perf_counter()
            self._bases[candidate] = load_base(candidate.of(self.model), self.task, self.data)
            self._loading += time.perf_counter() - tick
        return self._bases[candidate]

    def steps(
        self, candidate: Candidate, trials: int, size: int, chunk_tokens: int | None = None
    ) -> Callable[[], Step]:
        """Return what starts trials of one configuration and returns one step of each of them.

        Every step reads the same examples, whose lengths are typical of the data, so all steps do the same work.

        Args:
            candidate: how the base model computes.
            trials: the number of trials, which train as a pack.
            size: the examples of a batch.
            chunk_tokens: the maximum number of tokens of one forward pass; by default what suits the device.
        """

        def start() -> Step:
            few = typical_examples(self.data, size)
            specs = [trial_of(self.config, few, _MANY_STEPS, seed) for seed in range(trials)]
            return begin_training(
                self.base(candidate), few, specs, is_isolated=self.is_isolated, chunk_tokens=chunk_tokens
            )

        return start

    def seconds_per_example(self, candidate: Candidate, limit: float) -> float:
        """Return the seconds of training per example, roughly and rather too many.

        Args:
            candidate: how the base model computes.
            limit: the time of the clock after which a single example answers the question.
        """
        tick = self.clock()
        one = self.steps(candidate, 1, 1)()
        one()
        self._loading += self.clock() - tick  # the first step of a process imports and initializes modules
        second = timed(one, self.clock)
        if _PROBED * second > limit - self.clock():
            return second
        several = self.steps(candidate, 1, _PROBED)()
        return min(timed(several, self.clock) for _ in range(2)) / _PROBED

    def traces(self, candidate: Candidate, size: int) -> list[Trace]:
        """Train a few steps with several seeds and return the losses and gradients.

        Args:
            candidate: how the base model computes.
            size: the examples of a batch.
        """
        return [self._trace(candidate, seed, size) for seed in range(SEEDS)]

    def _trace(self, candidate: Candidate, seed: int, size: int) -> Trace:
        from trials.training.run import Run, train_batch

        few = typical_examples(self.data, size * (STEPS + 1))
        config = {**self.config, "batch_size": size, "epochs": _MANY_STEPS}
        run = Run(self.base(candidate), few, TrialSpec(config, seed, Fidelity(evaluations=1)))
        losses, gradients = [], []
        for step in range(STEPS):
            loss, seconds = train_batch(run, run.next_batch() or [])
            losses.append(loss)
            if step < 2:
                gradients.append(_gradient(run))
            run.update(loss, seconds)
        return Trace(np.array(losses), np.stack(gradients))


def compared_size(seconds: float, per_example: float) -> int:
    """Return the examples of a batch with which two precisions can be compared in some seconds; 0 for none."""
    return min(_COMPARED, int(seconds / (2 * SEEDS * STEPS * per_example)))


def _gradient(run: Run) -> NDArray[np.float64]:
    """Return the gradients of a run's parameters, or a sample of them, shape [numbers]."""
    import torch

    every = max(1, sum(parameter.numel() for parameter in run.parameters) // _MOST_GRADIENTS)
    parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten()[::every] for p in run.parameters]
    found: NDArray[np.float64] = torch.cat([part.double().cpu() for part in parts]).numpy()
    return found
