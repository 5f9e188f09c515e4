"""The user's priors on good regions in a sweep file, as `priors`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from autotune.sweep.sampler_spec import ParetoSpec, SamplerSpec
from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.parameters.amounts import TrainSamples
from search_spaces.parameters.types import Categorical, Parameter, Structured, Value
from search_spaces.percentages import parse_number
from trials.tasks.model_spec import CHOSEN, model_labels

if TYPE_CHECKING:
    from autotune.sampler.prior import Marginal, Prior
    from search_spaces.space import SearchSpace

PREFERRED = 4.0
"""Weight of a preferred choice, against 1 for each of the others."""
_NEAR = ("center", "spread")


class Priors(BaseModel):
    """Priors on good values, which guide the search early and fade with its trials.

    Further keys are parameters of the space, such as `lora.learning_rate: {center: 3e-4, spread: 3}`, with one
    standard deviation as the spread (a factor on a logarithmic scale); for choices relative weights, such as
    `family: {lora: 3, ia3: 1}`, where others have the weight 1, or the preferred choice, such as `schedule: cosine`,
    which has the weight 4.

    Args:
        strength: Influence of the priors; that on proposal n after startup is strength/n.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    strength: float = Field(default=3.0, gt=0, allow_inf_nan=False)

    @property
    def marginals(self) -> dict[str, dict[str, Any]]:
        """The prior on each parameter: `center` and `spread`, or weights by choice."""
        return dict(self.model_extra or {})


def read_priors(value: object) -> Priors | None:
    """Check the value of `priors` in a sweep file, without the space.

    Returns:
        The priors with short forms spelled out, or None for none.

    Raises:
        InvalidInputError: with every problem.

    Example:
        >>> read_priors({"schedule": "cosine"}).marginals
        {'schedule': {'cosine': 4.0}}
    """
    if value is None or isinstance(value, Priors):
        return value
    if not isinstance(value, Mapping):
        fix = "Write priors: {lora.learning_rate: {center: 3e-4, spread: 3}}."
        raise InvalidInputError(Problem("priors", f"{value!r} is not a mapping of parameters to priors", fix))
    fields: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, given in value.items():
        if name == "strength":
            fields[name] = _number(given)
            if not fields[name] or fields[name] < 0:
                what, fix = f"{given!r} is not a number above 0", "Write strength: 3, or remove it."
                problems.append(Problem("priors.strength", what, fix))
        else:
            fields[str(name)] = _spelled_out(given)
            problems += _shape_problems(str(name), fields[str(name)])
    if not fields.keys() - {"strength"}:
        fix = "Add a parameter, such as lora.learning_rate: {center: 3e-4, spread: 3}, or remove priors."
        problems.append(Problem("priors", "names no parameter", fix))
    if problems:
        raise InvalidInputError(problems)
    return Priors(**fields)


def check_priors(priors: Priors, space: SearchSpace, sampler: SamplerSpec) -> None:
    """Check priors against the space before it is bound to a model.

    Args:
        priors: the priors.
        space: the space; parameters that depend on the model or the data are checked by `bound_prior`.
        sampler: the sampler, which must take priors.

    Raises:
        InvalidInputError: with every problem.
    """
    problems = _sampler_problems(sampler)
    for name, given in priors.marginals.items():
        if name in space:
            problems += _early_problems(name, given, space[name])
        elif not _is_part(name, space):
            what = f"{name!r} is not a parameter of the space"
            problems.append(Problem(f"priors.{name}", what, did_you_mean(name, space.names)))
    if problems:
        raise InvalidInputError(problems)


def with_model_choice(space: SearchSpace, choices: Sequence[str] | None) -> SearchSpace:
    """Return the space with the parameter `model` of a sweep that chooses among base models."""
    if not choices:
        return space
    labels = tuple(model_labels(choices))
    chosen = Categorical(name=CHOSEN, choices=labels, ordered=True, default=labels[-1])
    return replace(space, parameters=(chosen, *space.parameters))


def bound_prior(priors: Priors, space: SearchSpace) -> tuple[Prior, list[str]]:
    """Return the prior on a space that is bound to a model, and notes on parts of it that the model changes.

    Raises:
        InvalidInputError: a prior does not fit a parameter that only the model determines.
    """
    from autotune.sampler.prior import Prior

    marginals: dict[str, Marginal] = {}
    notes: list[str] = []
    problems: list[Problem] = []
    for name, given in priors.marginals.items():
        if name not in space:
            notes.append(f"priors.{name} has no effect: the space of this model does not have the parameter")
            continue
        parameter = space[name]
        if parameter.distribution().single():
            notes.append(f"priors.{name} has no effect: the parameter has one value")
            continue
        fitted, note = _fitted(given, parameter)
        if note:
            notes.append(f"priors.{name}: {note}")
        if not fitted:
            continue
        marginal, found = _marginal(name, fitted, parameter)
        problems += found
        if marginal is not None:
            marginals[name] = marginal
    if problems:
        raise InvalidInputError(problems)
    return Prior(marginals, priors.strength), notes


def _spelled_out(given: object) -> object:
    """Return a marginal with numbers as numbers and choices as text, and a preferred value as weights."""
    if not isinstance(given, Mapping):
        return given if given is None or isinstance(given, list) else {_key(given): PREFERRED}
    if set(given) & set(_NEAR):
        return {str(key): _number(each) if _number(each) is not None else each for key, each in given.items()}
    return {
        _key(choice): _number(weight) if _number(weight) is not None else weight
        for choice, weight in given.items()
    }


def _shape_problems(name: str, marginal: object) -> Iterator[Problem]:
    """Yield why a prior is neither a center with its spread nor weights."""
    where = f"priors.{name}"
    if not isinstance(marginal, dict) or not marginal:
        fix = f"Write {name}: {{center: 3, spread: 1}}, or weights of choices, or remove it."
        yield Problem(where, "gives neither a center nor weights", fix)
    elif set(marginal) & set(_NEAR):
        for key in marginal.keys() - set(_NEAR):
            yield Problem(f"{where}.{key}", "is not known", did_you_mean(key, _NEAR))
        for key in _NEAR:
            if key not in marginal:
                yield Problem(f"{where}.{key}", "is missing", f"Add {key}: NUMBER.")
        if not isinstance(marginal.get("spread", 1.0), float):
            yield Problem(f"{where}.spread", f"{marginal['spread']!r} is not a number", "Write spread: 3.")
    else:
        for choice, weight in marginal.items():
            if not isinstance(weight, float) or not 0 < weight < math.inf:
                what, fix = f"the weight {weight!r} is not a finite number above 0", f"Write {choice}: 3."
                yield Problem(f"{where}.{choice}", what, fix)


def _early_problems(name: str, given: Mapping[str, Any], parameter: Parameter) -> list[Problem]:
    """Return why a prior does not fit a parameter, as far as that is known before the model and the data are."""
    if isinstance(parameter, TrainSamples):
        center = given.get("center")
        if isinstance(center, float) and center > 1.0:
            return []
        what = "takes a center in examples, since the training split is not read yet"
        return [Problem(f"priors.{name}", what, f"Write {name}: {{center: 2000, spread: 2}}.")]
    return [] if isinstance(parameter, Structured) else _marginal(name, given, parameter)[1]


def _marginal(
    name: str, given: Mapping[str, Any], parameter: Parameter
) -> tuple[Marginal | None, list[Problem]]:
    """Return the marginal of a parameter, or None with the problems."""
    from autotune.sampler.prior import Near, Weights, marginal_problem

    where = f"priors.{name}"
    if set(given) & set(_NEAR):
        near = Near(center=_value(given["center"], parameter), spread=given["spread"])
        problem = marginal_problem(parameter, near)
        return (None, [_problem(where, problem, parameter)]) if problem else (near, [])
    if not isinstance(parameter, Categorical):
        written = next(iter(given))
        fix = f"Write {name}: {{center: {written}, spread: {_example_spread(parameter)}}}."
        return None, [Problem(where, "is a numeric parameter, which takes a center and a spread", fix)]
    choices = {_key(choice): choice for choice in parameter.choices}
    unknown = [choice for choice in given if _value(choice, parameter) not in parameter.choices]
    if unknown:
        return None, [
            Problem(f"{where}.{choice}", f"{choice!r} is not a choice", did_you_mean(choice, choices))
            for choice in unknown
        ]
    return Weights({_value(choice, parameter): weight for choice, weight in given.items()}), []


def _problem(where: str, what: str, parameter: Parameter) -> Problem:
    if parameter.nominal:
        choices = ", ".join(_key(choice) for choice in parameter.choices)  # type: ignore[attr-defined]
        return Problem(where, what, f"Write the weight of each choice you prefer, among {choices}.")
    example = f"{{center: {parameter.default}, spread: {_example_spread(parameter)}}}"
    return Problem(where, what, f"Write a center inside the range, such as {example}.")


def _example_spread(parameter: Parameter) -> str:
    is_log = bool(getattr(parameter, "log", False)) or getattr(parameter, "kind", "linear") != "linear"
    return "3" if is_log else "1"


def _fitted(given: Mapping[str, Any], parameter: Parameter) -> tuple[Mapping[str, Any], str | None]:
    """Return a marginal within what the model offers, empty if nothing is left, and a note on what was changed."""
    if set(given) & set(_NEAR):
        center = _value(given["center"], parameter)
        low, high = getattr(parameter, "low", -math.inf), getattr(parameter, "high", math.inf)
        if isinstance(center, int | float) and not low <= center <= high:
            nearest = min(max(center, low), high)
            return {
                **given,
                "center": nearest,
            }, f"the center {center:g} is outside {low:g} to {high:g} on this model, so {nearest:g} is used"
        return given, None
    if not isinstance(parameter, Categorical):
        return given, None
    kept = {choice: w for choice, w in given.items() if _value(choice, parameter) in parameter.choices}
    lost = ", ".join(choice for choice in given if choice not in kept)
    return kept, f"this model does not offer {lost}" if lost else None


def _is_part(name: str, space: SearchSpace) -> bool:
    """Return whether a name may be one that a structured parameter expands to."""
    return any(isinstance(p, Structured) and name.startswith(f"{p.name}.") for p in space.parameters)


def _sampler_problems(sampler: SamplerSpec) -> list[Problem]:
    if not isinstance(sampler, ParetoSpec):
        what = f"sampler {sampler.name} does not take priors"
        return [Problem("priors", what, "Write sampler: pareto, or remove priors.")]
    from autotune.sampler.strategies import STRATEGIES  # here, since a sweep without priors does not need it

    entry = STRATEGIES.get(sampler.strategy)
    if entry is None or "prior" in entry.settings:
        return []
    users = " or ".join(name for name, each in STRATEGIES.items() if "prior" in each.settings)
    what = f"the strategy {sampler.strategy} does not take priors"
    return [Problem("priors", what, f"Write sampler: {{name: pareto, strategy: {users}}}, or remove priors.")]


def _value(written: object, parameter: Parameter) -> Any:
    """Return the choice, or the number, that a text stands for, and any other value unchanged."""
    if isinstance(parameter, Categorical):
        by_key: dict[str, Value] = {_key(choice): choice for choice in parameter.choices}
        return by_key.get(_key(written), written)
    number = _number(written)
    return written if number is None else number


def _key(choice: object) -> str:
    """Return a choice as text; equal numbers have equal texts."""
    if isinstance(choice, bool):
        return str(choice).lower()
    number = _number(choice)
    return str(choice) if number is None else f"{number:g}"


def _number(given: object) -> float | None:
    """Return the finite number that a value stands for, or None."""
    if isinstance(given, bool):
        return None
    if isinstance(given, int | float):
        return float(given) if math.isfinite(given) else None
    return parse_number(given) if isinstance(given, str) else None


def sampler_prior(priors: Priors | None, space: SearchSpace) -> Prior | None:
    """Return the prior of a sweep on the space that is bound to its model, or None without priors."""
    return None if priors is None else bound_prior(priors, space)[0]


def prior_notes(priors: Priors | None, space: SearchSpace) -> list[str]:
    """Return notes on priors that have no effect on the sweep's model, or another one than written."""
    return [] if priors is None else bound_prior(priors, space)[1]
