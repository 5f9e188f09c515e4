"""The configurations of a small finite space, and which of them no trial has had yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from autotune.sampler.candidates import enumerate_configurations
from autotune.sampler.feasible_sampling import Excess
from search_spaces.parameters.types import Configuration, Value
from search_spaces.space import SearchSpace

_MOST = 1024
"""Larger spaces are not enumerated: no search tries all of their configurations."""


class SmallSpace:
    """All configurations of a space.

    Args:
        configs: the configurations.

    Example:
        >>> space = SmallSpace([{"rank": 1}, {"rank": 2}])
        >>> space.untried([{"rank": 2}])
        [{'rank': 1}]
    """

    def __init__(self, configs: Iterable[Configuration]) -> None:
        self._configs = {_key(config): config for config in configs}

    def __len__(self) -> int:
        return len(self._configs)

    def untried(self, tried: Iterable[Mapping[str, Value]]) -> list[Configuration]:
        """Return the configurations that are not among those of some trials."""
        keys = {_key(config) for config in tried}
        return [config for key, config in self._configs.items() if key not in keys]


def small_space(space: SearchSpace, limits: Excess | None = None) -> SmallSpace | None:
    """Return the configurations of a space within its limits; None if they are infinite, or too many to enumerate.

    Args:
        space: bound to a model.
        limits: the violation of each limit by each configuration, at most 0 where it is kept.
    """
    everything = enumerate_configurations(space)
    if everything is None:
        return None
    configs: Sequence[Configuration] = list(islice(everything, _MOST + 1))
    if len(configs) > _MOST:
        return None
    if limits is not None and configs:
        excess = limits(configs)
        configs = [config for config, row in zip(configs, excess, strict=True) if (row <= 0).all()]
    return SmallSpace(configs)


def _key(config: Mapping[str, Value]) -> tuple[tuple[str, object], ...]:
    """Return a key that is equal for equal configurations; 10 digits absorb the rounding of steps."""
    return tuple(
        sorted(
            (name, f"{value:.10g}" if isinstance(value, float) else value) for name, value in config.items()
        )
    )
