"""Samplers by name: those of Optuna, those of installed packages, and any class as `module:Class`.

A package offers a sampler through an entry point of the group `autotune.samplers`, such as `botorch-turbo =
"turbo.sampler:TurboSampler"`. Nothing is imported before a sampler of that name is built. Importing a module runs its
code, so a name selects installed code only and never a file.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

from search_spaces.errors import InvalidInputError, Problem, did_you_mean, first_line, install_hint

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

GROUP = "autotune.samplers"
"""The entry point group of samplers."""
CLASS = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""The form of `module:Class`."""
_PASSED = ("self", "seed")
"""Parameters of a constructor that a sweep file cannot set: the seed is the sweep's own."""


@dataclass(frozen=True)
class _OptunaSampler:
    """A sampler of Optuna.

    Args:
        class_name: its name in `optuna.samplers`.
        defaults: constructor arguments where autotune's default is not Optuna's.
        requires: a package that Optuna imports for it and does not install.
    """

    class_name: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    requires: str | None = None


OPTUNA: dict[str, _OptunaSampler] = {
    "gp": _OptunaSampler("GPSampler"),
    "tpe": _OptunaSampler("TPESampler", {"multivariate": True, "group": True}),
    "nsga2": _OptunaSampler("NSGAIISampler"),
    "cmaes": _OptunaSampler("CmaEsSampler", requires="cmaes"),
    "random": _OptunaSampler("RandomSampler"),
}
"""The samplers of Optuna by their names in a sweep file."""

SINGLE_OBJECTIVE = frozenset({"cmaes"})
"""Samplers that cannot search with several objectives."""


def sampler_names() -> list[str]:
    """Return the names of Optuna's samplers and of those that installed packages offer."""
    return [*OPTUNA, *(entry.name for entry in entry_points(group=GROUP))]


def build_sampler(name: str, arguments: Mapping[str, Any], seed: int) -> BaseSampler:
    """Build a sampler.

    Args:
        name: a name of `sampler_names`, or `module:Class`.
        arguments: keyword arguments of its constructor.
        seed: passed on where the constructor has a parameter `seed`.

    Raises:
        InvalidInputError: there is no such sampler, it cannot be imported, or its constructor raises an exception.

    Example:
        >>> type(build_sampler("tpe", {"n_startup_trials": 5}, seed=0)).__name__
        'TPESampler'
    """
    kind = _sampler_class(name)
    parameters = inspect.signature(kind).parameters
    if problems := _argument_problems(name, parameters, arguments):
        raise InvalidInputError(problems)
    defaults = dict(OPTUNA[name].defaults) if name in OPTUNA else {}
    if arguments.get("multivariate") is False:
        defaults.pop("group", None)  # Optuna allows `group` with `multivariate` only
    passed = {**defaults, **arguments, **({"seed": seed} if "seed" in parameters else {})}
    try:
        return kind(**passed)
    except (TypeError, ValueError) as error:
        what = f"{kind.__name__} refuses its arguments: {first_line(error).rstrip('.')}"
        raise InvalidInputError(Problem("sampler", what, "Correct or remove them.")) from error
    except Exception as error:  # the constructor may be that of any package
        reason = f"{type(error).__name__}: {first_line(error)}" if str(error) else type(error).__name__
        what = f"{kind.__name__} cannot be built; it raised {reason.rstrip('.')}"
        fix = "Correct its arguments, or repair the class."
        raise InvalidInputError(Problem("sampler", what, fix)) from error


def _argument_problems(
    name: str, parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]
) -> list[Problem]:
    """Return the arguments that a constructor does not have, and those that it requires and does not get."""
    named = [
        each
        for each in parameters.values()
        if each.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    ]
    accepted = [each.name for each in named if each.name not in _PASSED]
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    problems = []
    for key in arguments:
        if key == "seed":
            fix = "Remove it, and write the seed of the sweep: seed: 0."
            problems.append(Problem("sampler.seed", "the sampler takes the sweep's seed", fix))
        elif key not in accepted and not takes_any:
            fix = did_you_mean(key, accepted) if accepted else "Remove it."
            problems.append(Problem(f"sampler.{key}", f"unknown argument of {name}", fix))
    problems += [
        Problem(f"sampler.{each.name}", "missing", f"{name} requires it; add {each.name}.")
        for each in named
        if each.default is each.empty and each.name not in (*_PASSED, *arguments)
    ]
    return problems


def _sampler_class(name: str) -> type[BaseSampler]:
    from optuna import samplers

    if name in OPTUNA:
        requires = OPTUNA[name].requires
        if requires is not None and find_spec(requires) is None:
            what = f"{name} needs the package {requires}"
            raise InvalidInputError(Problem("sampler.name", what, f"Run: {install_hint(requires)}"))
        found = getattr(samplers, OPTUNA[name].class_name)
    else:
        found = _load(name)
    if not (isinstance(found, type) and issubclass(found, samplers.BaseSampler)):
        fix = "Name a subclass of optuna.samplers.BaseSampler."
        raise InvalidInputError(Problem("sampler.name", f"{name!r} is not a sampler", fix))
    return found


def _load(name: str) -> object:
    """Return what an entry point or `module:Class` refers to."""
    entry = next(iter(entry_points(group=GROUP, name=name)), None)
    if entry is None and not CLASS.fullmatch(name):
        fix = did_you_mean(name, ["pareto", *sampler_names()])
        fix += " Or write module:Class for a class of an installed package."
        raise InvalidInputError(Problem("sampler.name", f"unknown sampler {name!r}", fix))
    entry = entry or EntryPoint(name, name, GROUP)
    try:
        module = import_module(entry.module)
    except ModuleNotFoundError as error:
        what, fix = (
            f"{entry.value!r} cannot be imported: {error}",
            "Install the package, or correct the name.",
        )
        raise InvalidInputError(Problem("sampler.name", what, fix)) from error
    except Exception as error:  # the module runs its own code
        what = f"{entry.value!r} cannot be imported: {first_line(error).rstrip('.')}"
        raise InvalidInputError(Problem("sampler.name", what, "Repair the package.")) from error
    try:
        return entry.load()
    except AttributeError:
        what, known = f"the module {entry.module} has no {entry.attr}", _samplers_of(module)
        fix = did_you_mean(entry.attr, known) if known else "It has no sampler; correct the module."
        raise InvalidInputError(Problem("sampler.name", what, fix)) from None


def _samplers_of(module: ModuleType) -> list[str]:
    """Return the names of the sampler classes of a module."""
    from optuna.samplers import BaseSampler

    return [
        name
        for name in dir(module)
        if isinstance(each := getattr(module, name, None), type)
        and issubclass(each, BaseSampler)
        and each is not BaseSampler
    ]
