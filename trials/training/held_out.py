"""Scoring of a trial on a held-out split: the scores of its kind of task, and those of the user's own functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from trials.base.model import Base
from trials.data.task_data import TaskData
from trials.kinds.generation import Generated
from trials.kinds.kind import Array
from trials.kinds.registry import find_kind
from trials.reading.tables.rows import Rows
from trials.records import TextSample
from trials.scoring.groups import WORST_GROUP, group_means, group_name, group_names
from trials.scoring.own import Answers, answers_of, call, generated_answers
from trials.tasks.example_scores import GROUP, MOST_INDICES, PREDICTED_CLASS, TRUE_CLASS
from trials.tasks.own_code import load
from trials.tasks.specs import TaskSpec
from trials.training.evaluation import Evaluation, Forward, evaluate
from trials.training.references import with_references
from trials.training.subsets import subset

SAMPLES = 5
"""The maximum number of generated texts that a result keeps."""
_CHARACTERS = 500
"""The maximum number of characters of a prompt, a text or a reference that a result keeps."""


class HeldOut:
    """The examples of a split that a trial is scored on, and their rows.

    Args:
        base: The base model.
        data: The task's data, encoded for the base model.
        split: The name of the split.
        size: The maximum number of examples; None for all of them.
    """

    def __init__(self, base: Base, data: TaskData, split: str, size: int | None = None) -> None:
        self._base, self._data, self._split = base, data, split
        self.order = subset(range(len(data.splits[split])), size, seed=0)
        self.examples = with_references(base, data, [data.splits[split][i] for i in self.order])

    @property
    def rows(self) -> Rows:
        """The rows of the examples, in the same order."""
        return self._data.raw[self._split].select(self.order)

    def score(
        self, model: nn.Module, forward: Forward | None = None, *, generates: bool = True
    ) -> Evaluation:
        """Return every score that follows from the model's outputs; the model is left in evaluation mode.

        Args:
            model: The model.
            forward: A replacement for the model's own forward pass.
            generates: Whether to generate texts, if the task says how; without them, own scores of them are absent.

        Raises:
            OwnScoreError: A function of the user cannot be imported, or returns no finite numbers.
        """
        base, task = self._base, self._base.task
        found = evaluate(
            model,
            self._data,
            self.examples,
            task_type=task.type,
            device=base.device,
            computing=base.computing,
            forward=forward,
            generates=generates,
        )
        if task.groups is not None and "accuracy" in found.metrics:
            accuracy = find_kind(task.type).example_scores(found.columns)["accuracy"]
            worst = min(group_means(accuracy, self.rows[task.groups]).values())
            found = found._replace(metrics={**found.metrics, WORST_GROUP: worst})
        is_absent = bool(task.generation) and not found.generated
        if not task.own_metrics or is_absent or not math.isfinite(found.metrics["eval_loss"]):
            return found
        answers = (
            generated_answers(found.generated)
            if found.generated
            else answers_of(find_kind(task.type), found.outputs, self.examples, self.rows, self._data.scoring)
        )
        return found._replace(metrics={**found.metrics, **own_scores(task, answers)})

    def indices(self, found: Evaluation) -> dict[str, Array]:
        """Return the indices of the classes and of the group of each example, as far as the task has them."""
        task, indices = self._base.task, find_kind(self._base.task.type).class_indices(found.columns)
        stored: dict[str, Array] = {}
        if indices is not None and len(self._data.classes or ()) <= MOST_INDICES:
            stored[PREDICTED_CLASS], stored[TRUE_CLASS] = indices
        if task.groups is not None:
            names = {name: i for i, name in enumerate(group_names(self._data.raw[self._split][task.groups]))}
            if len(names) <= MOST_INDICES:
                groups = [names[group_name(value)] for value in self.rows[task.groups]]
                stored[GROUP] = np.array(groups, float)
        return stored

    def final_scores(self, model: nn.Module) -> dict[str, float]:
        """Return the scores that a trial has at its end only: those of the user's evaluation of the model.

        The random state is restored afterwards, so that an evaluation that samples changes nothing in the training.

        Args:
            model: The model, which is left in evaluation mode.

        Raises:
            OwnScoreError: As for `score`.
        """
        base, task = self._base, self._base.task
        if task.evaluate is None:
            return {}
        function = load(task.evaluate, task.code)
        model.eval()
        devices = [base.device] if base.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices), base.computing():
            return call(
                function, task.evaluate, model, self._data.tokenizer, [dict(row) for row in self.rows]
            )


def own_scores(task: TaskSpec, answers: Answers) -> dict[str, float]:
    """Return the scores of the model's answers by the task's own functions.

    Raises:
        OwnScoreError: A function cannot be imported, raised an exception, or returned no finite numbers.
    """
    found: dict[str, float] = {}
    for name in task.own_metrics:
        found |= call(load(name, task.code), name, *answers)
    return found


def text_samples(generated: Sequence[Generated]) -> tuple[TextSample, ...]:
    """Return at most `SAMPLES` generated texts, spread evenly over the split: the same examples in every run.

    A long prompt keeps its end, which the model continues; a long text or reference keeps its beginning.
    """
    places = np.linspace(0, len(generated) - 1, min(SAMPLES, len(generated))).round().astype(int)
    return tuple(
        TextSample(_end(each.prompt), _beginning(each.text), _beginning(each.reference))
        for each in (generated[place] for place in places)
    )


def _beginning(text: str) -> str:
    cut = len(text) - _CHARACTERS
    return text if cut <= 0 else f"{text[:_CHARACTERS]} … ({cut:,} more characters)"


def _end(text: str) -> str:
    cut = len(text) - _CHARACTERS
    return text if cut <= 0 else f"({cut:,} more characters) … {text[-_CHARACTERS:]}"
