"""The memory of the first steps of a pack, predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trials.base.model import Base
from trials.data.task_data import TaskData
from trials.packing.memory import PeakMemory
from trials.packing.memory_model import Computation, MemoryModel
from trials.packing.pack import Pack
from trials.packing.prefix_cache import PrefixCache
from trials.records import TrialSpec


@dataclass(frozen=True)
class StepMemory:
    """The memory of a pack's steps in bytes, without the base model.

    Args:
        predicted: `MemoryModel.step` of the largest chunk, and the hidden states that are kept.
        measured: The peak during the steps above the memory before them.
        tokens: Tokens of the largest chunk, padding included.
        length: Tokens of each of its rows.
    """

    predicted: float
    measured: float
    tokens: int
    length: int


def step_memory(
    base: Base, data: TaskData, specs: Sequence[TrialSpec], steps: int, chunk_tokens: int | None = None
) -> StepMemory:
    """Train the first steps of a pack, and compare its memory with the memory model.

    Args:
        base: The base model.
        data: The task's data, encoded for it.
        specs: The trials of the pack; none of them may end within the steps.
        steps: The number of steps.
        chunk_tokens: The maximum number of tokens of one forward pass; by default what suits the device.

    Raises:
        RuntimeError: A trial failed, or left the pack.
    """
    pack = Pack(base, data, chunk_tokens, PrefixCache())
    with torch.no_grad():
        base.model(torch.tensor([data.splits["train"][0]["input_ids"]], device=base.device))
    before = torch.cuda.memory_allocated(base.device) if base.device.type == "cuda" else 0
    with PeakMemory(base.device) as memory, _Chunks(base.shape.vocabulary) as seen:
        for ticket, spec in enumerate(specs):
            _require(pack.enter(ticket, spec))
        for _ in range(steps):
            for result in pack.advance().values():
                _require(result)
        if pack.unjoined:
            raise RuntimeError(
                f"{len(pack.unjoined)} trials continue outside the pack; see the warnings above"
            )
    model = MemoryModel(base.shape, Computation.of(base))
    predicted = model.step([spec.config for spec in specs], seen.tokens, seen.length) + pack.prefixes.bytes
    return StepMemory(predicted, float(memory.peak - before), seen.tokens, seen.length)


def _require(result: Any) -> None:
    if result is not None:
        raise RuntimeError(f"a trial ended early: {result.error or result.status}")


class _Chunks:
    """A context manager that sees the largest batch of token ids that any token embedding reads."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self.tokens = self.length = 0

    def __enter__(self) -> _Chunks:
        self._handle = nn.modules.module.register_module_forward_pre_hook(self._see)
        return self

    def __exit__(self, *raised: object) -> None:
        self._handle.remove()

    def _see(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not isinstance(module, nn.Embedding) or not inputs or module.num_embeddings != self._vocabulary:
            return
        if inputs[0].numel() > self.tokens:
            self.tokens, self.length = inputs[0].numel(), inputs[0].shape[-1]
