"""The training loop: one configuration, from a fresh adapter to its scores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from search_spaces.families import REGISTRY, local_config
from search_spaces.parameters import Value
from trials.data import TaskData
from trials.encoding import Encoded, collate
from trials.evaluation import evaluate
from trials.memory import PeakMemory
from trials.models import Base, trainable_parameters
from trials.records import CurvePoint, TrialResult, TrialSpec, TrialStatus

MAX_GRAD_NORM = 1.0
_CHUNK = 32
"""Batches shuffled together before they are sorted by length: like lengths, yet a new mix each epoch."""


class DivergedError(ArithmeticError):
    """The loss stopped being a finite number."""


def train(base: Base, data: TaskData, spec: TrialSpec) -> TrialResult:
    """Train one configuration and score it on the validation split (and the test split, where asked).

    Raises:
        DivergedError: the training or validation loss is not finite.
        torch.OutOfMemoryError: the configuration does not fit; see `trials.runner` for what becomes of it.
    """
    started = time.perf_counter()
    config, fidelity = spec.config, spec.fidelity
    examples = subset(data.splits["train"], fidelity.train_samples, seed=0)
    held_out = subset(data.splits["validation"], fidelity.eval_samples, seed=0)

    def score(split: Sequence[Encoded]) -> dict[str, float]:
        scores = evaluate(
            model, data, split, task_type=base.task.type, device=base.device, autocast=base.autocast
        )
        if not math.isfinite(scores["eval_loss"]):
            raise DivergedError(f"the validation loss became {scores['eval_loss']}")
        return scores

    with PeakMemory(base.device) as memory:
        model = base.adapted(config, spec.seed)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            decay_groups(parameters, float(config["weight_decay"])), lr=learning_rate(config)
        )
        family = REGISTRY[str(config["family"])]
        knobs = local_config(family.name, config)
        scale_learning_rates(optimizer, model, family.learning_rate_factors(knobs))
        batch_size, epochs = int(config["batch_size"]), int(config["epochs"])
        steps = epochs * math.ceil(len(examples) / batch_size)
        family.schedule(model.active_peft_config, steps)
        schedule = LambdaLR(optimizer, lr_schedule(config, steps))
        checkpoints = evaluation_steps(steps, fidelity.evaluations)
        curve, seen, train_seconds = [], 0, 0.0

        model.train()
        for step, indices in enumerate(batches(examples, batch_size, epochs, spec.seed), start=1):
            tick = time.perf_counter()
            batch = collate([examples[i] for i in indices], data.tokenizer)
            loss = training_step(model, batch, base)
            if not math.isfinite(loss):
                raise DivergedError(f"the training loss became {loss} at step {step} of {steps}")
            torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
            optimizer.step()
            family.after_step(model, step)
            optimizer.zero_grad()
            schedule.step()
            seen += len(indices)
            train_seconds += time.perf_counter() - tick
            if step in checkpoints:
                curve.append(CurvePoint(step, seen, score(held_out)))
        test_metrics = score(data.splits["test"]) if spec.score_test else {}

    return TrialResult(
        status=TrialStatus.COMPLETE,
        metrics=curve[-1].metrics,
        test_metrics=test_metrics,
        curve=tuple(curve),
        train_seconds=train_seconds,
        seconds=time.perf_counter() - started,
        peak_memory=memory.peak,
        trainable_params=trainable_parameters(model),
    )


def training_step(model: nn.Module, batch: Mapping[str, torch.Tensor], base: Base) -> float:
    """Forward and backward on one batch; the gradients are left on the parameters."""
    inputs = {name: tensor.to(base.device) for name, tensor in batch.items()}
    with torch.autocast(base.device.type, dtype=base.autocast, enabled=base.autocast != torch.float32):
        loss = model(**inputs).loss
    loss.backward()
    return float(loss.detach())


def decay_groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; vectors (biases, the scales of norms) do not, as is customary."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def scale_learning_rates(
    optimizer: torch.optim.Optimizer, model: nn.Module, factors: Mapping[str, float]
) -> None:
    """Give the parameters whose name has a key of `factors` as a part that multiple of their learning rate.

    They move to new groups with the other settings of the old ones. Call it before any schedule is made, as
    schedules start from the rates they find. The exported script does the same.
    """
    named = list(model.named_parameters())
    for part, factor in factors.items():
        chosen = {id(parameter) for name, parameter in named if part in name.split(".")}
        for group in list(optimizer.param_groups):
            moved = [parameter for parameter in group["params"] if id(parameter) in chosen]
            if moved:
                group["params"] = [p for p in group["params"] if id(p) not in chosen]
                optimizer.add_param_group({**group, "params": moved, "lr": factor * group["lr"]})


def learning_rate(config: Mapping[str, Value]) -> float:
    """The peak learning rate: the family's own."""
    return float(config[f"{config['family']}.learning_rate"])


def lr_schedule(config: Mapping[str, Value], steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at each step: a linear warm-up, then linear or cosine decay to zero,
    or constant. `transformers.get_scheduler` gives the same shapes to the exported run."""
    warmup = warmup_steps(config, steps)
    shape = str(config["schedule"])

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(warmup, 1)
        done = (step - warmup) / max(steps - warmup, 1)
        match shape:
            case "linear":
                return max(0.0, 1.0 - done)
            case "cosine":
                return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
            case "constant":
                return 1.0
            case _:
                raise ValueError(f"schedule: {shape!r} is not linear, cosine or constant")

    return factor


def warmup_steps(config: Mapping[str, Value], steps: int) -> int:
    """Steps of warm-up, rounded up as transformers does."""
    return math.ceil(float(config["warmup"]) * steps)


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """The steps after which the validation split is scored: evenly spread, the last step always."""
    return frozenset(math.ceil(steps * (i + 1) / max(evaluations, 1)) for i in range(max(evaluations, 1)))


def subset(examples: Sequence[Encoded], size: int | None, seed: int) -> Sequence[Encoded]:
    """A random part of at most `size` examples, the same for every trial; a smaller one begins a larger."""
    if size is None or size >= len(examples):
        return examples
    order = np.random.default_rng(seed).permutation(len(examples))[:size]
    return [examples[i] for i in order]


def batches(examples: Sequence[Encoded], batch_size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Indices of each batch: shuffled, then sorted by length within chunks of some batches, then the
    batches shuffled, so that little is padded and the order still changes from epoch to epoch."""
    rng = np.random.default_rng(seed)
    lengths = np.array([len(example["input_ids"]) for example in examples])
    for _ in range(epochs):
        order = rng.permutation(len(examples))
        epoch: list[list[int]] = []
        for start in range(0, len(order), batch_size * _CHUNK):
            chunk = order[start : start + batch_size * _CHUNK]
            chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
            epoch += [chunk[i : i + batch_size].tolist() for i in range(0, len(chunk), batch_size)]
        yield from (epoch[i] for i in rng.permutation(len(epoch)))


def padded_lengths(examples: Sequence[Any], batch_size: int, seed: int = 0) -> tuple[float, float]:
    """The mean and the mean square of the tokens that an example takes once its batch is padded."""
    lengths = np.array([len(example["input_ids"]) for example in examples], dtype=float)
    widths = np.concatenate(
        [np.full(len(batch), lengths[batch].max()) for batch in batches(examples, batch_size, 1, seed)]
    )
    return float(widths.mean()), float((widths**2).mean())
