"""The section `sampler` of a sweep file: its forms, its problems, and writing and comparing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autotune.sampler.strategies import STRATEGIES
from autotune.sweep.comparison import search_differences
from autotune.sweep.sampler_spec import NamedSamplerSpec, ParetoSpec
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import as_mapping, dump_sweep, load_sweep, parse_sweep
from search_spaces.errors import InvalidInputError

MINIMAL: dict[str, Any] = {
    "name": "reviews",
    "model": "roberta-base",
    "task": {"dataset": "reviews", "text": "sentence", "label": "label"},
    "budget": {"trials": 8},
}


def sweep(sampler: object = None, **changes: object) -> Sweep:
    return parse_sweep({**MINIMAL, **({} if sampler is None else {"sampler": sampler}), **changes})


def problems(sampler: object, **changes: object) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        sweep(sampler, **changes)
    return {problem.where: f"{problem.what} | {problem.fix}" for problem in caught.value.problems}


@pytest.mark.parametrize(
    "given", [None, "pareto", {}, {"name": "pareto"}, {"name": "pareto", "n_startup": None}]
)
def test_the_default_has_several_forms(given: object) -> None:
    assert sweep(given).sampler == ParetoSpec()


@pytest.mark.parametrize("name", ["gp", "tpe", "nsga2", "random"])
def test_other_samplers_by_name(name: str) -> None:
    assert sweep(name).sampler == NamedSamplerSpec(name=name)


def test_options_are_kept() -> None:
    assert sweep({"n_startup": 4, "n_candidates": 64}).sampler == ParetoSpec(n_startup=4, n_candidates=64)
    assert sweep({"surrogate": "saas", "resample": "20%"}).sampler == ParetoSpec(
        surrogate="saas", resample=0.2
    )
    loaded = sweep({"name": "tpe", "n_startup_trials": 4, "multivariate": False}).sampler
    assert isinstance(loaded, NamedSamplerSpec)
    assert loaded.arguments == {"n_startup_trials": 4, "multivariate": False}


@pytest.mark.parametrize(
    ("given", "where", "message"),
    [
        (3, "sampler", "3 is neither a name nor a mapping"),
        ("tp", "sampler.name", "unknown sampler 'tp' | Did you mean 'tpe'?"),
        ("paretto", "sampler.name", "Did you mean 'pareto'?"),
        ({"name": 3}, "sampler.name", "3 is not the name of a sampler"),
        ("a b", "sampler.name", "'a b' is not the name of a sampler"),
        ({"n_startups": 3}, "sampler.n_startups", "unknown key | Did you mean 'n_startup'?"),
        ({"strategy": "paretto"}, "sampler.strategy", "'paretto' is unknown | Did you mean 'pareto'?"),
        (
            {"strategy_options": {"copula": True}},
            "sampler.strategy_options",
            "'copula' is unknown | This strategy has laws.",
        ),
        (
            {"strategy_options": {"copula": "yes"}},
            "sampler.strategy_options.copula",
            "'yes' is not true or false",
        ),
        ({"surrogate": "sas"}, "sampler.surrogate", "this strategy has no 'sas' | Did you mean 'saas'?"),
        (
            {"strategy": "carbs", "surrogate": "saas"},
            "sampler.surrogate",
            "has no 'saas' | Use one of: auto.",
        ),
        ({"resample": "200%"}, "sampler.resample", "'200%' is out of range | Write a share from 0% to 100%."),
        ({"resample": "-5%"}, "sampler.resample", "'-5%' is out of range"),
        ({"resample": 1.5}, "sampler.resample", "1.5 is out of range"),
        ({"resample": True}, "sampler.resample", "True is not a share | Write a percentage such as 20%"),
        ({"resample": "some"}, "sampler.resample", "'some' is not a share"),
        (
            {"strategy": "carbs", "resample": "20%"},
            "sampler.resample",
            "this strategy does not use it | Remove it, or use strategy pareto.",
        ),
        ({"strategy": "carbs", "n_candidates": 8}, "sampler.n_candidates", "does not use it"),
        ({"strategy": "autopeft", "resample": 0}, "sampler.resample", "does not use it"),
        ({"strategy": "autopeft", "n_candidates": 8}, "sampler.n_candidates", "does not use it"),
        ({"strategy_options": 3}, "sampler.strategy_options", "3 is not a mapping"),
        ({"n_startup": 0}, "sampler.n_startup", "0 is out of range | It must be at least 1."),
        ({"n_startup": "many"}, "sampler.n_startup", "'many' is not a whole number"),
        ({"seed": 3}, "sampler.seed", "unknown key"),
        ({"name": "tpe", "n_startup": 3}, "sampler.n_startup", "Did you mean 'n_startup_trials'?"),
        ({"name": "random", "x": 3}, "sampler.x", "unknown argument of random | Remove it."),
        ({"name": "tpe", "seed": 3}, "sampler.seed", "takes the sweep's seed"),
        (
            {"name": "nsga2", "population_size": 1},
            "sampler",
            "greater than or equal to 2 | Correct or remove them.",
        ),
        ("cmaes", "sampler", "cmaes searches with one objective, and there are 2"),
    ],
)
def test_problems(given: object, where: str, message: str) -> None:
    assert message in problems(given)[where]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_and_option_is_accepted(strategy: str) -> None:
    options = dict.fromkeys(STRATEGIES[strategy].options, True)
    given = {"name": "pareto", "strategy": strategy, "strategy_options": options}
    assert sweep(given).sampler == ParetoSpec(**given)


def test_a_strategy_is_no_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "other", STRATEGIES["pareto"])
    assert sweep({"strategy": "other"}).sampler == ParetoSpec(strategy="other")
    assert problems("other")["sampler.name"] == (
        "'other' is a strategy of pareto | Write sampler: {name: pareto, strategy: other}."
    )


def test_the_problems_of_the_sampler_join_the_others() -> None:
    found = problems({"name": "gp", "n_start": 3}, seed=-1, objectives=["acuracy"])
    assert found.keys() == {"sampler.n_start", "seed", "objectives[0]"}


def test_cmaes_searches_with_one_objective() -> None:
    assert sweep("cmaes", objectives=["accuracy"]).sampler.name == "cmaes"


@pytest.mark.parametrize(
    "given",
    ["pareto", {"n_startup": 3}, "tpe", {"name": "nsga2", "population_size": 8, "mutation_prob": 0.5}],
)
def test_a_written_sampler_is_read_again(given: object, tmp_path: Path) -> None:
    loaded = sweep(given)
    dump_sweep(loaded, tmp_path / "sweep.yaml")
    assert load_sweep(tmp_path / "sweep.yaml") == loaded
    assert "null" not in (tmp_path / "sweep.yaml").read_text()


def test_a_finished_sweep_is_read_without_its_sampler() -> None:
    mapping = {**as_mapping(sweep()), "sampler": {"name": "gone.package:GoneSampler", "depth": 3}}
    assert parse_sweep(mapping, check_files=False).sampler.name == "gone.package:GoneSampler"
    assert parse_sweep({**mapping, "sampler": "gone"}, check_files=False).sampler.name == "gone"
    with pytest.raises(InvalidInputError, match="cannot be imported"):
        parse_sweep(mapping)


@pytest.mark.parametrize(
    ("a", "b", "paths"),
    [
        ("pareto", {"name": "pareto"}, []),
        ("pareto", {"strategy": "carbs", "n_startup": 4}, ["sampler.strategy", "sampler.n_startup"]),
        ("pareto", {"name": "tpe", "n_startup_trials": 4}, ["sampler"]),
        ("tpe", {"name": "tpe", "n_startup_trials": 4}, ["sampler.n_startup_trials"]),
    ],
)
def test_differences(a: object, b: object, paths: list[str]) -> None:
    first, second = (parse_sweep({**MINIMAL, "sampler": given}, check_files=False) for given in (a, b))
    assert search_differences(first, second) == paths
    assert search_differences(second, first) == paths
