"""Callbacks for `transformers.Trainer`: reporting curves, ending at a rung, and what some adapters do per step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from search_spaces.errors import AutotuneError
from search_spaces.families.framework.base import Family
from trials.training.run import DivergedError

if TYPE_CHECKING:
    from peft import PeftModel


class RunLimitError(AutotuneError, RuntimeError):
    """A training run exceeded a limit, so that it cannot be on the front."""


class ReportCallback(TrainerCallback):
    """Records the evaluations of a training run, and ends the run at a share of its steps.

    At that step the model is evaluated and a checkpoint is saved, from which `train(resume_from_checkpoint=…)`
    resumes: the learning-rate schedule is that of the whole run. A validation loss that is not finite ends the run.

    Args:
        until: share of all steps to do, in (0, 1].
        report: called with (share of the steps, metrics) after every evaluation.
        seconds: limit on the wall time of training; None for no limit.

    Raises:
        DivergedError: the validation loss is not finite.
        RunLimitError: training took longer than `seconds`.

    Example:
        >>> callback = ReportCallback(until=1 / 3)
        >>> trainer.add_callback(callback)
        >>> trainer.train()
        >>> callback.curve("eval_loss")
        {0.16: 0.64, 0.33: 0.61}
    """

    def __init__(
        self,
        until: float = 1.0,
        report: Callable[[float, Mapping[str, float]], None] | None = None,
        seconds: float | None = None,
    ) -> None:
        if not 0 < until <= 1:
            raise ValueError(f"until: {until} is not a share of the steps; give a number above 0, at most 1")
        self._until, self._report, self._limit = until, report, seconds
        self._began = time.monotonic()
        self._target = 0
        self.points: dict[int, dict[str, float]] = {}
        """The metrics of each evaluation, by optimizer step."""
        self.steps = 0
        """The number of steps of the whole run."""
        self.is_at_end = False
        """Whether the last requested step was done, and not the run ended by another callback."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the step at which the run ends."""
        self._began = time.monotonic()
        self.steps = state.max_steps
        # The tolerance makes a third of 30 steps 10 in spite of rounding. Each part of a run has at least one step.
        self._target = min(self.steps, max(math.ceil(self._until * self.steps - 1e-6), state.global_step + 1))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the run at its last step, with an evaluation and, if steps remain, a checkpoint."""
        seconds = time.monotonic() - self._began
        if self._limit is not None and seconds > self._limit:
            raise RunLimitError(f"train_seconds: {seconds:.0f} is above the limit, {self._limit:g}")
        if state.global_step < self._target:
            return
        self.is_at_end = True
        control.should_evaluate = True
        control.should_training_stop = True
        control.should_save = control.should_save or self._target < self.steps

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Record the metrics of an evaluation."""
        found = {
            name: float(value) for name, value in (metrics or {}).items() if isinstance(value, int | float)
        }
        # Several evaluation sets are scored one after another at the same step.
        point = self.points.setdefault(state.global_step, {})
        point |= found
        losses = [name for name, value in found.items() if name.endswith("loss") and not math.isfinite(value)]
        if losses:
            raise DivergedError(f"{losses[0]} became {found[losses[0]]} at step {state.global_step}")
        if self._report is not None and state.global_step:
            self._report(state.global_step / max(self.steps, 1), point)

    def curve(self, name: str) -> dict[float, float]:
        """Return a metric by share of the steps, without an evaluation before the first step.

        Args:
            name: of the metric, with or without `eval_`.
        """
        found = {}
        for step, metrics in self.points.items():
            key = name if name in metrics else f"eval_{name}"
            if step and key in metrics:
                found[step / self.steps] = metrics[key]
        return found


class AdapterCallback(TrainerCallback):
    """Does what an adapter family needs beside the loss: its schedule, and its updates after each step.

    Args:
        family: of the adapter.
    """

    def __init__(self, family: Family) -> None:
        self._family = family

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the schedule of the adapter."""
        if (model := peft_model(kwargs.get("model"))) is not None:
            self._family.schedule(model.active_peft_config, state.max_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the adapter after a step of the optimizer."""
        if (model := peft_model(kwargs.get("model"))) is not None:
            self._family.after_step(model, state.global_step + 1)


def peft_model(model: Any) -> PeftModel | None:
    """Return the model with the adapter within a wrapped model; None for a model without one."""
    from peft import PeftModel

    model = getattr(model, "module", model)
    return model if isinstance(model, PeftModel) else None


def checkpoint_folder(args: TrainingArguments, step: int) -> Path:
    """Return the folder in which a trainer saves its checkpoint of a step."""
    return Path(str(args.output_dir)) / f"checkpoint-{step}"
