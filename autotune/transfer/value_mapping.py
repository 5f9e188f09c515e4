"""Configurations of an earlier sweep in the space of another one, with what had to change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from autotune.formatting.units import value_text
from autotune.transfer.written_configuration import as_value
from autotune.transfer.written_forms import FormError, WrittenForms
from search_spaces.errors import InvalidInputError, Problem, first_line
from search_spaces.language.loader import load_space
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.structured import selected_targets
from search_spaces.parameters.types import Categorical, Configuration, Parameter, Value, adapted_layers
from search_spaces.space import SearchSpace
from search_spaces.transfer import transfer_configuration
from trials.tasks.model_spec import CHOSEN

NOTHING: Mapping[str, Value] = MappingProxyType({})
"""What a trial implies of another space where its configuration says everything."""


class NotCarriedError(InvalidInputError):
    """A configuration has no counterpart in the other space; the problem's text is the reason, for counting."""


@dataclass
class Changes:
    """What had to change on the way, over the configurations of one sweep.

    Args:
        clipped: configurations by parameter and the value that theirs was moved to.
        filled: configurations by parameter that took the default.
        dropped: configurations by parameter that the new space lacks.
        implied: configurations by parameter that the earlier space lacks and the value that its trials used.
    """

    clipped: Counter[tuple[str, Value]] = field(default_factory=Counter)
    filled: Counter[tuple[str, Value]] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    implied: Counter[tuple[str, Value]] = field(default_factory=Counter)

    def add(self, other: Changes) -> None:
        """Count the changes of another record, too."""
        self.clipped += other.clipped
        self.filled += other.filled
        self.dropped += other.dropped
        self.implied += other.implied

    def sentences(self, carried: int) -> list[str]:
        """Return the changes as parts of a sentence.

        Args:
            carried: number of configurations that were carried over.
        """
        found = [
            f"{name} of {n} clipped to {value_text(v)}"
            for (name, v), n in sorted(self.clipped.items(), key=str)
        ]
        if self.implied:
            found.insert(0, f"its trials used {_listed(self.implied)}")
        if self.filled:
            found.append(f"defaults fill in {_listed(self.filled)}")
        if self.dropped:
            found.append(f"without {', '.join(self.dropped)}, which this space lacks")
        return found


def _listed(values: Counter[tuple[str, Value]]) -> str:
    return ", ".join(f"{name} {value_text(value)}" for name, value in values)


class SpaceMapping:
    """Maps configurations of one space to another.

    Args:
        source: the space of the earlier sweep, as its sweep file has it.
        here: shape of its base model.
        spec: the space of the sweep that starts, as its sweep file has it.
        space: the same, bound to its model.
        there: shape of that model.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        here: ModelShape,
        spec: Mapping[str, Any],
        space: SearchSpace,
        there: ModelShape,
    ) -> None:
        self._source, self._here = source, here
        self._space, self._there = space, there
        self._forms = WrittenForms(load_space(spec).space.parameters, there)
        every = [each for each in space.parameters if isinstance(each, Categorical) and each.name == "family"]
        self._families = every[0].choices if every else ()

    def map(
        self, config: Configuration, changes: Changes, implied: Mapping[str, Value] = NOTHING
    ) -> Configuration:
        """Return the counterpart of a configuration.

        Args:
            config: of the earlier sweep.
            changes: receives what changed, if the configuration has a counterpart.
            implied: what its trial used of this space beside the configuration, such as the base model.

        Raises:
            NotCarriedError: it has none.
        """
        family = config.get("family")
        if self._families and family is not None and family not in self._families:
            raise _not_carried(f"use {family}, which this space lacks")
        if CHOSEN in config and CHOSEN in self._space and CHOSEN not in implied:
            raise _not_carried(f"trained {config[CHOSEN]}, which is none of the choices of {CHOSEN}")
        placed = self._placed({name: value for name, value in config.items() if name != CHOSEN})
        found, own = {**self._in_forms_of_space(placed), **implied}, Changes()
        own.implied.update((name, value) for name, value in implied.items() if name not in config)
        mapped: Configuration = {}
        for parameter in self._space.parameters:
            if not parameter.active(mapped):
                continue
            if parameter.name not in found:
                mapped[parameter.name] = parameter.default
                own.filled[parameter.name, parameter.default] += 1
                continue
            mapped[parameter.name], is_clipped = _fitted(parameter, found[parameter.name])
            if is_clipped:
                own.clipped[parameter.name, mapped[parameter.name]] += 1
        if problems := self._space.problems(mapped):
            raise _not_carried(f"are not possible here ({problems[0]})")
        own.dropped.update(name for name in found if name not in mapped and name not in implied)
        changes.add(own)
        return mapped

    def _placed(self, config: Configuration) -> Configuration:
        """Return the configuration on this sweep's model, still in the earlier space."""
        if self._here == self._there:
            return config
        try:
            return transfer_configuration(config, self._source, self._here, self._there)
        except InvalidInputError as error:
            what = first_line(ValueError(error.problems[0].what)).partition(": ")[2]
            raise _not_carried(f"are not possible on this model ({what})") from None

    def _in_forms_of_space(self, config: Configuration) -> dict[str, Any]:
        """Return the configuration with layers, targets and ranks in the forms of this space, where theirs differ."""
        found: dict[str, Any] = dict(config)
        for stem in self._forms.stems:
            own = {name for name in self._space.names if name == stem or name.startswith(f"{stem}.")}
            given = {name: v for name, v in config.items() if name == stem or name.startswith(f"{stem}.")}
            is_choice = stem.endswith(".targets") and own == {stem}  # names of the same matrices may differ
            if not given or (set(given) <= own and not is_choice):
                continue
            try:
                concrete = self._forms.concrete(stem, self._written(stem, given))
            except FormError:
                layers = len(self._written(stem, given)) if stem.endswith(".layers") else None  # type: ignore[arg-type]
                if layers is None:
                    raise _not_carried(f"have {stem} in a form that this space lacks") from None
                concrete = self._forms.concrete(stem, layers)
            found = {name: value for name, value in found.items() if name not in given} | concrete
        return found

    def _written(self, stem: str, given: Configuration) -> object:
        """Return layers as a list, targets as roles, and the rank as its level."""
        local = stem.rpartition(".")[2]
        if local == "layers":
            return list(adapted_layers(given, stem, self._there.depth, self._there.decoder_depth))
        if local == "targets":
            return selected_targets(given, stem, "all")
        return next(iter(given.values()))


def _not_carried(reason: str) -> NotCarriedError:
    return NotCarriedError(Problem("start_from", reason, ""))


def _fitted(parameter: Parameter, value: Value) -> tuple[Value, bool]:
    """Return the nearest value of a parameter, and whether it is another one.

    Raises:
        NotCarriedError: the choices have no order.
    """
    same = as_value(parameter, value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(parameter, Categorical):
        if parameter.problem(same) is None:
            return same, False
        numbers = [c for c in parameter.choices if isinstance(c, int | float) and not isinstance(c, bool)]
        if not is_number or len(numbers) < len(parameter.choices):
            raise _not_carried(f"have {parameter.name} {value_text(value)}, which this space lacks")
        return min(numbers, key=lambda choice: _distance(choice, value)), True  # type: ignore[arg-type]
    if not is_number:
        raise _not_carried(f"have {parameter.name} {value_text(value)}, which is no number")
    nearest = parameter.from_unit(parameter.to_unit(max(float(value), _lowest(parameter))))
    is_inside = parameter.problem(same) is None
    close = math.isclose(float(nearest), float(value), rel_tol=1e-9, abs_tol=1e-12)
    return (same, False) if is_inside and close else (nearest, not close)


def _distance(a: float, b: float) -> float:
    """Return the distance of two numbers, by their ratio where both are positive."""
    return abs(math.log(a / b)) if a > 0 and b > 0 else abs(a - b)


def _lowest(parameter: Parameter) -> float:
    """Return a value that a logarithm can read: the lower end of a logarithmic range."""
    return float(parameter.low) if getattr(parameter, "low", None) is not None else -math.inf  # type: ignore[attr-defined]


def without_repeats(
    configs: Sequence[Configuration],
) -> list[list[int]]:
    """Return the positions of equal configurations, one list for each distinct configuration in order."""
    groups: dict[frozenset[tuple[str, Value]], list[int]] = {}
    for position, config in enumerate(configs):
        groups.setdefault(frozenset(config.items()), []).append(position)
    return list(groups.values())
