"""The strategies of `ParetoSampler`: how a configuration is chosen from the trials of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any, Protocol

from autotune.sampler.proposal import Proposer
from autotune.sampler.sources import SourceTrials
from search_spaces.errors import did_you_mean
from search_spaces.parameters.types import Configuration
from search_spaces.space import SearchSpace
from surrogates.bayesian_extra import require_bayesian_extra


@dataclass(frozen=True, kw_only=True)
class StrategySettings:
    """Settings that every strategy receives.

    Args:
        n_startup: number of startup trials, which the sampler proposes itself.
        n_candidates: number of random candidates per proposal.
        seed: the sampler's seed.
        surrogate: name of the surrogate, or `auto`.
        options: options of the strategy, by name.
        resample: share of the proposals after startup that run a finished configuration again; None to decide by the
            noise.
        is_noisy: whether a configuration is known to score differently in another trial.
        sources: trials of earlier studies.
    """

    n_startup: int
    n_candidates: int
    seed: int
    surrogate: str
    options: Mapping[str, Any] = field(default_factory=dict)
    resample: float | None = None
    is_noisy: bool = False
    sources: Sequence[SourceTrials] = ()

    @property
    def fewest_startup(self) -> int:
        """Number of startup trials after which the strategy may propose: half of them if there are sources.

        A strategy with sources returns the next startup trial itself until one of them agrees with the trials.
        """
        return (self.n_startup + 1) // 2 if self.sources else self.n_startup


class Strategy(Protocol):
    """Chooses the configurations after startup. A strategy keeps no state between proposals."""

    def __init__(self, settings: StrategySettings) -> None: ...

    def propose(self, proposer: Proposer) -> Configuration:
        """Return the configuration of the next trial."""


@dataclass(frozen=True)
class StrategyEntry:
    """One strategy of the registry.

    Args:
        path: its class, as `module:Class`. The modules import torch, so only that of the chosen one is imported.
        default_startup: returns the default number of startup trials; its argument is the space, or None for one
            that is inferred from the trials.
        options: names of the options that the strategy has; each is True or False.
        surrogates: names of the surrogates that the strategy can use.
        settings: names of those settings that only some strategies use and this one does.
    """

    path: str
    default_startup: Callable[[SearchSpace | None], int]
    options: frozenset[str] = frozenset()
    surrogates: tuple[str, ...] = ("auto",)
    settings: frozenset[str] = frozenset()

    def check_settings(self, given: Mapping[str, object]) -> None:
        """Raise ValueError if the strategy would ignore a setting; one that is None is not set."""
        for name, value in given.items():
            if value is not None and name not in self.settings:
                users = " or ".join(other for other, entry in STRATEGIES.items() if name in entry.settings)
                raise ValueError(f"{name}: this strategy does not use it; remove it, or use strategy {users}")

    def check_surrogate(self, name: str) -> None:
        """Check a surrogate before the startup trials rather than after them.

        Raises:
            ValueError: The strategy does not have it.
            InvalidInputError: It needs a package that is not installed.
        """
        if name not in self.surrogates:
            hint = did_you_mean(name, self.surrogates)
            raise ValueError(f"surrogate: this strategy has no {name!r}. {hint}")
        if name == "saas-bayesian":
            require_bayesian_extra()

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError if the strategy does not have an option, or if its value is not True or False."""
        for name, value in options.items():
            if name not in self.options:
                has = ", ".join(sorted(self.options)) or "no options"
                raise ValueError(f"strategy_options: {name!r} is unknown; this strategy has {has}")
            if not isinstance(value, bool):
                raise ValueError(f"strategy_options: {name} is {value!r}; give True or False")

    def build(self, settings: StrategySettings) -> Strategy:
        """Return the strategy."""
        found: type[Strategy] = resolve_name(self.path)
        return found(settings)


def default_startup(space: SearchSpace | None) -> int:
    """Return the default number of startup trials.

    With a space it is one per family plus two, but at least ten, of which the first are the cheapest. On the FCNet
    tables ten instead of seven made the mean gap to the best hypervolume 20 % larger after ten trials, and 12 % and
    18 % smaller after 30 and 60 (48 searches); on the problems of `benchmarks.sampler_toy` 8 % and 20 % smaller after
    30 and 40 (24 searches).
    """
    return 10 if space is None else max(10, len(space.defaults()) + 2)


def default_configurations(space: SearchSpace | None) -> int:
    """Return the number of default configurations, at least one; a local search starts from them alone."""
    return 1 if space is None else len(space.defaults())


def autopeft_startup(space: SearchSpace | None) -> int:
    """Return the default number of startup trials of `autopeft`: two per parameter, but 20 to 100.

    AutoPEFT (Zhou et al. 2024) draws 100 of 200 trials at random. A sampler does not know the number of trials, and a
    sparse model needs some trials per column.
    """
    return 20 if space is None else min(100, max(20, 2 * len(space)))


STRATEGIES = {
    "pareto": StrategyEntry(
        "autotune.sampler.pareto.strategy:ParetoStrategy",
        default_startup,
        frozenset({"laws"}),
        surrogates=("auto", "matern", "saas", "saas-bayesian"),
        settings=frozenset({"n_candidates", "resample", "sources", "prior"}),
    ),
    "carbs": StrategyEntry(
        "autotune.sampler.carbs.strategy:CarbsStrategy", default_configurations, frozenset({"repeats"})
    ),
    "autopeft": StrategyEntry(
        "autotune.sampler.autopeft.strategy:AutopeftStrategy",
        autopeft_startup,
        frozenset({"copula"}),
        ("auto", "saas", "saas-bayesian"),
    ),
}


def strategy_entry(name: str) -> StrategyEntry:
    """Return a strategy by its name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy: {name!r} is unknown. {did_you_mean(name, STRATEGIES)}")
    return STRATEGIES[name]
