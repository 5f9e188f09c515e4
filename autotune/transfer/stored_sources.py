"""What a sweep carried over from earlier ones, kept in its own folder: it resumes after theirs are gone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from autotune.results.tables import write_whole
from autotune.transfer.carried_source import CarriedSource
from search_spaces.errors import InvalidInputError, Problem, first_line
from search_spaces.space import SearchSpace

SOURCES_FILE = "start_from.json"
_FIX = "Restore the file, or run a new sweep with --out and another folder."
_STRICT = ConfigDict(extra="forbid", frozen=True)


class _Trial(BaseModel):
    """One trial of an earlier sweep; values that it does not have are null."""

    model_config = _STRICT

    trial: StrictInt
    config: dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]
    values: list[float | None]
    on_front: StrictBool = False


class _Source(BaseModel):
    """One earlier sweep."""

    model_config = _STRICT

    name: str
    folder: str
    note: str
    trials: list[_Trial]


class _File(BaseModel):
    """The content of the file."""

    model_config = _STRICT

    version: Literal[1]
    objectives: list[str]
    sources: list[_Source]


def sources_text(sources: Sequence[CarriedSource], objectives: Sequence[str]) -> str:
    """Return the content of the file that keeps what was carried over.

    Args:
        sources: what was carried over.
        objectives: names of the objectives of the sweep.
    """
    content = _File(
        version=1,
        objectives=list(objectives),
        sources=[
            _Source(
                name=source.name,
                folder=source.folder,
                note=source.note,
                trials=[
                    _Trial(
                        trial=trial,
                        config=config,
                        values=[float(v) if np.isfinite(v) else None for v in row],
                        on_front=on_front,
                    )
                    for trial, config, row, on_front in zip(
                        source.trials, source.configs, source.values, source.is_on_front, strict=True
                    )
                ],
            )
            for source in sources
        ],
    )
    return json.dumps(content.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def digest_of(text: str) -> str:
    """Return the fingerprint of the file's content, which the ledger of the search holds."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_sources(folder: Path, text: str) -> None:
    """Write what was carried over into the folder of the sweep."""
    write_whole(folder / SOURCES_FILE, lambda path: path.write_text(text, encoding="utf-8"))


def read_stored(
    folder: Path, digest: str, objectives: Sequence[str], space: SearchSpace | None = None
) -> list[CarriedSource]:
    """Read what a sweep carried over when it began.

    Args:
        folder: of the sweep.
        digest: the fingerprint in its ledger.
        objectives: names of its objectives.
        space: its bound space, which the configurations must belong to; None where nothing is trained with them.

    Raises:
        InvalidInputError: the file is missing, changed, or not of this sweep.
    """
    path = folder / SOURCES_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = f"{str(path)!r}, which keeps what the sweep started from, cannot be read ({first_line(error)})"
        raise InvalidInputError(Problem("start_from", what, _FIX)) from None
    if digest_of(text) != digest:
        what = f"{str(path)!r} changed since the sweep began"
        raise InvalidInputError(Problem("start_from", what, _FIX))
    return parse_sources(text, path, objectives, space)


def parse_sources(
    text: str, path: Path, objectives: Sequence[str], space: SearchSpace | None = None
) -> list[CarriedSource]:
    """Return what the content of a file holds, checked against the space and the objectives of the sweep.

    Raises:
        InvalidInputError: it is not what `sources_text` writes for this sweep.
    """
    names = list(objectives)
    try:
        content = _File.model_validate_json(text)
    except ValidationError as error:
        what = f"{str(path)!r} has another form ({first_line(error)})"
        raise InvalidInputError(Problem("start_from", what, _FIX)) from None
    trials = [trial for source in content.sources for trial in source.trials]
    problems = [] if space is None else [each for trial in trials for each in space.problems(trial.config)]
    problems += [
        f"trial {trial.trial} has {len(trial.values)} values"
        for trial in trials
        if len(trial.values) != len(names)
    ]
    if content.objectives != names:
        problems.append(f"it has the objectives {', '.join(content.objectives)}")
    if problems:
        what = f"{str(path)!r} does not fit the sweep: {problems[0]}"
        raise InvalidInputError(Problem("start_from", what, _FIX))
    return [
        CarriedSource(
            name=source.name,
            folder=source.folder,
            trials=tuple(trial.trial for trial in source.trials),
            configs=tuple(dict(trial.config) for trial in source.trials),
            values=np.array([trial.values for trial in source.trials], dtype=float).reshape(-1, len(names)),
            is_on_front=tuple(trial.on_front for trial in source.trials),
            note=source.note,
        )
        for source in content.sources
    ]
