"""The sampler of a sweep file: what proposes configurations, and its options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, ValidationError

from autotune.sampler.named_samplers import CLASS, OPTUNA, SINGLE_OBJECTIVE, build_sampler
from autotune.sweep.validation_errors import problems_of
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.percentages import parse_percentage

_NAME = re.compile(r"[A-Za-z][\w-]*")


def _read_share(given: object) -> object:
    """Return the share that a number or a percentage stands for.

    The range is checked here, since a later message would show the share instead of the percentage.
    """
    share = parse_percentage(given) if isinstance(given, str) else given
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise ValueError(f"{given!r} is not a share; write a percentage such as 20%, or a number from 0 to 1")
    if not 0 <= share <= 1:
        raise ValueError(f"{given!r} is out of range; write a share from 0% to 100%")
    return share


_Count = Annotated[int, Field(ge=1, strict=True)]
_Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_read_share)]


class ParetoSpec(BaseModel):
    """Options of `ParetoSampler`, which knows the costs and the limits of a sweep and searches its conditional space.

    Args:
        name: `pareto`.
        strategy: How configurations are chosen after startup: `pareto` takes the largest expected improvement of the
            front, `carbs` searches around the front, `autopeft` proposes batches of four from sparse models.
        strategy_options: Options of the strategy, true or false: `laws` of `pareto`, on by default, adds candidates
            along the laws of hyperparameters, `copula` of `autopeft` models the ranks of scores, and `repeats` of
            `carbs` runs members of the front again.
        surrogate: Surrogate of scores that only training can measure; `auto` chooses.
        resample: Share of the proposals after startup that train a point near the front again on a new seed, such as
            `20%`; 0 for none. By default a fifth where the noise between seeds is worth it.
        n_startup: Number of trials before the surrogate proposes; by default it follows from the space.
        n_candidates: Random candidates per proposal; as many come from local search. The strategies `carbs` and
            `autopeft` have their own search and take neither this nor `resample`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["pareto"] = "pareto"
    strategy: str = "pareto"
    strategy_options: dict[str, StrictBool] | None = None
    surrogate: str = "auto"
    resample: _Share | None = None
    n_startup: _Count | None = None
    n_candidates: _Count | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `ParetoSampler` that are set."""
        return self.model_dump(exclude={"name"}, exclude_none=True)


class NamedSamplerSpec(BaseModel):
    """Any other Optuna sampler. Further keys are keyword arguments of its constructor.

    Args:
        name: `gp`, `tpe`, `nsga2`, `cmaes` or `random` of Optuna, a sampler that an installed package offers, or
            `module:Class`. The module is imported, which runs its code.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the constructor."""
        return dict(self.model_extra or {})


SamplerSpec = ParetoSpec | NamedSamplerSpec


def read_sampler(value: object) -> SamplerSpec:
    """Check the value of `sampler` in a sweep file, without importing the sampler.

    Args:
        value: a name, or a mapping of a name and options. Options that are null are left out.

    Returns:
        A `ParetoSpec` or a `NamedSamplerSpec`.

    Raises:
        InvalidInputError: with every problem.

    Example:
        >>> read_sampler("pareto").name
        'pareto'
        >>> read_sampler({"name": "tpe", "n_startup_trials": 5}).arguments
        {'n_startup_trials': 5}
    """
    if isinstance(value, ParetoSpec | NamedSamplerSpec):
        return value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        fix = "Write sampler: tpe, or sampler: {name: tpe, n_startup_trials: 20}."
        raise InvalidInputError(Problem("sampler", f"{value!r} is neither a name nor a mapping", fix))
    fields = {str(key): given for key, given in value.items() if given is not None}
    name = fields.setdefault("name", "pareto")
    if not isinstance(name, str) or not (_NAME.fullmatch(name) or CLASS.fullmatch(name)):
        fix = f"Write pareto, {', '.join(OPTUNA)}, or module:Class."
        raise InvalidInputError(Problem("sampler.name", f"{name!r} is not the name of a sampler", fix))
    if name != "pareto":
        return NamedSamplerSpec(**fields)
    try:
        return ParetoSpec.model_validate(fields)
    except ValidationError as error:
        known = {"sampler": list(ParetoSpec.model_fields)}
        raise InvalidInputError(problems_of(error, fields, known, {}, inside=("sampler",))) from None


def check_sampler(spec: SamplerSpec) -> None:
    """Raise InvalidInputError if a sampler cannot be imported or does not accept its arguments."""
    if isinstance(spec, ParetoSpec):
        _check_pareto(spec)
    else:
        _check_name(spec.name)
        build_sampler(spec.name, spec.arguments, seed=0)


def _check_pareto(spec: ParetoSpec) -> None:
    from autotune.sampler.pareto_sampler import ParetoSampler  # here, since reading a folder does not need it

    try:
        ParetoSampler(**spec.arguments)
    except ValueError as error:
        key, _, message = str(error).partition(": ")
        what, *fix = re.split(r"[.;] ", message, maxsplit=1)
        words = "".join(fix) or "correct or remove it"
        text = f"{words[:1].upper()}{words[1:].rstrip('.')}"
        raise InvalidInputError(
            Problem(f"sampler.{key}", what, text if text.endswith("?") else f"{text}.")
        ) from error


def _check_name(name: str) -> None:
    """Raise InvalidInputError if the name is that of a strategy."""
    from autotune.sampler.strategies import STRATEGIES  # here, since reading a folder does not need it

    if name in STRATEGIES:
        what, fix = f"{name!r} is a strategy of pareto", f"Write sampler: {{name: pareto, strategy: {name}}}."
        raise InvalidInputError(Problem("sampler.name", what, fix))


def sampler_problems(value: object) -> list[Problem]:
    """Return why the sampler of a sweep file cannot be built; none for a value that `read_sampler` refuses."""
    if value is None:
        return []
    try:
        spec = read_sampler(value)
    except InvalidInputError:
        return []
    try:
        check_sampler(spec)
    except InvalidInputError as error:
        return error.problems
    return []


def check_objectives(spec: SamplerSpec, objectives: int) -> None:
    """Raise InvalidInputError if a sampler cannot search with a number of objectives."""
    if objectives > 1 and spec.name in SINGLE_OBJECTIVE:
        what = f"{spec.name} searches with one objective, and there are {objectives}"
        raise InvalidInputError(
            Problem("sampler", what, "Use pareto, gp, tpe or nsga2, or keep one objective.")
        )
