"""One configuration as a trainer of transformers needs it: the adapter, the arguments and the optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autotune.api.adapter import learning_rates, peft_config
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import Family, local_config
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.training import DEFAULT_OPTIMIZER, learning_rate_name, optimizer_of
from search_spaces.parameters.types import Configuration

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import Trainer

ArgumentsT = TypeVar("ArgumentsT")

_FIELDS = {"epochs": "num_train_epochs", "weight_decay": "weight_decay", "warmup": "warmup_steps"}
"""The field of `transformers.TrainingArguments` of a training parameter, where the value is the same."""
_USUAL_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""What `TrainingArguments.optim` says where the user chose no optimizer."""


@dataclass(frozen=True)
class TrainerTrial:
    """One configuration, for the function that builds its trainer.

    Args:
        config: the active parameters.
        folder: where its trainer writes.
        seed: of initial values, data order and dropout.
        number: of the trial in the study.

    Example:
        >>> trial = TrainerTrial({"family": "lora", "lora.rank": 8, "lora.learning_rate": 3e-4}, "final")
        >>> trainer = trial.trainer(trainer_init)
        >>> trainer.train()
    """

    config: Configuration
    folder: str | PathLike[str]
    seed: int = 0
    number: int = 0

    def peft_config(self, model: object, *, task: str | None = None) -> PeftConfig:
        """Return the adapter as a configuration of peft; the arguments are those of `autotune.peft_config`."""
        return peft_config(self.config, model, task=task)

    @property
    def learning_rates(self) -> dict[str, float]:
        """The learning rates by component of the parameters' names; see `autotune.learning_rates`."""
        return learning_rates(self.config)

    def arguments(self, arguments: ArgumentsT) -> ArgumentsT:
        """Return a copy of training arguments with the values of the configuration.

        It has the trial's folder and seed, and, as far as the configuration has them, learning rate, batch size,
        epochs, weight decay, warm-up and schedule. `batch_size` counts the examples of a step, over devices and
        accumulated micro-batches. A parameter with the name of a field of the arguments, such as
        `label_smoothing_factor`, sets this field.

        Args:
            arguments: a `transformers.TrainingArguments` or a class derived from it, such as `trl.SFTConfig`.

        Raises:
            InvalidInputError: the arguments overrule a parameter of the configuration, or the batch size cannot be
                divided.
        """
        found = copy.copy(arguments)
        for field, value in self._argument_values(arguments).items():
            setattr(found, field, value)
        return found

    def trainer(self, trainer_init: Callable[[TrainerTrial], Trainer]) -> Trainer:
        """Return the trainer of this configuration, ready for `train()`.

        It has the optimizer of the configuration where the user set none: parameters with their own learning rates
        (LoRA+), and weight decay for matrices only. With `train_samples` in the configuration, it trains on that many
        examples of its `train_dataset`; those of a smaller number are among those of a larger one.

        Args:
            trainer_init: builds the trainer, as for `tune_trainer`.

        Raises:
            InvalidInputError: the trainer's own optimizer cannot have the configuration's learning rates, or its
                dataset has fewer examples than the configuration trains on, or no length.
        """
        import transformers

        from autotune.trainer.callbacks import AdapterCallback

        transformers.set_seed(
            self.seed
        )  # before the model is built: adapters and heads start from random values
        trainer = trainer_init(self)
        if not isinstance(trainer, transformers.Trainer):
            what = f"it returned a {type(trainer).__name__}"
            fix = "Return a transformers.Trainer, or a trainer derived from it, such as trl.SFTTrainer."
            raise InvalidInputError(Problem("trainer_init", what, fix))
        if TRAIN_SAMPLES.name in self.config:
            trainer.train_dataset = _subset(trainer.train_dataset, int(self.config[TRAIN_SAMPLES.name]))
        if (family := self._family) is not None:
            _set_optimizer(trainer, self.config, family)
            trainer.add_callback(AdapterCallback(family))
        return trainer

    @property
    def _family(self) -> Family | None:
        name = self.config.get("family")
        return REGISTRY.get(str(name)) if name is not None else None

    def _argument_values(self, arguments: Any) -> dict[str, Any]:
        config = self.config
        values: dict[str, Any] = {"output_dir": str(Path(self.folder)), "seed": self.seed}
        own = {field.name for field in fields(arguments)}
        values |= {name: value for name, value in config.items() if name in own}
        values |= {field: config[name] for name, field in _FIELDS.items() if name in config}
        if "epochs" in config and arguments.max_steps > 0:
            what = f"{arguments.max_steps}, so that the configuration's epochs have no effect"
            fix = "Remove max_steps, or leave epochs out of the space."
            raise InvalidInputError(Problem("max_steps", what, fix))
        if self._family is not None and learning_rate_name(config) in config:
            values["learning_rate"] = self.learning_rates[""]
        if "batch_size" in config:
            values["per_device_train_batch_size"] = _per_device(int(config["batch_size"]), arguments)
        return values | _schedule_values(config)


def _per_device(batch_size: int, arguments: Any) -> int:
    """Return the examples of a micro-batch on one device."""
    parts = arguments.gradient_accumulation_steps * arguments.world_size * max(1, arguments.n_gpu)
    if batch_size % parts:
        what = f"{batch_size} examples cannot be divided into {parts} micro-batches"
        fix = "Change gradient_accumulation_steps, or the choices of batch_size."
        raise InvalidInputError(Problem("batch_size", what, fix))
    return batch_size // parts


def _subset(dataset: Any, count: int) -> Any:
    """Return `count` examples of a dataset, which depend on nothing but its size."""
    from torch.utils.data import Subset

    from trials.training.subsets import subset

    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        what = "the trainer's train_dataset has no length, so that no examples can be chosen from it"
        fix = "Give a dataset with a length, or leave train_samples out of the space."
        raise InvalidInputError(Problem("train_samples", what, fix))
    if count > len(dataset):
        what = f"{count:,} is above the {len(dataset):,} examples of the trainer's train_dataset"
        raise InvalidInputError(Problem("train_samples", what, f"Give at most {len(dataset)} in the space."))
    chosen = list(subset(range(len(dataset)), count, seed=0))
    return dataset.select(chosen) if hasattr(dataset, "select") else Subset(dataset, chosen)


def _schedule_values(config: Configuration) -> dict[str, Any]:
    from transformers.trainer_utils import SchedulerType

    names = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
    if "schedule" not in config:
        return {}
    if config["schedule"] not in names:
        what = f"{config['schedule']!r} needs the number of steps, which a trainer counts itself"
        fix = f"Give the space choices among {', '.join(names)}."
        raise InvalidInputError(Problem("schedule", what, fix))
    return {"lr_scheduler_type": SchedulerType(names[str(config["schedule"])])}


def _set_optimizer(trainer: Trainer, config: Configuration, family: Family) -> None:
    """Give a trainer the optimizer of a configuration, unless the user chose one.

    Raises:
        InvalidInputError: the user's optimizer cannot have the configuration's learning rates.
    """
    from trials.base.parameter_groups import decay_groups, freeze, scale_learning_rates
    from trials.training.optimizers import build_optimizer

    factors = dict(family.learning_rate_factors(local_config(family.name, config)))
    model = trainer.model
    freeze(model, factors)
    factors = {component: factor for component, factor in factors.items() if factor not in (0.0, 1.0)}
    arguments = trainer.args
    has_own = trainer.optimizer is not None or arguments.optim not in _USUAL_OPTIMIZERS
    if has_own or trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        if factors or optimizer_of(config) != DEFAULT_OPTIMIZER:
            what = "the trainer has an optimizer of its own, which lacks those of the configuration"
            fix = "Remove optimizers= and optim= of the trainer, or fix lr_ratio and optimizer in the space."
            raise InvalidInputError(Problem("optimizer", what, fix))
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = decay_groups(parameters, arguments.weight_decay)
    trainer.optimizer = build_optimizer(optimizer_of(config), groups, arguments.learning_rate)
    scale_learning_rates(trainer.optimizer, model, factors)
