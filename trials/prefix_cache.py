"""What the frozen layers below the lowest adapter make of each example, computed once.

The base's dropout is off in trials (see `trials.training`), so these hidden states are the same in every
epoch, for every configuration and in evaluation. They are kept in this process's memory, without padding, in
the dtype that the layers give, by the number of layers below. When the limit is reached, what is not there
is computed each time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from trials.encoding import Encoded

LIMIT = 2**30
"""Bytes of hidden states that are kept, at most."""

Compute = Callable[[Sequence[Encoded], int, torch.Tensor | None, int], torch.Tensor]
"""(examples, layers that are behind, their outcome, layers asked for) -> the outcome of these."""


class PrefixCache:
    """Hidden states by example and number of layers; see the top of this file.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.bytes = limit, 0
        # An example stands beside its states so that its identity, the key, stays its own.
        self._states: dict[int, dict[int, tuple[Encoded, torch.Tensor]]] = {}

    def get(
        self, examples: Sequence[Encoded], layers: int, compute: Compute, stops: Collection[int] = ()
    ) -> torch.Tensor:
        """The hidden states after so many layers, shape [examples, longest, width], padded with zeros on the
        right. `compute` makes what is missing, from the highest states that an example has.

        Args:
            stops: numbers of layers that are asked for as well; their states are kept on the way.
        """
        known = self._states.setdefault(layers, {})
        missing = list({id(e): e for e in examples if id(e) not in known}.values())
        fresh: dict[int, torch.Tensor] = {}
        for start, group in self._by_start(missing, layers, stops).items():
            below = self.get(group, start, compute, stops) if start else None
            with torch.inference_mode(False), torch.no_grad():
                found = compute(group, start, below, layers)
            for example, states in zip(group, found, strict=True):
                fresh[id(example)] = states[: len(example["input_ids"])]
        self._keep(missing, fresh, known)
        rows = [fresh[id(e)] if id(e) in fresh else known[id(e)][1] for e in examples]
        return pad_sequence(rows, batch_first=True)

    def _by_start(
        self, examples: Sequence[Encoded], layers: int, stops: Collection[int]
    ) -> dict[int, list[Encoded]]:
        """The examples by the number of layers to begin at: their highest known, or a stop above it."""
        levels = sorted((n for n in self._states if n < layers), reverse=True)
        stop = max((n for n in stops if n < layers), default=0)
        groups: dict[int, list[Encoded]] = {}
        for example in examples:
            known = next((n for n in levels if id(example) in self._states[n]), 0)
            groups.setdefault(max(known, stop), []).append(example)
        return groups

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
            known[id(example)] = (example, states.clone())
            self.bytes += states.nbytes
