"""What the frozen layers below the lowest adapter make of each example, computed once.

The base's dropout is off in trials (see `trials.training`), so these hidden states are the same in every
epoch, for every configuration and in evaluation. They are kept in this process's memory, without padding, in
the dtype that the layers give, by the number of layers below. When the limit is reached, what is not there
is computed each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from trials.encoding import Encoded

LIMIT = 2**30
"""Bytes of hidden states that are kept, at most."""

Compute = Callable[[Sequence[Encoded], int, torch.Tensor | None], torch.Tensor]
"""(examples, layers that are behind, their outcome) -> the outcome of all the layers asked for."""


class PrefixCache:
    """Hidden states by example and number of layers; see the top of this file.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.bytes = limit, 0
        # An example stands beside its states so that its identity, the key, stays its own.
        self._states: dict[int, dict[int, tuple[Encoded, torch.Tensor]]] = {}

    def get(self, examples: Sequence[Encoded], layers: int, compute: Compute) -> torch.Tensor:
        """The hidden states after so many layers, shape [examples, longest, width], padded with zeros on the
        right; `compute` makes those that are missing, from the highest layers that all of these have."""
        known = self._states.setdefault(layers, {})
        missing = list({id(e): e for e in examples if id(e) not in known}.values())
        fresh: dict[int, torch.Tensor] = {}
        if missing:
            start, below = self._below(missing, layers)
            with torch.inference_mode(False), torch.no_grad():
                found = compute(missing, start, below)
            fresh = {
                id(example): states[: len(example["input_ids"])]
                for example, states in zip(missing, found, strict=True)
            }
            self._keep(missing, fresh, known)
        rows = [fresh[id(e)] if id(e) in fresh else known[id(e)][1] for e in examples]
        return pad_sequence(rows, batch_first=True)

    def _below(self, examples: Sequence[Encoded], layers: int) -> tuple[int, torch.Tensor | None]:
        for start in sorted((n for n in self._states if n < layers), reverse=True):
            known = self._states[start]
            if all(id(example) in known for example in examples):
                return start, pad_sequence([known[id(e)][1] for e in examples], batch_first=True)
        return 0, None

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
