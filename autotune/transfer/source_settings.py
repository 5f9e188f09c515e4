"""What the trials of an earlier sweep trained with where their configurations do not say it.

A sweep without `train_samples` in its space trains on the examples of its fidelity, one without `model` on its only
base model, and so on. Where another sweep searches these, its defaults would stand for runs that never took place:
the scores of 60 examples would count as those of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from autotune.ledger.folder_reader import FolderReader
from autotune.results.estimates import is_as_search
from autotune.results.sweep_tables import SweepTables
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.training import DEFAULT_OPTIMIZER, OPTIMIZER, SEQUENCE_LENGTH
from search_spaces.parameters.types import Configuration, Value
from search_spaces.space import SearchSpace
from trials.tasks.model_spec import CHOSEN, ModelSpec, model_labels, resolve_model


@dataclass(frozen=True)
class SourceSettings:
    """The settings of an earlier sweep's trials, as parameters of another sweep's space.

    Args:
        model: the base model of the earlier sweep, with its choices.
        own: the base model of the sweep that starts, with its choices.
        space: the bound space of the sweep that starts.
        examples: training examples per epoch of the earlier trials, where their configurations do not say it; None
            if it is not known.
        max_length: tokens after which the earlier sweep cut an example.
    """

    model: ModelSpec
    own: ModelSpec
    space: SearchSpace
    examples: int | None
    max_length: int

    @classmethod
    def read(cls, tables: SweepTables, own: ModelSpec, space: SearchSpace) -> SourceSettings:
        """Read the settings from the results of an earlier sweep, for the model and the space of one that starts."""
        sweep = tables.sweep
        return cls(sweep.model, own, space, training_examples(tables), sweep.task.max_length)

    def implied(self, config: Mapping[str, Value]) -> Configuration:
        """Return the parameters of this space that an earlier configuration implies without having them.

        The model is always among them where this space chooses it and one of the choices was trained, because labels
        of choices are those of a sweep.

        Args:
            config: of the earlier sweep.
        """
        known: dict[str, Value | None] = {
            TRAIN_SAMPLES.name: self.examples,
            SEQUENCE_LENGTH.name: self.max_length,
            OPTIMIZER.name: DEFAULT_OPTIMIZER,
        }
        found: Configuration = {
            name: value
            for name, value in known.items()
            if name in self.space and name not in config and value is not None
        }
        if CHOSEN in self.space:
            label = choice_of_model(self.model.chosen_by(config), self.own)
            if label is not None:
                found[CHOSEN] = label
            elif self.model.choice_of(config) is None:
                found[CHOSEN] = self._home
        return found

    def lacks_examples(self, config: Mapping[str, Value]) -> bool:
        """Return whether this space has the number of examples of a trial, and the earlier sweep does not tell it."""
        name = TRAIN_SAMPLES.name
        return name in self.space and name not in config and self.examples is None

    @property
    def notes(self) -> list[str]:
        """What stands for the base model of the earlier sweep where no choice of this one is the same."""
        if CHOSEN not in self.space or choice_of_model(self.model.chosen_by({}), self.own) is not None:
            return []
        return [
            f"model {self._home} stands for its base model, {self.model.title}, which is none of the choices"
        ]

    @property
    def _home(self) -> str:
        return model_labels(self.own.choices or ())[-1]


def training_examples(tables: SweepTables) -> int | None:
    """Return the training examples per epoch that the scores of a sweep without `train_samples` belong to.

    Returns:
        The number of its fidelity, at most that of its training split. Scores of a sweep that confirmed on all
        examples are moved to these runs (`confirmed_values`), so all examples are meant. None if neither is known.
    """
    prints = FolderReader(tables.folder, tables.sweep).fingerprint
    rows = None if prints is None else int(prints["data"]["train"]["rows"])
    limit = tables.sweep.fidelity.train_samples
    if not tables.confirmations.empty and not is_as_search(tables.confirmations):
        return rows
    known = [number for number in (limit, rows) if number is not None]
    return min(known, default=None)


def choice_of_model(model: ModelSpec, own: ModelSpec) -> str | None:
    """Return the label of the choice that is a base model, or None if it is none of them.

    Args:
        model: the base model, without choices.
        own: the base model of a sweep, with its choices.

    Returns:
        The choice of the same name or folder and the same share of the layers; else the only one whose name has the
        same last part.
    """
    choices = own.choices or ()
    offered = dict(zip(model_labels(choices), map(own.other, choices), strict=True))
    same_share = {
        label: each
        for label, each in offered.items()
        if (each.share_of_layers or 1.0) == (model.share_of_layers or 1.0)
    }
    for label, each in same_share.items():
        if each.name == model.name or _folder(each.name) == _folder(model.name):
            return label
    alike = [
        label for label, each in same_share.items() if PurePath(each.name).name == PurePath(model.name).name
    ]
    return alike[0] if len(alike) == 1 else None


def _folder(name: str) -> Path:
    return Path(resolve_model(name)).expanduser().resolve()
