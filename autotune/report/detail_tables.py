"""The report's tables on one point: its scores by class, by group and on further data, and generated texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.formatting.units import counted, label, percent, quantity
from autotune.results.recommendation import recommend
from autotune.results.selection import best_trial
from autotune.results.sweep_tables import SweepTables
from trials.kinds.scoring.scores import precision_and_recall
from trials.tasks.example_scores import GROUP, PREDICTED_CLASS, TRUE_CLASS
from trials.tasks.metrics import metrics_for

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Detail:
    """A table on one point of the front.

    Args:
        title: What the rows are.
        columns: The headings.
        rows: The cells as text.
        reading: How to read it.
        has_texts: Whether every column is text, whose line breaks are kept.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reading: str
    has_texts: bool = False


def details(results: SweepTables) -> tuple[int | None, list[Detail]]:
    """Return the recommended point, else the best one, and the tables on it; there are none without confirmation."""
    if results.front.empty or results.confirmations.empty:
        return None, []
    recommended = recommend(results, results.front).trial
    trial = best_trial(results, results.front) if recommended is None else recommended
    point = results.first_trials[trial]
    runs = [scores for key, scores in results.example_scores.items() if key.trial == point]
    found = [
        _classes(results, runs),
        _groups(results, runs),
        _further(results, point),
        _texts(results, point),
    ]
    return trial, [table for table in found if table is not None]


def _classes(results: SweepTables, runs: Sequence[Mapping[str, Array]]) -> Detail | None:
    runs = [run for run in runs if PREDICTED_CLASS in run]
    names = results.class_names
    if not runs or not names:
        return None
    by_run = [class_scores(run[TRUE_CLASS], run[PREDICTED_CLASS], len(names)) for run in runs]
    means, support = (
        np.mean(by_run, axis=0),
        np.bincount(runs[0][TRUE_CLASS].astype(int), minlength=len(names)),
    )
    rows = tuple(
        (name, *map(percent, scores), str(count))
        for name, scores, count in zip(names, means, support, strict=True)
    )
    reading = (
        f"Each class against all others on validation, the mean of {counted(len(runs), 'confirmation run')}."
    )
    return Detail("Classes", ("Class", "Precision", "Recall", "F1", "Examples"), rows, reading)


def class_scores(truth: Array, predicted: Array, classes: int) -> Array:
    """Return precision, recall and F1 of each class, shape [classes, 3].

    Args:
        truth: Class indices, shape [n].
        predicted: Class indices, shape [n].
        classes: The number of classes.
    """
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (truth.astype(int), predicted.astype(int)), 1)
    precision, recall = precision_and_recall(confusion)
    f1 = 2 * np.diag(confusion) / np.maximum(confusion.sum(0) + confusion.sum(1), 1)
    return np.column_stack([precision, recall, f1])


def _groups(results: SweepTables, runs: Sequence[Mapping[str, Array]]) -> Detail | None:
    runs = [run for run in runs if GROUP in run and "accuracy" in run]
    names, column = results.group_names, results.sweep.task.groups
    if not runs or not names or column is None:
        return None
    codes = runs[0][GROUP].astype(int)
    accuracy = np.mean([run["accuracy"] for run in runs], axis=0)
    there = [code for code in range(len(names)) if (codes == code).any()]
    means = {code: float(accuracy[codes == code].mean()) for code in there}
    worst = min(there, key=lambda code: means[code])
    rows = tuple(
        (
            f"{names[code]} (worst)" if code == worst else names[code],
            percent(means[code]),
            str((codes == code).sum()),
        )
        for code in there
    )
    reading = (
        f"Groups of the column {column} on validation, the mean of {counted(len(runs), 'confirmation run')}."
    )
    return Detail("Groups", ("Group", "Accuracy", "Examples"), rows, reading)


def _further(results: SweepTables, point: int) -> Detail | None:
    """Return the scores of the user's own code and of further data."""
    task, runs = results.sweep.task, results.confirmations
    runs = runs[runs["trial"] == point]
    columns = [f"metric.{name}" for name in task.metrics if name not in metrics_for(task.type)]
    rows = tuple(
        (label(name), quantity(name, float(runs[column].mean())))
        for column in columns
        if column in runs and runs[column].notna().any()
        for name in [column.removeprefix("metric.")]
    )
    reading = (
        f"Scores of further data, of groups and of your own code, the mean of {counted(len(runs), 'run')}."
    )
    return Detail("Further scores", ("Score", "Value"), rows, reading) if rows else None


def _texts(results: SweepTables, point: int) -> Detail | None:
    """Return texts that the model of the point's first confirmation run generated."""
    runs = {key.seed: texts for key, texts in results.text_samples.items() if key.trial == point}
    if not runs:
        return None
    seed = min(runs)
    rows = tuple((each.prompt, each.text, each.reference) for each in runs[seed])
    reading = (
        f"{counted(len(rows), 'validation example')} of the confirmation run with seed {seed}, spread evenly over "
        "the prompts that it continued. Long texts are shortened, as they say."
    )
    return Detail("Generated texts", ("Prompt", "Generated", "Reference"), rows, reading, has_texts=True)
