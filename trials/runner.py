"""Runs trials in this process on bases that it keeps loaded, and turns what goes wrong into statuses."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import torch

from trials.data import TaskData, load_task
from trials.evaluation import evaluate
from trials.executors import ExecutorError
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
    """Bases and tokenised data, loaded once; `run` may be called any number of times, in any order.

    The sweep's own base is loaded at once, a further one when the first trial asks for it.

    Args:
        model: the sweep's own base; the others are kept and computed as it is.
        task: of all trials.
    """

    def __init__(self, model: ModelSpec, task: TaskSpec) -> None:
        self._model, self._task = model, task
        self._others: dict[str, tuple[Base, TaskData]] = {}
        self.base, self.data = self._load(model.name)

    def on(self, name: str | None) -> tuple[Base, TaskData]:
        """A base by its name, None for the sweep's own, and the data as its tokenizer has them.

        Raises:
            InvalidInputError: it cannot be loaded.
            ExecutorError: there is not enough memory for it.
        """
        if name is None:
            return self.base, self.data
        if name not in self._others:
            self._others[name] = self._load(name)
        return self._others[name]

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration, or, where the configuration is empty, score the untouched base."""
        base, data = self.on(spec.model)
        started = time.perf_counter()
        try:
            result = train(base, data, spec) if spec.config else self._score_base(spec)
        except FAILURES as error:
            return failure(error, base.device, time.perf_counter() - started)
        return replace(result, peak_memory=max(0, result.peak_memory - self._beside(base)))

    def _load(self, name: str) -> tuple[Base, TaskData]:
        model = self._model.other(name)
        data = load_task(self._task, model)
        try:
            return load_base(model, self._task, data), data
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            fix = "use fewer workers, a smaller base, or weights: bf16"
            raise ExecutorError(f"there is not enough memory for the base {name!r}; {fix}") from error

    def _beside(self, base: Base) -> int:
        """Bytes of the other bases, where all that lies on the device counts towards a trial's peak."""
        if base.device.type != "cuda":
            return 0
        loaded = (self.base, *(other for other, _ in self._others.values()))
        models = [other.model for other in loaded if other is not base]
        return sum(tensor.nbytes for model in models for tensor in (*model.parameters(), *model.buffers()))

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
