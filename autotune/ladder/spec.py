"""The `ladder` field of a sweep file: rungs of training, data, sequence length or base models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autotune.ladder.rungs import SLOW_FAMILIES, Ladder
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.families import REGISTRY
from search_spaces.percentages import parse_percentage
from trials.tasks.model_spec import model_labels

_KINDS = ("training", "data", "length", "base")
_GEOMETRIC = ("min", "eta")
"""The fields that place the rungs where they are not base models."""
_OF_BASES = ("bases", "costs")
_WHAT = {"training": "", "data": " of the examples", "length": " of the length"}


class LadderSpec(BaseModel):
    """The rungs on which trials are compared, and the rules of promotion.

    A rung is a share of a configuration's own training: with `min: 20%`, one of three epochs is first judged after
    0.6 of an epoch. The learning rate follows the schedule of the whole run, so a rung is a point along the full run
    and promotion changes nothing.

    With `of: data` or `of: length` a rung is the configuration's whole schedule on a share of the training examples,
    or on texts cut to a share of their length. Such runs start over on each rung, and every rung is paid for in full.
    The same holds for `of: base`, where the rungs below the top are smaller models.

    Args:
        of: What a rung is a share of: `training`, `data`, `length`; or `base` for smaller base models.
        bases: The smaller models, the smallest first; only with `of: base`. Each is a hub id, a folder, or a share of
            the layers of the sweep's model such as `25%`, which keeps its lowest layers.
        costs: Training FLOPs of each smaller model, as shares of those of the sweep's model; derived when a sweep
            starts.
        min: Share at the lowest rung; not with `of: base`. Below 20 % some configurations are still in their warmup.
        eta: Approximate ratio between neighboring rungs; not with `of: base`.
        share: Share of a rung that is promoted.
        judge: Value that stands for the scores below the top: `score` for themselves, `loss` for the held-out loss.
        random_share: Exploration share: the share of trials that is promoted to the top whatever its ranking, so that
            the lower rungs can be checked. A verdict needs five of them.
        close: Distance from the cut within which the learning curve decides, below and above, as parts of `share`.
        first_rung: For each family, the rung on which it is judged first, counted from 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: Literal["training", "data", "length", "base"] = "training"
    bases: tuple[str, ...] | None = None
    costs: tuple[float, ...] | None = None
    min: float | None = 0.2
    eta: float | None = 2.0
    share: float = 0.5
    judge: Literal["score", "loss"] = "score"
    random_share: float = 0.1
    close: tuple[float, float] = (0.75, 0.25)
    first_rung: dict[str, int] = Field(default_factory=lambda: dict(SLOW_FAMILIES))

    @model_validator(mode="before")
    @classmethod
    def _rungs(cls, data: object) -> object:
        """Check that the rungs are either base models or follow from `min` and `eta`."""
        if not isinstance(data, Mapping):
            return data
        given = {key: value for key, value in data.items() if value is not None}
        if given.get("of") == "base":
            problems = [
                Problem(
                    f"ladder.{key}",
                    f"{given[key]!r} has no effect where each base model is a rung",
                    "Remove it.",
                )
                for key in _GEOMETRIC
                if key in given
            ]
            if not given.get("bases"):
                fix = "Name smaller models, the smallest first, or shares of its layers: bases: [25%, 50%]."
                problems.append(Problem("ladder.bases", "missing", fix))
            data = {**data, **dict.fromkeys(_GEOMETRIC)}
        else:
            fix = "Add of: base, or remove it."
            problems = [
                Problem(f"ladder.{key}", "has an effect only with of: base", fix)
                for key in _OF_BASES
                if key in given
            ]
        if problems:
            raise InvalidInputError(problems)
        return data

    def check_below(self, model: str) -> None:
        """Raise InvalidInputError if the sweep's own model is among the smaller base models."""
        if model in (self.bases or ()):
            where = f"ladder.bases[{(self.bases or ()).index(model)}]"
            fix = "Remove it: the top rung is always on it."
            raise InvalidInputError(Problem(where, f"{model!r} is the sweep's own model", fix))

    @property
    def ladder(self) -> Ladder:
        """The ladder, with rungs from `min`, or from the cost of the smallest base model, to 1."""
        rest: dict[str, Any] = {
            "share": self.share,
            "random_share": self.random_share,
            "close": self.close,
            "first_rung": self.first_rung,
        }
        if self.min is None or self.eta is None:
            assert self.costs is not None, "they are filled in when a sweep starts"
            return Ladder.of_rungs((*self.costs, 1.0), **rest)
        return Ladder(min=self.min, max=1.0, eta=self.eta, whole=False, **rest)

    def rung_labels(self, model: str) -> list[str]:
        """Return a description of each rung, the lowest first.

        Args:
            model: the sweep's own base model.
        """
        shares = [f"{100 * share:.3g} %" for share in self.ladder.rungs]
        if self.bases is None:
            return [f"{share}{_WHAT[self.of]}" for share in shares]
        names = model_labels([*self.bases, model])
        return [f"{share} ({name})" for share, name in zip(shares, names, strict=True)]


def read_ladder(value: object) -> object:
    """Check the value of `ladder` in a sweep file.

    Returns:
        A mapping of fields, or None for no ladder.

    Raises:
        InvalidInputError: with every problem.
    """
    if value is None or value is False:
        return None
    if value is True:
        return {}
    if isinstance(value, LadderSpec):
        return value
    if not isinstance(value, Mapping):
        fix = "Write ladder: true, or ladder: {min: 20%}."
        raise InvalidInputError(Problem("ladder", f"{value!r} is neither true nor a mapping", fix))
    fields: dict[str, Any] = {
        str(key): given if key in _OF_BASES else _share(given) for key, given in value.items()
    }
    problems = [problem for key, given in fields.items() for problem in _problems(key, given)]
    if problems:
        raise InvalidInputError(problems)
    return fields


def _share(given: object) -> object:
    """Return the share that a percentage stands for, and any other value unchanged."""
    share = parse_percentage(given) if isinstance(given, str) else None
    return given if share is None else share


def _problems(key: str, given: Any) -> list[Problem]:
    where = f"ladder.{key}"
    if key not in LadderSpec.model_fields:
        return [Problem(where, "unknown key", did_you_mean(key, list(LadderSpec.model_fields)))]
    match key:
        case "bases":
            return _base_problems(given)
        case "costs":
            parts = given if isinstance(given, list | tuple) else (given,)
            fits = all(_is_number(part) and 0 < part < 1 for part in parts)
            fix = "Remove it: it is filled in when a sweep starts."
        case "close":
            parts = given if isinstance(given, list | tuple) else ()
            fits = len(parts) == 2 and all(_is_number(part) and 0 <= part <= 1 for part in parts)
            return (
                [] if fits else [_wrong(where, given, "Write two parts of the share, such as [0.75, 0.25].")]
            )
        case "first_rung":
            return _family_problems(where, given)
        case "eta":
            fits, fix = _is_number(given) and 1 < given < float("inf"), "Write a number above 1, such as 2."
        case "min":
            fits = _is_number(given) and 0 < given < 1
            fix = "Write the share of each configuration's own training, such as 0.2 or 20%."
        case "share":
            fits, fix = _is_number(given) and 0 < given <= 1, "Write a share above 0, such as 0.5 or 50%."
        case "of":
            fits, fix = given in _KINDS, did_you_mean(str(given), _KINDS)
        case "judge":
            fits, fix = given in ("score", "loss"), "Write score or loss."
        case _:
            fits, fix = _is_number(given) and 0 <= given <= 1, "Write a share, such as 0.1 or 10%, or 0."
    return [] if fits else [_wrong(where, given, fix)]


def _base_problems(given: object) -> list[Problem]:
    if not isinstance(given, list | tuple) or not given:
        fix = "List smaller models, or shares of the layers, the smallest first: [25%, 50%]."
        return [_wrong("ladder.bases", given, fix)]
    problems = []
    for place, name in enumerate(given):
        where = f"ladder.bases[{place}]"
        if not isinstance(name, str) or not name:
            problems.append(_wrong(where, name, "Write a hub id, a folder, or a share of the layers: 25%."))
        elif (share := parse_percentage(name)) is not None and not 0 < share < 1:
            problems.append(_wrong(where, name, "Write a share of the layers below 100%, such as 25%."))
        elif name in given[:place]:
            problems.append(Problem(where, f"{name!r} is there already", "Name each base once."))
    return problems


def _family_problems(where: str, given: object) -> list[Problem]:
    if not isinstance(given, Mapping):
        return [_wrong(where, given, "Write families and rungs, such as {prompt: 1}.")]
    problems = []
    for family, rung in given.items():
        if family not in REGISTRY:
            fix = did_you_mean(str(family), sorted(REGISTRY))
            problems.append(Problem(f"{where}.{family}", "no such family", fix))
        elif not isinstance(rung, int) or isinstance(rung, bool) or rung < 0:
            problems.append(_wrong(f"{where}.{family}", rung, "Write a rung, counted from 0."))
    return problems


def _wrong(where: str, given: object, fix: str) -> Problem:
    return Problem(where, f"{given!r} does not fit", fix)


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)
