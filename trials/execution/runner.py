"""Runs trials in this process on bases that it keeps loaded, and turns what goes wrong into statuses."""

from __future__ import annotations

import time
from dataclasses import replace

from trials.base.model import Base, load_base
from trials.execution.errors import ExecutorError
from trials.packing.memory import PeakMemory, free_memory
from trials.packing.pack import Pack
from trials.packing.prefix_cache import LIMIT, PrefixCache
from trials.packing.prefix_store import store_for
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.tasks.data import TaskData, load_task
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.evaluation import evaluate
from trials.training.failures import FAILURES, failure, out_of_memory
from trials.training.run import Run, finish, subset


class Runner:
    """Bases and tokenized data, loaded once; `run` may be called any number of times, in any order.

    The sweep's own base is loaded at once, a further one when the first trial asks for it.

    Args:
        model: the sweep's own base; the others are kept and computed as it is.
        task: of all trials.
        sharers: runners that share this machine's memory, this one included.
        on_disk: whether hidden states of frozen layers also go to disk. What an earlier process computed agrees with
            what this one would compute up to rounding, and so does then a trial.
    """

    def __init__(self, model: ModelSpec, task: TaskSpec, sharers: int = 1, on_disk: bool = False) -> None:
        self._model, self._task = model, task
        self._sharers, self._on_disk = sharers, on_disk
        self._others: dict[str, tuple[Base, TaskData]] = {}
        self.packs: dict[str | None, Pack] = {}
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

    def pack(self, name: str | None = None) -> Pack:
        """Where the trials on a base are trained; arguments and errors as of `on`."""
        if name not in self.packs:
            base, data = self.on(name)
            free = free_memory(base.device)
            kept = [pack.prefixes for pack in self.packs.values()]
            promised = sum(max(0, prefixes.limit - prefixes.bytes) for prefixes in kept)
            limit = LIMIT if free is None else min(LIMIT, max(0, free - promised) // (4 * self._sharers))
            prefixes = PrefixCache(limit, store_for(base) if self._on_disk else None)
            self.packs[name] = Pack(base, data, prefixes=prefixes, sharers=self._sharers)
        return self.packs[name]

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration, or, where the configuration is empty, score the untouched base."""
        base, _ = self.on(spec.model)
        started = time.perf_counter()
        try:
            return self._trained(spec) if spec.config else self._score_base(spec)
        except FAILURES as error:
            return failure(error, base.device, time.perf_counter() - started)

    def _trained(self, spec: TrialSpec) -> TrialResult:
        base, data = self.on(spec.model)
        with PeakMemory(base.device) as memory:
            result = finish(Run(base, data, spec)) if spec.alone else self.pack(spec.model).run(spec)
        if result.status == TrialStatus.FAILED:
            return result
        return replace(result, peak_memory=max(0, memory.peak - self._beside(base)))

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
        """Bytes of the other bases and of hidden states that are kept, where all that lies on the device counts
        towards a trial's peak."""
        if base.device.type != "cuda":
            return 0
        loaded = (self.base, *(other for other, _ in self._others.values()))
        models = [other.model for other in loaded if other is not base]
        others = sum(tensor.nbytes for model in models for tensor in (*model.parameters(), *model.buffers()))
        return others + sum(pack.prefixes.bytes for pack in self.packs.values())

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
