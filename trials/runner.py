"""Runs trials in this process on one loaded base, and turns what goes wrong into statuses."""

from __future__ import annotations

import gc
import time

import torch

from trials.data import TaskData, load_task
from trials.evaluation import evaluate
from trials.models import Base, load_base
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.specs import ModelSpec, TaskSpec
from trials.training import DivergedError, subset, train


class Runner:
    """A base and tokenised data, loaded once; `run` may be called any number of times, in any order."""

    def __init__(self, model: ModelSpec, task: TaskSpec) -> None:
        self.data: TaskData = load_task(task, model)
        self.base: Base = load_base(model, task, self.data)

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration, or, where the configuration is empty, score the untouched base.

        This is the one place where exceptions become statuses.
        Running out of memory and divergence are the configuration's doing, and so is a ValueError or
        RuntimeError that peft or the model raises for it: they end as `failed`. Everything else is raised.
        """
        started = time.perf_counter()
        try:
            return train(self.base, self.data, spec) if spec.config else self._score_base(spec)
        except DivergedError as error:
            reason = str(error)
        except (torch.OutOfMemoryError, MemoryError) as error:
            reason = f"out of memory: {_first_line(error)}"
        except (ValueError, RuntimeError, IndexError) as error:
            memory = "can't allocate memory" in str(error) or "not enough memory" in str(error)
            reason = ("out of memory: " if memory else f"{type(error).__name__}: ") + _first_line(error)
        gc.collect()  # the failed step's tensors hang on the traceback's frames
        if self.base.device.type == "cuda":
            torch.cuda.empty_cache()
        return TrialResult(TrialStatus.FAILED, error=reason, seconds=time.perf_counter() - started)

    def _score_base(self, spec: TrialSpec) -> TrialResult:
        """What training has to beat; it means something where the base comes with its head (causal-lm)."""
        started = time.perf_counter()
        metrics = evaluate(
            self.base.model,
            self.data,
            subset(self.data.splits["validation"], spec.fidelity.eval_samples, seed=0),
            task_type=self.base.task.type,
            device=self.base.device,
            autocast=self.base.autocast,
        )
        return TrialResult(TrialStatus.COMPLETE, metrics=metrics, seconds=time.perf_counter() - started)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
