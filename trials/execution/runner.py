"""Training of trials in this process, on base models that stay loaded."""

from __future__ import annotations

import time
from dataclasses import replace

from trials.base.model import Base, load_base
from trials.data.task_data import TaskData, load_task
from trials.execution.errors import ExecutorError
from trials.execution.shared_tensors import can_share, share_tensors
from trials.packing.memory import PeakMemory, free_memory
from trials.packing.pack import Pack
from trials.packing.prefix_cache import LIMIT, PrefixCache
from trials.packing.prefix_store import store_for
from trials.records import TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.failures import failure
from trials.training.further import FurtherScores
from trials.training.group import Group
from trials.training.held_out import HeldOut
from trials.training.out_of_memory import is_out_of_memory
from trials.training.run import Run, train_to_end


class Runner:
    """Base models and tokenized data, loaded once; `run` can be called any number of times, in any order.

    The sweep's own base model is loaded at once, an additional one when the first trial needs it.

    Args:
        model: The sweep's own base model; additional ones use its precision, weights and device.
        task: The task of all trials.
        sharers: The number of runners that share this machine's memory, this one included.
        on_disk: Whether hidden states of frozen layers are also kept on disk. States that an earlier process
            computed agree with those of this process up to rounding, and so do the trials that use them.
        chunk_tokens: The maximum number of tokens of one forward pass of a pack; by default what suits the device.
        group: The processes that train each trial together, this one among them; None for this one alone.
    """

    def __init__(
        self,
        model: ModelSpec,
        task: TaskSpec,
        sharers: int = 1,
        on_disk: bool = False,
        chunk_tokens: int | None = None,
        group: Group | None = None,
    ) -> None:
        self._group = group
        self._model, self._task = model, task
        self._sharers, self._on_disk, self._chunk_tokens = sharers, on_disk, chunk_tokens
        self._additional: dict[str, tuple[Base, TaskData]] = {}
        self.packs: dict[str | None, Pack] = {}
        self.base, self.data = self._load(model.name)

    def base_and_data(self, name: str | None) -> tuple[Base, TaskData]:
        """Return a base model and the data as its tokenizer encodes them.

        Args:
            name: The hub id or folder of the model; None for the sweep's own.

        Raises:
            InvalidInputError: The model cannot be loaded.
            ExecutorError: There is not enough memory for it.
        """
        if name is None:
            return self.base, self.data
        if name not in self._additional:
            loaded = self._additional[name] = self._load(name)
            if can_share(self._model, self._model.other(name)):
                share_tensors(loaded[0], self.base)
        return self._additional[name]

    def pack(self, name: str | None = None) -> Pack:
        """Return the pack that trains the trials on a base model; arguments and errors as in `base_and_data`."""
        if name not in self.packs:
            base, data = self.base_and_data(name)
            free = free_memory(base.device)
            caches = [pack.prefixes for pack in self.packs.values()]
            reserved = sum(max(0, cache.limit - cache.bytes) for cache in caches)
            limit = LIMIT if free is None else min(LIMIT, max(0, free - reserved) // (4 * self._sharers))
            prefixes = PrefixCache(limit, store_for(base) if self._on_disk else None)
            self.packs[name] = Pack(base, data, self._chunk_tokens, prefixes, self._sharers)
        return self.packs[name]

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration, or score the base model where the configuration is empty.

        An error of the trial becomes its result. An error of the base model, which would end every trial on it, is
        raised.

        Raises:
            InvalidInputError: The spec's base model cannot be loaded.
            ExecutorError: There is not enough memory for the base model.
        """
        base, _ = self.base_and_data(spec.model)
        started = time.perf_counter()
        try:
            return self._train(spec) if spec.config else self._score_base(spec)
        except Exception as error:  # a trial's error, also one of our own code, must not end the sweep
            return failure(error, base.device, time.perf_counter() - started)

    def _train(self, spec: TrialSpec) -> TrialResult:
        base, data = self.base_and_data(spec.model)
        with PeakMemory(base.device) as memory:
            if spec.is_isolated or self._group is not None:
                result = train_to_end(Run(base, data, spec, self._group))
            else:
                result = self.pack(spec.model).run(spec)
        if result.status == TrialStatus.FAILED:
            return result
        return replace(result, peak_memory=max(0, memory.peak - self._unrelated_bytes(base)))

    def _load(self, name: str) -> tuple[Base, TaskData]:
        model = self._model.other(name)
        data = load_task(self._task, model)
        try:
            return load_base(model, self._task, data), data
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            fix = "use fewer workers, a smaller base model, or weights: bf16"
            raise ExecutorError(f"there is not enough memory for the base model {name!r}; {fix}") from error

    def _unrelated_bytes(self, base: Base) -> int:
        """Return the bytes of the other base models and of the cached hidden states.

        They count towards the peak of a trial on a GPU, where the peak is that of the whole device.
        """
        if base.device.type != "cuda":
            return 0
        loaded = (self.base, *(additional for additional, _ in self._additional.values()))
        others = {
            tensor.data_ptr(): tensor.nbytes
            for other in loaded
            for tensor in (*other.model.parameters(), *other.model.buffers())
        }
        for tensor in (
            *base.model.parameters(),
            *base.model.buffers(),
        ):  # truncated base models share tensors
            others.pop(tensor.data_ptr(), None)
        return sum(others.values()) + sum(pack.prefixes.bytes for pack in self.packs.values())

    def _score_base(self, spec: TrialSpec) -> TrialResult:
        """Score the base model without an adapter, which is a baseline if it comes with its head (causal-lm)."""
        started = time.perf_counter()
        held_out, model = (
            HeldOut(self.base, self.data, "validation", spec.fidelity.eval_samples),
            self.base.model,
        )
        metrics = {**held_out.score(model).metrics, **held_out.final_scores(model)}
        if self.base.task.also:
            metrics |= FurtherScores.of(self.base, self.data).scores(model)
        return TrialResult(TrialStatus.COMPLETE, metrics=metrics, seconds=time.perf_counter() - started)
