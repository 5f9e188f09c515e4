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

FAILURES = (DivergedError, MemoryError, ValueError, RuntimeError, IndexError)
"""What is the configuration's doing: divergence, running out of memory (torch.OutOfMemoryError is a
RuntimeError), and what peft or the model raises for it. Everything else is raised."""


def failure(error: BaseException, device: torch.device, seconds: float) -> TrialResult:
    """The result of a trial that one of FAILURES ended: the one place where exceptions become statuses."""
    if isinstance(error, DivergedError):
        reason = str(error)
    elif out_of_memory(error):
        reason = f"out of memory: {_first_line(error)}"
    else:
        reason = f"{type(error).__name__}: {_first_line(error)}"
    gc.collect()  # the failed step's tensors hang on the traceback's frames
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return TrialResult(TrialStatus.FAILED, error=reason, seconds=seconds)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the device or in this process."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )


class Runner:
    """A base and tokenised data, loaded once; `run` may be called any number of times, in any order."""

    def __init__(self, model: ModelSpec, task: TaskSpec) -> None:
        self.data: TaskData = load_task(task, model)
        self.base: Base = load_base(model, task, self.data)

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration, or, where the configuration is empty, score the untouched base."""
        started = time.perf_counter()
        try:
            return train(self.base, self.data, spec) if spec.config else self._score_base(spec)
        except FAILURES as error:
            return failure(error, self.base.device, time.perf_counter() - started)

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
