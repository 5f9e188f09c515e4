"""Packed training: several configurations at once on one frozen base model.

Each step takes the next batch of every configuration. The rows of all batches together are cut into chunks of
similar length, whatever configuration they belong to, so that little is padded. The joined model
(`joined_model.py`) runs each chunk; after the last chunk, each configuration clips, steps and decays by itself. A
configuration computes the same as when it is trained alone: its batches, losses and steps are equal up to rounding.
Configurations enter and leave between steps.

The layers below a configuration's lowest adapter are run once per example (`prefix_cache.py`), and the last layer
only as far as the head reads it (`layer_gates.py`), in training and in evaluation.

Memory grows with the chunk and not with the number of configurations, except for their adapters and optimizers. A
closed-form memory model (`memory_model.py`) and the free memory determine how large a chunk is, and whether one more
configuration fits. A chunk that runs out of memory nevertheless is halved, and the step is repeated.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Configuration
from trials.base.model import Base
from trials.data.task_data import TaskData
from trials.kinds.kind import Batch, Values
from trials.kinds.registry import find_kind
from trials.packing.joined_model import CannotJoinError, Rows, frozen_layers, join
from trials.packing.layer_gates import EarlyExit, LayerSchedule, layer_interface
from trials.packing.memory import free_memory
from trials.packing.memory_model import Computation, MemoryModel
from trials.packing.prefix_cache import PrefixCache
from trials.reading.encoding import Encoded, token_count
from trials.records import TrialResult, TrialSpec
from trials.training.failures import failure
from trials.training.length_batching import chunks, starting_cost, suited_tokens
from trials.training.out_of_memory import is_out_of_memory
from trials.training.run import Run, count_tokens, train_batch, train_to_end

_log = logging.getLogger(__name__)

_NO_CONFIGURATION = -1
"""The ticket of rows that only the base model runs."""
_MIN_CHUNK_TOKENS = 64
"""A chunk of this many tokens is not halved again: memory is then short for another reason."""
_USABLE_MEMORY = 0.8
"""The share of the free memory that a step may take: the memory model is off by up to 15 %."""
_MAX_CHUNK_DIVISION = 4
"""Chunks become at most this many times smaller for one more configuration; otherwise it waits."""


class Pack:
    """The configurations in training on one base model; see the top of this file.

    Args:
        base: The base model of every configuration.
        data: The task's data, encoded for the base model.
        chunk_tokens: The maximum number of tokens of one forward pass, padding included; by default what suits the
            device.
        prefixes: The cache of the frozen layers' hidden states; by default in memory only.
        sharers: The number of packs, in this and other processes, that use the same memory.
    """

    def __init__(
        self,
        base: Base,
        data: TaskData,
        chunk_tokens: int | None = None,
        prefixes: PrefixCache | None = None,
        sharers: int = 1,
    ) -> None:
        self.base, self.data, self._sharers = base, data, sharers
        self._kind = find_kind(base.task.type)
        self._suited_tokens = chunk_tokens or suited_tokens(base.device)
        self.chunk_tokens = self._most_tokens = self._suited_tokens
        self.memory = MemoryModel(base.shape, Computation.of(base))
        self._longest = int(data.lengths("train").max())  # of a row; an example may have several
        self._runs: dict[int, Run] = {}
        self._rows, self._layer_schedule = Rows(), LayerSchedule()
        with base.computing():
            self._layers = layer_interface(base.model, base.shape)
        self._joined: nn.Module | None = None
        self._frozen: dict[int, int] = {}
        self._own_frozen: dict[int, int] = {}
        self.unjoined: set[int] = set()
        """Tickets of configurations that the joined model failed to run: each of them steps by itself."""
        self.prefixes = prefixes or PrefixCache()

    def __len__(self) -> int:
        return len(self._runs)

    def fits(self, spec: TrialSpec) -> bool:
        """Return whether a configuration can train beside the present ones, in smaller chunks if necessary.

        An empty pack accepts every configuration, because only training shows that it does not fit.
        """
        free = self._free()
        if not self._runs or free is None:
            return True
        configs = [*self._configs(), spec.config]
        least = max(self._most_tokens // _MAX_CHUNK_DIVISION, self._longest * self._kind.rows_per_example)
        try:
            needed = self._unallocated([spec.config]) + self._chunk_bytes(configs, least)
        except Exception:  # `enter` meets the same error and reports it as the trial's
            return True
        return needed <= _USABLE_MEMORY * free

    def enter(self, ticket: int, spec: TrialSpec) -> TrialResult | None:
        """Add a configuration to the pack.

        Returns:
            None if the configuration is now in training. Its result if it failed, or if it cannot be packed and was
            therefore trained to its end by itself.
        """
        started = time.perf_counter()
        try:
            run = Run(self.base, self.data, spec)
            try:
                if self.base.is_sharded:
                    raise CannotJoinError("the base model is on several devices")
                if not self._kind.packs(self.data.fields):
                    raise CannotJoinError("the examples of the task cannot share a forward pass")
                if REGISTRY[str(spec.config["family"])].mixes_rows:
                    raise CannotJoinError("the adapter mixes the rows of a batch, which a pack divides")
                if not self._layers.rows_first:
                    raise CannotJoinError("the layers of the base model take tokens before rows")
                self._join({**self._runs, ticket: run})
            except CannotJoinError:
                return train_to_end(run)
            self._runs[ticket] = run
            run.forward = partial(self._output, ticket)
            self._fit_chunks()
        except Exception as error:  # a trial's error, also one of our own code, must not end the others
            result = failure(error, self.base.device, time.perf_counter() - started)
            self._remove([ticket])
            return result
        return None

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration to its end, in a pack of its own."""
        self._runs, self._own_frozen = {}, {}  # an interrupted run may be left over
        self._most_tokens = (
            self._suited_tokens
        )  # an earlier configuration's shortage of memory is not this one's
        result = self.enter(0, spec)
        while result is None:
            result = self.advance().get(0)
        return result

    def advance(self) -> dict[int, TrialResult]:
        """Train one step of every configuration, and return the results of those that ended, by ticket.

        An error that cannot be attributed to one configuration fails all configurations of the pack.
        """
        try:
            ended = self._advance()
        except Exception as error:
            ended = {t: failure(error, self.base.device, run.seconds) for t, run in self._runs.items()}
            self._runs, self.unjoined = {}, set()
        if not self._runs:
            self.prefixes.flush()
        return ended

    def _advance(self) -> dict[int, TrialResult]:
        ended: dict[int, TrialResult] = {}
        batches = {ticket: run.next_batch() or [] for ticket, run in self._runs.items()}
        losses = self._joined_losses({t: batch for t, batch in batches.items() if t not in self.unjoined})
        for ticket, run in self._runs.items():
            try:
                run.update(*(losses[ticket] if ticket in losses else train_batch(run, batches[ticket])))
                if run.is_done:
                    ended[ticket] = run.result()
            except Exception as error:  # as in `enter`
                ended[ticket] = failure(error, self.base.device, run.seconds)
        if ended:
            self._remove(ended)
        return ended

    def _remove(self, tickets: Iterable[int]) -> None:
        gone = set(tickets)
        self._runs = {ticket: run for ticket, run in self._runs.items() if ticket not in gone}
        self.unjoined -= gone
        self._join(self._runs)
        self._fit_chunks()

    def _configs(self) -> list[Configuration]:
        return [run.spec.config for run in self._runs.values()]

    def _free(self) -> int | None:
        """Return the bytes for the next steps, without those that the prefix cache may still take."""
        free = free_memory(self.base.device)
        reserved = max(0, self.prefixes.limit - self.prefixes.bytes)
        return None if free is None else free // self._sharers - reserved

    def _unallocated(self, entering: Sequence[Configuration] = ()) -> float:
        """Return the bytes that configurations without a finished step will allocate for themselves."""
        fresh = [run.spec.config for run in self._runs.values() if not run.has_moments]
        return sum(self.memory.own(config) for config in (*fresh, *entering))

    def _chunk_bytes(self, configs: Sequence[Configuration], tokens: int) -> float:
        memory = self.memory
        return memory.kept(configs, tokens, self._longest) + memory.working(configs, tokens)

    def _fit_chunks(self) -> None:
        """Set the largest chunk that fits, up to what suits the device and has not run out of memory before."""
        free, self.chunk_tokens = self._free(), self._most_tokens
        if free is None or not self._runs:
            return
        configs, room = self._configs(), _USABLE_MEMORY * free - self._unallocated()
        while (
            self.chunk_tokens // 2 >= _MIN_CHUNK_TOKENS
            and self._chunk_bytes(configs, self.chunk_tokens) > room
        ):
            self.chunk_tokens //= 2

    def _joined_losses(self, batches: Mapping[int, Sequence[Encoded]]) -> dict[int, tuple[float, float]]:
        """Return `_losses`; where the joined model fails, run its configurations one by one.

        A configuration that fails there too is unjoined, so that its error is its own.
        """
        try:
            return self._losses(batches) if batches else {}
        except Exception:  # of any configuration: the loop below finds out which
            self._forget_gradients(batches)
        losses: dict[int, tuple[float, float]] = {}
        for ticket, batch in batches.items():
            try:
                losses |= self._losses({ticket: batch})
            except Exception as error:
                self._forget_gradients([ticket])
                family = self._runs[ticket].spec.config["family"]
                _log.warning("trial %s (%s) continues outside the pack: %s", ticket, family, error)
                self.unjoined.add(ticket)
                self._runs[ticket].forward = None
        return losses

    def _join(self, runs: Mapping[int, Run]) -> None:
        models = {ticket: run.model for ticket, run in runs.items()}
        base, shape = self.base.model, self.base.shape
        if models:
            self._joined = join(base, models, self._rows, shape.layers_path, self._layer_schedule)
        # On a GPU, small chunks would cost more than the layers that they save.
        known = self._own_frozen
        frozen = frozen_layers if self._layers.can_be_skipped else (lambda *_: 0)
        own = {t: known[t] if t in known else frozen(base, m, shape) for t, m in models.items()}
        together, self._own_frozen = self.base.device.type != "cpu", own
        self._frozen = {ticket: min(own.values()) if together else n for ticket, n in own.items()}

    def _losses(self, batches: Mapping[int, Sequence[Encoded]]) -> dict[int, tuple[float, float]]:
        """Run forward and backward over all batches; the gradients are left on the parameters.

        Returns:
            By ticket, the mean loss of its batch and its share of the wall time, in seconds.
        """
        while True:
            started = time.perf_counter()
            try:
                losses = self._pass(batches)
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.chunk_tokens <= _MIN_CHUNK_TOKENS:
                    raise
                self._most_tokens = self.chunk_tokens = self.chunk_tokens // 2
                self._forget_gradients(batches)
            else:
                seconds = time.perf_counter() - started
                for run in map(self._runs.__getitem__, batches):
                    run.chunk_tokens = min(run.chunk_tokens or self.chunk_tokens, self.chunk_tokens)
                tokens = {ticket: count_tokens(batch) for ticket, batch in batches.items()}
                whole = sum(tokens.values())
                return {ticket: (losses[ticket], seconds * n / whole) for ticket, n in tokens.items()}
            finally:
                self._rows.parts, self._layer_schedule.hidden = [], None
            if self.base.device.type == "cuda":
                torch.cuda.empty_cache()

    def _forget_gradients(self, tickets: Iterable[int]) -> None:
        for ticket in tickets:
            for parameter in self._runs[ticket].parameters:
                parameter.grad = None

    def _pass(self, batches: Mapping[int, Sequence[Encoded]]) -> dict[int, float]:
        """Run the batches in groups of configurations with the same number of frozen lowest layers."""
        losses = dict.fromkeys(batches, torch.zeros((), device=self.base.device))
        for frozen in sorted({self._frozen[ticket] for ticket in batches}):
            members = {ticket: b for ticket, b in batches.items() if self._frozen[ticket] == frozen}
            self._pass_group(members, frozen, losses)
        return dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))

    def _pass_group(
        self, batches: Mapping[int, Sequence[Encoded]], frozen: int, losses: dict[int, torch.Tensor]
    ) -> None:
        owners = [ticket for ticket, batch in batches.items() for _ in batch]
        examples = [example for batch in batches.values() for example in batch]
        counts = {ticket: sum(map(self._kind.target_count, batch)) for ticket, batch in batches.items()}
        lengths = np.array([token_count(example) for example in examples])
        for chunk in chunks(lengths, self.chunk_tokens, starting_cost(self.base.device)):
            # The joined model requires that the rows of a configuration are contiguous.
            rows = sorted(chunk.tolist(), key=lambda i: owners[i])
            parts = self._part_losses([owners[i] for i in rows], [examples[i] for i in rows], frozen)
            parts = {ticket: loss / counts[ticket] for ticket, loss in parts.items()}
            torch.stack(list(parts.values())).sum().backward()
            for ticket, loss in parts.items():
                losses[ticket] = losses[ticket] + loss.detach()

    def _prepare(self, parts: list[tuple[int, slice]], examples: Sequence[Encoded], frozen: int) -> None:
        """Set the owners of the next forward pass's rows, and the output of their frozen layers."""
        schedule, hidden = self._layer_schedule, None
        if frozen:
            stops = set(self._frozen.values())  # layers above which other configurations start
            rows = [row for example in examples for row in self._kind.rows(example)]
            hidden = self.prefixes.get(rows, frozen, self._compute, stops)
        self._rows.parts = parts
        schedule.start, schedule.hidden, schedule.stop = frozen, hidden, None

    def _compute(
        self, rows: Sequence[Encoded], start: int, below: torch.Tensor | None, stop: int
    ) -> torch.Tensor:
        """Return the output of the base model's layer `stop`, given that of layer `start` in `below`."""
        schedule = self._layer_schedule
        self._rows.parts = [(_NO_CONFIGURATION, slice(0, len(rows)))]
        schedule.start, schedule.hidden, schedule.stop = start, below, stop
        batch = Batch(self._kind.row_inputs(rows, self.data.tokenizer), {})
        with contextlib.suppress(EarlyExit):
            self._forward(batch.to(self.base.device))
        assert schedule.hidden is not None
        return schedule.hidden

    def _output(self, ticket: int, examples: Sequence[Encoded], batch: Batch) -> Any:
        """Return the output of a configuration for its evaluation on the batch of the examples."""
        self._prepare([(ticket, self._rows_of(slice(0, len(examples))))], examples, self._frozen[ticket])
        return self._forward(batch)

    def _forward(self, batch: Batch) -> Any:
        assert self._joined is not None
        with self.base.computing():
            return self._joined(**batch.inputs)

    def _rows_of(self, examples: slice) -> slice:
        """Return the rows of consecutive examples."""
        rows = self._kind.rows_per_example
        return slice(examples.start * rows, examples.stop * rows)

    def _part_losses(
        self, owners: Sequence[int], examples: Sequence[Encoded], frozen: int
    ) -> dict[int, torch.Tensor]:
        """Return the summed loss of each configuration's examples in one forward pass, by ticket."""
        parts = _parts(owners)
        self._prepare([(ticket, self._rows_of(part)) for ticket, part in parts], examples, frozen)
        values = [self._runs[ticket].values for ticket in owners]
        each = self._losses_of(self._kind.collate(examples, self.data.tokenizer), values)
        return {ticket: each[part].sum() for ticket, part in parts}

    def _losses_of(self, batch: Batch, values: Sequence[Values]) -> torch.Tensor:
        """Return the loss of each example of a batch, whose `Run.values` are given, shape [n]."""
        batch = batch.to(self.base.device)
        return self._kind.losses(self._forward(batch), batch.targets, values)


def _parts(owners: Sequence[int]) -> list[tuple[int, slice]]:
    """Return the contiguous rows of each owner, in order."""
    parts: list[tuple[int, slice]] = []
    for place, owner in enumerate(owners):
        if parts and parts[-1][0] == owner:
            parts[-1] = (owner, slice(parts[-1][1].start, place + 1))
        else:
            parts.append((owner, slice(place, place + 1)))
    return parts
