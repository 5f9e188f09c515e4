"""Reading what a sweep's folder holds, without changing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from autotune.ledger.optuna_storage import open_storage
from autotune.sweep.schema import Sweep

STUDY_FILE = "study.db"
Part = Literal["search", "confirm", "probe"]
"""The part of a sweep whose trials a study holds."""
POSTERIOR, FINGERPRINT, NOTES, CONFIGURATIONS = "posterior", "fingerprint", "notes", "configurations"
NAMES, SOURCES = "names", "start_from"
"""The attributes of a study of the search: the posterior of the scores, the fingerprint of data and models, the notes
about them, the names of classes and groups, the fingerprint of what was carried over from earlier sweeps, and the
number of configurations after which the search ends."""


class FolderReader:
    """The studies of a sweep's folder, each empty where it does not exist yet.

    Another process may be writing to them. The file is opened once, on first use: opening it takes Optuna longer
    than reading it.

    Args:
        folder: of the sweep.
        sweep: the sweep, after which the studies are named.
    """

    def __init__(self, folder: Path, sweep: Sweep) -> None:
        self._file, self._sweep = folder / STUDY_FILE, sweep

    def study(self, part: Part = "search") -> optuna.Study | None:
        """Return the study of a part of the sweep; None where there is none."""
        if self._storage is None:
            return None
        try:
            return optuna.load_study(study_name=study_name(self._sweep, part), storage=self._storage)
        except KeyError:
            return None

    def trials(self, part: Part = "search") -> list[FrozenTrial]:
        """Return every trial that was started, in order."""
        study = self.study(part)
        found = [] if study is None else study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.state != TrialState.WAITING]

    @property
    def posterior(self) -> Mapping[str, Mapping[str, Sequence[float]]]:
        """(posterior mean, standard deviation) by score and trial number, as `Ledger.set_posterior` wrote them."""
        scores: Mapping[str, Mapping[str, Sequence[float]]] = self._attributes.get(POSTERIOR, {}).get(
            "scores", {}
        )
        return scores

    @property
    def fingerprint(self) -> Mapping[str, Any] | None:
        """The fingerprint of the data and the base models that the search began with; None if there is none."""
        found: Mapping[str, Any] | None = self._attributes.get(FINGERPRINT)
        return found

    @property
    def notes(self) -> Sequence[str]:
        """The notes about the data, the space and the ladder of the search."""
        found: Sequence[str] = self._attributes.get(NOTES, [])
        return found

    def names(self, of: Literal["classes", "groups"]) -> Sequence[str]:
        """Return the names of the classes, or of the groups; empty where they are not known."""
        found: Sequence[str] = self._attributes.get(NAMES, {}).get(of, [])
        return found

    @property
    def configurations(self) -> int | None:
        """The number of configurations after which the search ends; None if its space has too many to try."""
        found: int | None = self._attributes.get(CONFIGURATIONS)
        return found

    @property
    def sources_digest(self) -> str | None:
        """The fingerprint of what was carried over from earlier sweeps; None if the search began without any."""
        found: str | None = self._attributes.get(SOURCES)
        return found

    @cached_property
    def _storage(self) -> BaseStorage | None:
        return open_storage(self._file) if self._file.is_file() else None

    @cached_property
    def _attributes(self) -> dict[str, Any]:
        study = self.study()
        return {} if study is None else study.user_attrs


def study_name(sweep: Sweep, part: Part) -> str:
    """Return the name of the study of a part of the sweep."""
    return sweep.name if part == "search" else f"{sweep.name}/{part}"
