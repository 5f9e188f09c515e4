"""The fidelity of a sweep file, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from trials.records import Fidelity

FIDELITY_FIELDS = [field.name for field in fields(Fidelity)]
_SCORES = get_args(get_type_hints(Fidelity)["score"])
_ALL = "all"
"""The fidelity of trials that train on all data."""


def read_fidelity(value: object) -> object:
    """Return the mapping that a fidelity in a sweep file stands for; anything that is not one, unchanged.

    Raises:
        InvalidInputError: it has problems; the error lists all of them.
    """
    if value == _ALL:
        return {}
    if isinstance(value, str):
        fix = f"Write {_ALL}, or numbers such as {{train_samples: 2000, eval_samples: 1000}}."
        raise InvalidInputError(Problem("fidelity", f"{value!r} is not a fidelity", fix))
    if not isinstance(value, Mapping):
        return value
    problems = []
    for key, given in value.items():
        where = f"fidelity.{key}"
        if key not in FIDELITY_FIELDS:
            problems.append(Problem(where, "unknown key", did_you_mean(str(key), FIDELITY_FIELDS)))
        elif key == "score":
            if given not in _SCORES:
                problems.append(Problem(where, f"{given!r} is not an evaluation", "Write last or best."))
        elif given is None and key != "evaluations":
            continue
        elif not isinstance(given, int) or isinstance(given, bool):
            problems.append(
                Problem(where, f"{given!r} is not a whole number", "Write a whole number, such as 2000.")
            )
        elif given < 1:
            problems.append(Problem(where, f"{given} is out of range", "It must be at least 1."))
    if problems:
        raise InvalidInputError(problems)
    return value


def check_examples(fidelity: Fidelity, space: Mapping[str, Any]) -> None:
    """Raise InvalidInputError if both the fidelity and the configurations set the number of training examples."""
    if fidelity.train_samples is None or TRAIN_SAMPLES.name not in space["parameters"]:
        return
    what = f"{fidelity.train_samples:,}, and space.parameters.{TRAIN_SAMPLES.name} sets the number for each trial"
    fix = (
        f"Remove it, and give {fidelity.train_samples} as the high of {TRAIN_SAMPLES.name} if it is the most."
    )
    raise InvalidInputError(Problem("fidelity.train_samples", what, fix))
