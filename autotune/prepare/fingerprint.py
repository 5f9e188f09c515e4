"""Whether a sweep goes on with the data and the base models that it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autotune.ledger.folder_reader import FolderReader
from autotune.prepare.own_scores import code_digests, with_own_scores
from autotune.prepare.prepared_sweep import PreparedSweep
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.parameters.types import Value
from trials.data.fingerprint import data_changes, data_fingerprint, model_fingerprint
from trials.data.notes import Notes
from trials.data.task_data import TaskData, load_task, read_rows
from trials.reading.base_model.fingerprint import model_changes
from trials.tasks.model_spec import CHOSEN
from trials.training.further import load_further

CHOICES = "choices"
"""The part of a fingerprint with the base models that a sweep chooses among, by their labels."""
_FIX = "Restore {}, or run a new sweep with --out and another folder."


def sweep_fingerprint(prepared: PreparedSweep) -> dict[str, Any]:
    """Return the fingerprint of a sweep's data, its base models and the user's own code, as plain data."""
    sweep = prepared.sweep
    bases = {
        name: model_fingerprint(sweep.model.other(name), bound.data.tokenizer, sweep.task)
        for name, bound in prepared.bases.bases.items()
    }
    choices = {
        prepared.choices.labels[name]: model_fingerprint(
            sweep.model.other(name), bound.data.tokenizer, sweep.task
        )
        for name, bound in prepared.choices.smaller.bases.items()
    }
    code, further = code_digests(sweep), load_further(sweep.task, prepared.data)
    also = {each.spec.name: each.fingerprint for each in further}
    parts = {"code": code, "also": also, CHOICES: choices}
    given = {name: part for name, part in parts.items() if part}
    return {**_own_fingerprint(sweep, prepared.data), "bases": bases, **given}


def load_unchanged(folder: Path, sweep: Sweep, config: Mapping[str, Value] | None = None) -> TaskData:
    """Load the data of a sweep, and check that they and the base model are those that its folder began with.

    Args:
        folder: of the sweep.
        sweep: the sweep.
        config: a configuration, whose base model is meant where the sweep chooses among several; by default the last.

    Raises:
        InvalidInputError: they changed, with every change; or they cannot be loaded.
    """
    model = sweep.model.chosen_by(config or {})
    with changes_first(folder, sweep):
        data = load_task(sweep.task, model)
    now = _own_fingerprint(sweep.model_copy(update={"model": model}), data)
    if config is not None and sweep.model.choice_of(config) is not None:
        now[CHOICES] = {str(config[CHOSEN]): now.pop("model")}
    check_unchanged(FolderReader(folder, sweep).fingerprint, now)
    return data


def check_code(folder: Path, sweep: Sweep) -> None:
    """Check that the user's own functions can be imported, and that their code is that of the sweep's beginning.

    Raises:
        InvalidInputError: a function cannot be imported, or its code changed.
    """
    with_own_scores(sweep)
    before = FolderReader(folder, sweep).fingerprint
    problems = [] if before is None else _code_changes(before, code_digests(sweep))
    if problems:
        raise InvalidInputError(problems)


@contextmanager
def changes_first(folder: Path, sweep: Sweep) -> Iterator[None]:
    """Report what changed in the data since the sweep began instead of an error that follows from it.

    Raises:
        InvalidInputError: the block raises it; with the changes of the data if there are any.
    """
    try:
        yield
    except InvalidInputError as error:
        before = FolderReader(folder, sweep).fingerprint
        if before is None:
            raise
        try:
            rows, *_ = read_rows(sweep.task, Notes())
        except InvalidInputError:
            raise error from None  # it says what is wrong with the rows
        check_unchanged({"data": before["data"]}, {"data": data_fingerprint(rows, sweep.task)})
        raise


def check_unchanged(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Check that two fingerprints of a sweep are equal; one of None is that of a folder that has none.

    Raises:
        InvalidInputError: the data or a base model changed; with every change.
    """
    if before is None:
        return
    parts = {"task": (data_changes(before["data"], now["data"]), "the data")}
    parts["task.also"] = data_changes(before.get("also", {}), now.get("also", {})), "the data"
    if "model" in before and "model" in now:
        parts["model"] = model_changes(before["model"], now["model"]), "the base model"
    for place, (name, base) in enumerate(now.get("bases", {}).items()):
        if name in before.get("bases", {}):
            parts[f"ladder.bases[{place}]"] = model_changes(before["bases"][name], base), repr(name)
    for label, base in now.get(CHOICES, {}).items():
        if label in before.get(CHOICES, {}):
            parts[f"model.choices, {label}"] = model_changes(before[CHOICES][label], base), repr(label)
    problems = _code_changes(before, now.get("code", {}))
    problems += [
        Problem(where, f"{what} changed since the sweep began: {'; '.join(changes)}", _FIX.format(what))
        for where, (changes, what) in parts.items()
        if changes
    ]
    if problems:
        raise InvalidInputError(problems)


def _code_changes(before: Mapping[str, Any], now: Mapping[str, str]) -> list[Problem]:
    """Return a problem for each own function, and file that it may import, that the sweep did not begin with."""
    known = before.get("code", {})
    return [
        Problem(
            f"{'--code' if name.endswith('.py') else 'the score'} {name!r}",
            "its code changed since the sweep began",
            _FIX.format("the code"),
        )
        for name, digest in now.items()
        if known.get(name, digest) != digest
    ]


def _own_fingerprint(sweep: Sweep, data: TaskData) -> dict[str, Any]:
    return {
        "data": data.fingerprint,
        "model": model_fingerprint(sweep.model, data.tokenizer, sweep.task),
    }
