"""Packed training: several configurations at once on one frozen base.

Each step takes every configuration's next batch. The rows of all batches together are cut into chunks of
like length, whoever they belong to, so that little is padded; the joined model (`joining.py`) runs each
chunk, and when all are through, each configuration clips, steps and decays by itself. What a configuration
computes is what it computes alone: its batches, its losses and its steps are the same, up to rounding.
Configurations enter and leave between steps.

Layers below a configuration's lowest adapter are run once for each example and not again (`prefix_cache.py`),
and of the last layer only what the head reads (`layer_gates.py`), in training and in evaluation.

Memory grows with the chunk and not with the number of configurations, but for their own adapters and
optimizers. How large a chunk is, and whether one more configuration fits, is told by a model of the memory
(`memory_model.py`) and what is free. A chunk that does not fit all the same is halved, and the step repeated.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from search_spaces.families import REGISTRY
from trials.base.model import Base
from trials.packing.joined_model import CannotJoinError, Rows, frozen_layers, join
from trials.packing.layer_gates import EarlyExit, LayerSchedule
from trials.packing.memory import free_memory
from trials.packing.memory_model import Computation, Config, MemoryModel
from trials.packing.prefix_cache import PrefixCache
from trials.records import TrialResult, TrialSpec
from trials.tasks.data import TaskData
from trials.tasks.encoding import IGNORED, Encoded, collate
from trials.training.failures import FAILURES, failure, out_of_memory
from trials.training.length_batching import chunks, starting_cost, suited_tokens
from trials.training.run import Run, alone, count_tokens, finish

_log = logging.getLogger(__name__)

_NOBODY = -1
"""The ticket of rows that are in no configuration's hands."""
_SMALLEST = 64
"""Tokens below which a chunk is not halved again: then memory is short for another reason."""
_USED = 0.8
"""The share of the free memory that a step may take: the model may be off by 15 %."""
_WORTH = 4
"""Chunks are divided by so much to let one more configuration in; below that it waits."""


class Pack:
    """Configurations in training on one base; see the top of this file.

    Args:
        base, data: of every configuration.
        chunk_tokens: tokens of one forward pass, padding included, at most; by default what suits the device.
        prefixes: where the states of frozen layers are kept; by default in memory alone.
        sharers: packs in other processes that take from the same memory, this one included.
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
        self._suited_tokens = chunk_tokens or suited_tokens(base.device)
        self.chunk_tokens = self._most_tokens = self._suited_tokens
        self.memory = MemoryModel(base.shape, Computation.of(base))
        self._longest = int(data.lengths("train").max())
        self._runs: dict[int, Run] = {}
        self._rows, self._layer_schedule = Rows(), LayerSchedule()
        self._joined: nn.Module | None = None
        self._frozen: dict[int, int] = {}
        self._own_frozen: dict[int, int] = {}
        self.apart: set[int] = set()
        """Tickets of configurations that the joined model could not run: each steps by itself."""
        self.prefixes = prefixes or PrefixCache()

    def __len__(self) -> int:
        return len(self._runs)

    def fits(self, spec: TrialSpec) -> bool:
        """Whether a configuration can train beside the others, in smaller chunks if need be.

        The first always may: it has to be tried.
        """
        free = self._free()
        if not self._runs or free is None:
            return True
        configs = [*self._configs(), spec.config]
        least = max(self._most_tokens // _WORTH, self._longest)
        return self._unallocated([spec.config]) + self._chunk_bytes(configs, least) <= _USED * free

    def _configs(self) -> list[Config]:
        return [run.spec.config for run in self._runs.values()]

    def _free(self) -> int | None:
        """Bytes for the next steps, without those that the cache of hidden states may still take."""
        free = free_memory(self.base.device)
        promised = max(0, self.prefixes.limit - self.prefixes.bytes)
        return None if free is None else free // self._sharers - promised

    def _unallocated(self, entering: Sequence[Config] = ()) -> float:
        """What configurations that have made no step yet will take for themselves, in bytes."""
        fresh = [run.spec.config for run in self._runs.values() if not run.stepped]
        return sum(self.memory.own(config) for config in (*fresh, *entering))

    def _chunk_bytes(self, configs: Sequence[Config], tokens: int) -> float:
        memory = self.memory
        return memory.kept(configs, tokens, self._longest) + memory.working(configs, tokens)

    def _fit_chunks(self) -> None:
        """The largest chunks that fit, up to what suits the device and has not failed before."""
        free, self.chunk_tokens = self._free(), self._most_tokens
        if free is None or not self._runs:
            return
        configs, room = self._configs(), _USED * free - self._unallocated()
        while self.chunk_tokens // 2 >= _SMALLEST and self._chunk_bytes(configs, self.chunk_tokens) > room:
            self.chunk_tokens //= 2

    def enter(self, ticket: int, spec: TrialSpec) -> TrialResult | None:
        """Let a configuration in. Its result comes back at once if it cannot be packed and so was trained
        alone, or if it failed."""
        started = time.perf_counter()
        try:
            run = Run(self.base, self.data, spec)
            try:
                if REGISTRY[str(spec.config["family"])].mixes_rows:
                    raise CannotJoinError("the adapter mixes the rows of a batch, which a pack divides")
                self._join({**self._runs, ticket: run})
            except CannotJoinError:
                return finish(run)
        except FAILURES as error:
            return failure(error, self.base.device, time.perf_counter() - started)
        self._runs[ticket] = run
        run.forward = partial(self._logits, ticket)
        self._fit_chunks()
        return None

    def run(self, spec: TrialSpec) -> TrialResult:
        """Train one configuration to its end, in a pack of its own."""
        self._runs, self._own_frozen = {}, {}  # a run that was interrupted is still there
        self._most_tokens = self._suited_tokens  # what did not fit before need not be this one
        result = self.enter(0, spec)
        while result is None:
            result = self.advance().get(0)
        return result

    def advance(self) -> dict[int, TrialResult]:
        """One step of every configuration; the results of those that ended with it."""
        ended: dict[int, TrialResult] = {}
        batches = {ticket: run.next_batch() or [] for ticket, run in self._runs.items()}
        losses = self._together({t: batch for t, batch in batches.items() if t not in self.apart})
        for ticket, run in self._runs.items():
            try:
                run.update(*(losses[ticket] if ticket in losses else alone(run, batches[ticket])))
                if run.done:
                    ended[ticket] = run.result()
            except FAILURES as error:
                ended[ticket] = failure(error, self.base.device, run.seconds)
        if ended:
            self._runs = {ticket: run for ticket, run in self._runs.items() if ticket not in ended}
            self.apart -= ended.keys()
            self._join(self._runs)
            self._fit_chunks()
        if not self._runs:
            self.prefixes.flush()
        return ended

    def _together(self, batches: Mapping[int, Sequence[Encoded]]) -> dict[int, tuple[float, float]]:
        """`_losses`, and if that fails, of each configuration by itself; what fails then too is set apart."""
        try:
            return self._losses(batches) if batches else {}
        except FAILURES:
            self._forget_gradients(batches)
        losses: dict[int, tuple[float, float]] = {}
        for ticket, batch in batches.items():
            try:
                losses |= self._losses({ticket: batch})
            except FAILURES as error:
                self._forget_gradients([ticket])
                family = self._runs[ticket].spec.config["family"]
                _log.warning("trial %s (%s) goes on beside the pack: %s", ticket, family, error)
                self.apart.add(ticket)
                self._runs[ticket].forward = None
        return losses

    def _join(self, runs: Mapping[int, Run]) -> None:
        models = {ticket: run.model for ticket, run in runs.items()}
        base, shape = self.base.model, self.base.shape
        if models:
            self._joined = join(base, models, self._rows, shape.layers_path, self._layer_schedule)
        # On a GPU, small chunks would cost more than the layers that they save.
        known = self._own_frozen
        own = {t: known[t] if t in known else frozen_layers(base, m, shape) for t, m in models.items()}
        together, self._own_frozen = self.base.device.type != "cpu", own
        self._frozen = {ticket: min(own.values()) if together else n for ticket, n in own.items()}

    def _losses(self, batches: Mapping[int, Sequence[Encoded]]) -> dict[int, tuple[float, float]]:
        """Forward and backward over all batches: by ticket, the mean loss and the share of the seconds.

        The gradients are left on the parameters.
        """
        while True:
            started = time.perf_counter()
            try:
                losses = self._pass(batches)
            except RuntimeError as error:
                if not out_of_memory(error) or self.chunk_tokens <= _SMALLEST:
                    raise
                self._most_tokens = self.chunk_tokens = self.chunk_tokens // 2
                self._forget_gradients(batches)
            else:
                seconds = time.perf_counter() - started
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
        """Chunks hold configurations with the same number of frozen layers at the bottom."""
        losses = dict.fromkeys(batches, torch.zeros((), device=self.base.device))
        for frozen in sorted({self._frozen[ticket] for ticket in batches}):
            members = {ticket: b for ticket, b in batches.items() if self._frozen[ticket] == frozen}
            self._pass_of_like(members, frozen, losses)
        return dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))

    def _pass_of_like(
        self, batches: Mapping[int, Sequence[Encoded]], frozen: int, losses: dict[int, torch.Tensor]
    ) -> None:
        owners = [ticket for ticket, batch in batches.items() for _ in batch]
        examples = [example for batch in batches.values() for example in batch]
        weights = {ticket: 1.0 / _learned(batch) for ticket, batch in batches.items()}
        lengths = np.array([len(example["input_ids"]) for example in examples])
        for chunk in chunks(lengths, self.chunk_tokens, starting_cost(self.base.device)):
            # A configuration's rows lie together, as the joined model wants them.
            rows = sorted(chunk.tolist(), key=lambda i: owners[i])
            self._prepare(_parts([owners[i] for i in rows]), [examples[i] for i in rows], frozen)
            each = self._row_losses(collate([examples[i] for i in rows], self.data.tokenizer))
            parts = {ticket: weights[ticket] * each[part].sum() for ticket, part in self._rows.parts}
            torch.stack(list(parts.values())).sum().backward()
            for ticket, loss in parts.items():
                losses[ticket] = losses[ticket] + loss.detach()

    def _prepare(self, parts: list[tuple[int, slice]], examples: Sequence[Encoded], frozen: int) -> None:
        """Set whose rows the next forward pass has, and bring what the frozen layers make of them."""
        way, hidden = self._layer_schedule, None
        if frozen:
            stops = set(self._frozen.values())  # where one configuration begins, another goes on from
            hidden = self.prefixes.get(examples, frozen, self._compute, stops)
        self._rows.parts = parts
        way.start, way.hidden, way.stop = frozen, hidden, None

    def _compute(
        self, examples: Sequence[Encoded], start: int, below: torch.Tensor | None, stop: int
    ) -> torch.Tensor:
        """What the layers up to `stop` make of examples; of those before `start` it is in `below`."""
        way = self._layer_schedule
        self._rows.parts = [(_NOBODY, slice(0, len(examples)))]
        way.start, way.hidden, way.stop = start, below, stop
        inputs = self._inputs(collate(examples, self.data.tokenizer))
        inputs.pop("labels")
        with contextlib.suppress(EarlyExit):
            self._forward(inputs)
        assert way.hidden is not None
        return way.hidden

    def _logits(
        self, ticket: int, examples: Sequence[Encoded], inputs: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """What a configuration answers, for its evaluation; `inputs` are the examples, collated."""
        self._prepare([(ticket, slice(0, len(examples)))], examples, self._frozen[ticket])
        return self._forward(inputs)

    def _forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        assert self._joined is not None
        autocast = self.base.autocast
        with torch.autocast(self.base.device.type, dtype=autocast, enabled=autocast != torch.float32):
            logits: torch.Tensor = self._joined(**inputs).logits
        return logits

    def _inputs(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.to(self.base.device) for name, tensor in batch.items()}

    def _row_losses(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss of each row, shape [rows]; of a language model, summed over its learned tokens."""
        inputs = self._inputs(batch)
        labels = inputs.pop("labels")
        logits = self._forward(inputs)
        match self.base.task.type:
            case "causal-lm":
                logits = logits[:, :-1].float().transpose(1, 2)
                return functional.cross_entropy(
                    logits, labels[:, 1:], ignore_index=IGNORED, reduction="none"
                ).sum(1)
            case "regression":
                return (logits.float().squeeze(-1) - labels) ** 2
            case _:
                return functional.cross_entropy(logits.float(), labels, reduction="none")


def _parts(owners: Sequence[int]) -> list[tuple[int, slice]]:
    """The contiguous rows of each owner, in order."""
    parts: list[tuple[int, slice]] = []
    for place, owner in enumerate(owners):
        if parts and parts[-1][0] == owner:
            parts[-1] = (owner, slice(parts[-1][1].start, place + 1))
        else:
            parts.append((owner, slice(place, place + 1)))
    return parts


def _learned(batch: Sequence[Encoded]) -> int:
    """What the mean loss of a batch is divided by: its examples, or its learned tokens."""
    first = batch[0]["labels"]
    if not isinstance(first, list):
        return len(batch)
    return sum(label != IGNORED for example in batch for label in example["labels"][1:])
