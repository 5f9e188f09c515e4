"""Batches of proposals: which trials the model of a batch sees, and which of them it treats as running.

An Optuna sampler proposes one trial at a time. A batch of q is proposed by q calls that share their data: the trials
that finished before the batch began. Earlier members of the batch are pending for later ones, even once they have
finished, so that a batch is the same whether its trials run one after another or at the same time.

What later members must know is stored with each trial: the number of the batch's first trial, how many members have
been proposed, and the fitted hyperparameters. Workers in parallel share batches in this way. Two workers that propose
at the same moment may both become the same member; each is pending for the other if its trial exists by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.sampler.history import History
from search_spaces.parameters.types import Configuration


@dataclass(frozen=True)
class Batch:
    """The place of one proposal in its batch.

    Args:
        first: number of the batch's first trial.
        position: number of members that were proposed before.
        fit: hyperparameters that the first member has fitted, as JSON values; empty for the first member.
    """

    first: int
    position: int
    fit: Mapping[str, Any]

    @classmethod
    def next(cls, memory: Mapping[str, Any], number: int, size: int) -> Batch:
        """Return the batch that the next trial belongs to.

        Args:
            memory: what the latest earlier proposal has stored.
            number: number of the next trial, with which a new batch begins.
            size: members of a batch.
        """
        before = memory.get("batch")
        if before is None or before["position"] + 1 >= size:
            return cls(number, 0, {})
        return cls(before["first"], before["position"] + 1, before["fit"])

    def stored(self, fit: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the proposal stores for the next one."""
        return {"first": self.first, "position": self.position, "fit": dict(fit)}


@dataclass(frozen=True)
class BatchData:
    """The trials of a study as one batch sees them.

    Args:
        rows: indices of the observed trials of the history that the models are fitted to, shape [n].
        pending: configurations that are running, or belong to the batch.
    """

    rows: NDArray[np.int_]
    pending: list[Configuration]

    @classmethod
    def of(cls, history: History, batch: Batch) -> BatchData:
        """Return the data of a batch; members that have failed are not pending.

        With fewer than two trials from before the batch, all finished trials are data.
        """
        is_earlier = np.array([number < batch.first for number in history.numbers], dtype=bool)
        if is_earlier.sum() < 2:
            is_earlier[:] = True
        members = [history.configs[i] for i in np.flatnonzero(~is_earlier)]
        return cls(np.flatnonzero(is_earlier), [*members, *history.pending])
