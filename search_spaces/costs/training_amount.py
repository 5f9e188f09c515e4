"""The examples and optimizer steps of training runs, from which their FLOPs follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.costs.workload import Workload
from search_spaces.parameters.amounts import TRAIN_SAMPLES, examples_of, optimizer_steps, samples_seen
from search_spaces.parameters.types import Value


@dataclass(frozen=True)
class TrainingAmount:
    """The training of one configuration (numbers), or of n configurations (arrays of shape [n]).

    Args:
        examples: examples of an epoch.
        samples: examples of all epochs, counting every pass.
        steps: optimizer steps; the last batch of an epoch counts by its share of a batch, except in configurations
            with `train_samples`, where an epoch may be smaller than a batch.
        batch_size: examples per step.
    """

    examples: Any
    samples: Any
    steps: Any
    batch_size: Any

    @classmethod
    def of(cls, config: Mapping[str, Value], workload: Workload) -> TrainingAmount:
        """Return the training of a configuration; without `epochs` it is one pass over the examples."""
        examples = examples_of(config, workload.train_samples)
        epochs = float(config.get("epochs", 1))
        batch_size = float(config.get("batch_size", workload.batch_size))
        samples = samples_seen(epochs, examples)
        if TRAIN_SAMPLES.name in config:
            steps: float = optimizer_steps(epochs, examples, int(batch_size))
        else:
            steps = samples / batch_size
        return cls(float(examples), float(samples), float(steps), batch_size)

    @classmethod
    def of_each(cls, configs: Sequence[Mapping[str, Value]], workload: Workload) -> TrainingAmount:
        """Return the training of n configurations, equal to that of n calls of `of`."""
        if any(TRAIN_SAMPLES.name in config for config in configs):
            each = [cls.of(config, workload) for config in configs]
            return cls(*np.array([(a.examples, a.samples, a.steps, a.batch_size) for a in each]).T)
        epochs, batch_size = (
            np.array([config.get(name, usual) for config in configs], dtype=float)
            for name, usual in (("epochs", 1), ("batch_size", workload.batch_size))
        )
        samples: NDArray[np.float64] = np.maximum(np.ceil(epochs * workload.train_samples - 1e-6), 1.0)
        examples = np.full(len(configs), float(workload.train_samples))
        return cls(examples, samples, samples / batch_size, batch_size)
