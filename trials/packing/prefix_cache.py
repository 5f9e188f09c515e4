"""The hidden states of each example after the frozen layers below the lowest adapter, computed once.

The base model's dropout is off in trials (see `trials.training.run`), so these states are the same in every epoch,
for every configuration and in evaluation. They are kept in the device's memory, without padding, in the dtype of
the layers, by the number of layers. States that do not fit, and those of earlier processes, are read from disk if
there is a store (`prefix_store.py`); otherwise they are computed each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from trials.packing.prefix_store import PrefixStore, synchronize
from trials.reading.encoding import Encoded, token_count

LIMIT = 2**30
"""The maximum number of bytes of hidden states in memory."""

Compute = Callable[[Sequence[Encoded], int, torch.Tensor | None, int], torch.Tensor]
"""(examples, number of layers done, their output or None, number of layers to reach) -> the output of the latter."""


class PrefixCache:
    """Hidden states by example and number of layers; see the top of this file.

    Args:
        limit: The maximum number of bytes in memory.
        store: The states on disk; None to keep none there.
    """

    def __init__(self, limit: int = LIMIT, store: PrefixStore | None = None) -> None:
        self.limit, self.bytes, self.store = limit, 0, store
        # The reference to the example keeps its id, which is the key, from being reused.
        self._states: dict[int, dict[int, tuple[Encoded, torch.Tensor]]] = {}

    def get(
        self, examples: Sequence[Encoded], layers: int, compute: Compute, stops: Collection[int] = ()
    ) -> torch.Tensor:
        """Return the hidden states after a number of layers.

        Args:
            examples: The encoded examples.
            layers: The number of layers.
            compute: Computes missing states, from the highest known states of an example.
            stops: Numbers of layers whose states are requested elsewhere; they are kept when they are computed.

        Returns:
            The states, shape [examples, longest, width], padded with zeros on the right.
        """
        known = self._states.setdefault(layers, {})
        missing = list({id(e): e for e in examples if id(e) not in known}.values())
        fresh = self.store.read(missing, layers) if self.store is not None else {}
        absent = [example for example in missing if id(example) not in fresh]
        for start, group in self._by_start(absent, layers, stops).items():
            below = self.get(group, start, compute, stops) if start else None
            tick = time.perf_counter()
            with torch.inference_mode(False), torch.no_grad():
                found = compute(group, start, below, layers)
            rows = [states[: token_count(e)] for e, states in zip(group, found, strict=True)]
            fresh |= {id(example): states for example, states in zip(group, rows, strict=True)}
            if self.store is not None:
                synchronize(found.device)
                self.store.add(group, rows, layers, time.perf_counter() - tick)
        self._keep(missing, fresh, known)
        rows = [fresh[id(e)] if id(e) in fresh else known[id(e)][1] for e in examples]
        return pad_sequence(rows, batch_first=True)

    def flush(self) -> None:
        """Write all pending states to disk."""
        if self.store is not None:
            self.store.flush()

    def _by_start(
        self, examples: Sequence[Encoded], layers: int, stops: Collection[int]
    ) -> dict[int, list[Encoded]]:
        """Group the examples by the layer to start from: their highest known one, or a stop above it."""
        on_disk = self.store.levels if self.store is not None and examples else frozenset[int]()
        levels = sorted((n for n in {*self._states, *on_disk} if n < layers), reverse=True)
        stop = max((n for n in stops if n < layers), default=0)
        groups: dict[int, list[Encoded]] = {}
        for example in examples:
            known = next((n for n in levels if self._has(example, n)), 0)
            groups.setdefault(max(known, stop), []).append(example)
        return groups

    def _has(self, example: Encoded, layers: int) -> bool:
        if id(example) in self._states.get(layers, ()):
            return True
        return self.store is not None and self.store.has(example, layers)

    def _keep(
        self,
        examples: Sequence[Encoded],
        fresh: dict[int, torch.Tensor],
        known: dict[int, tuple[Encoded, torch.Tensor]],
    ) -> None:
        for example in examples:
            states = fresh[id(example)]
            if id(example) in known or self.bytes + states.nbytes > self.limit:
                continue
            with torch.inference_mode(False):
                known[id(example)] = (example, states.clone())
            self.bytes += states.nbytes
