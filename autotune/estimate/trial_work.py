"""The computation of a trial in closed form, and its duration at a speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.model_costs import ModelCosts, on_chosen_model
from search_spaces.costs.training_amount import TrainingAmount
from search_spaces.families import REGISTRY, local_config
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.types import Configuration, Value
from search_spaces.space import SearchSpace
from trials.tasks.generation_spec import GenerationSpec

_SAMPLES = 200
"""Random configurations whose mean and quantiles stand for those that a search tries."""
_EVALUATION_STEP = 1 / 3
"""The overhead of a batch of evaluation, as a share of that of an optimizer step: a forward pass alone launches about
a third of the operations."""
_EVALUATION_BATCH = 32
"""The number of examples of a batch of evaluation, about; it is at most twice as many."""


@dataclass(frozen=True)
class Speed:
    """The speed of this machine on one base model.

    Args:
        seconds_per_flop: the seconds of one floating-point operation, at the batch sizes of training.
        seconds_per_step: the overhead of an optimizer step in seconds, whatever its batch size.
        seconds_per_trial: the seconds until a trial's first step: building its adapter and optimizer.
        reuses_frozen_layers: whether the layers below the lowest adapter run once per example, not in each epoch.
        is_measured: whether it was measured, and not assumed.
    """

    seconds_per_flop: float
    seconds_per_step: float
    seconds_per_trial: float
    reuses_frozen_layers: bool = False
    is_measured: bool = True


PESSIMISTIC = Speed(seconds_per_flop=1 / 2e9, seconds_per_step=0.02, seconds_per_trial=0.3, is_measured=False)
"""A slow core: what is short at this speed needs no measurement."""


@dataclass(frozen=True)
class Slot:
    """The conditions under which a trial runs.

    Args:
        sharing: the number of trials that divide the machine's arithmetic, each with its own overhead.
        reuse: the share of the examples whose states after the frozen layers are kept from earlier passes.
    """

    sharing: float = 1.0
    reuse: float = 0.0


@dataclass(frozen=True)
class TrialWork:
    """The computation of a trial of one configuration, per example.

    Args:
        train_flops: of all epochs, per example of the training data, whether the configuration trains on it or not.
        frozen_flops: the part of them that is spent on forward passes below the lowest adapter.
        steps: optimizer steps per training example.
        eval_flops: of one evaluation, per validation example.
        frozen_eval_flops: the part of them that is spent below the lowest adapter.
        tokens: the mean number of tokens of an example.
    """

    train_flops: float
    frozen_flops: float
    steps: float
    eval_flops: float
    frozen_eval_flops: float
    tokens: float = 1.0

    @classmethod
    def of(cls, config: Mapping[str, Value], costs: CostModel | ModelCosts) -> TrialWork:
        """Return the work of a configuration whose known costs `costs` returns."""
        config, costs = on_chosen_model(config, costs)
        found = costs(config)
        examples = costs.workload.train_samples
        amount = TrainingAmount.of(config, costs.workload)
        family = str(config["family"])
        lowest = REGISTRY[family].cost(local_config(family, config), costs.shape).lowest_layer
        frozen = costs.at(config).forward_flops_below(lowest)
        scored = costs.workload.rows * found.inference_flops
        return cls(
            train_flops=found.train_flops / examples,
            frozen_flops=amount.samples / examples * frozen,
            steps=amount.steps / examples,
            eval_flops=scored,
            frozen_eval_flops=min(frozen, scored),
            tokens=costs.at(config).workload.inference_tokens or costs.at(config).workload.tokens,
        )

    def train_seconds(self, speed: Speed, slot: Slot, examples: float) -> float:
        """Return the seconds of training on a number of examples per epoch."""
        flops = self.train_flops - slot.reuse * self.frozen_flops
        return examples * (
            flops * speed.seconds_per_flop * slot.sharing + self.steps * speed.seconds_per_step
        )

    def eval_seconds(self, speed: Speed, slot: Slot, examples: float) -> float:
        """Return the seconds of scoring a number of examples once."""
        flops = self.eval_flops - slot.reuse * self.frozen_eval_flops
        overhead = _EVALUATION_STEP / _EVALUATION_BATCH * speed.seconds_per_step
        return examples * (flops * speed.seconds_per_flop * slot.sharing + overhead)

    def generation_seconds(
        self, speed: Speed, slot: Slot, examples: float, spec: GenerationSpec | None
    ) -> float:
        """Return the seconds of generating text for a split once, if every text reaches its maximum length.

        The prompt is read once, and each new token is a pass over a batch of one token per text.

        Args:
            speed: of the machine.
            slot: the conditions of the trial.
            examples: the number of examples of the split.
            spec: how text is generated; None for no generation.
        """
        if spec is None:
            return 0.0
        share = spec.samples * examples if isinstance(spec.samples, float) else float(spec.samples)
        texts = min(share, examples)
        flops = texts * spec.num_beams * self.eval_flops * (1 + spec.max_new_tokens / self.tokens)
        passes = math.ceil(texts / spec.batch_size) * spec.max_new_tokens
        overhead = _EVALUATION_STEP * speed.seconds_per_step
        return flops * speed.seconds_per_flop * slot.sharing + passes * overhead


def random_configurations(space: SearchSpace, seed: int) -> list[Configuration]:
    """Return random configurations of a space, which stand for those that a search tries."""
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(_SAMPLES)]


def typical_configuration(configs: Sequence[Configuration], costs: CostModel | ModelCosts) -> Configuration:
    """Return the configuration with the median training FLOPs, for a measurement, which has examples of its own.

    It is therefore without `train_samples`.
    """
    flops = [costs(config).train_flops for config in configs]
    typical = configs[int(np.argsort(flops, kind="stable")[len(flops) // 2])]
    return {name: value for name, value in typical.items() if name != TRAIN_SAMPLES.name}
