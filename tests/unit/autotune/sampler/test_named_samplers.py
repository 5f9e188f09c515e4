"""Samplers by name: those of Optuna, of installed packages, and classes as `module:Class`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from autotune.sampler import named_samplers
from autotune.sampler.named_samplers import GROUP, OPTUNA, build_sampler, sampler_names
from search_spaces.errors import InvalidInputError

MODULE = """
import optuna


class TallSampler(optuna.samplers.RandomSampler):
    def __init__(self, height, width=1, *, seed=None):
        super().__init__(seed)
        self.height, self.width, self.given = height, width, seed


class OpenSampler(optuna.samplers.RandomSampler):
    def __init__(self, **options):
        super().__init__()
        self.options = options


class Other:
    pass


class FancySampler(optuna.samplers.RandomSampler):
    def __init__(self, **options):
        raise KeyError("depth")


class Depth(optuna.samplers.RandomSampler):
    pass


NoSampler = 3
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with samplers, one of them as an entry point."""
    (tmp_path / "tall_samplers.py").write_text(MODULE)
    info = tmp_path / "tall_samplers-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tall-samplers\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntall = tall_samplers:TallSampler\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("tall_samplers", None)


def problem(name: str, **arguments: Any) -> tuple[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        build_sampler(name, arguments, seed=0)
    (found,) = caught.value.problems
    return found.where, f"{found.what} | {found.fix}"


@pytest.mark.parametrize("name", OPTUNA)
def test_every_sampler_of_optuna_searches(name: str) -> None:
    """Two samplers of one seed propose the same, so the seed is passed on."""
    found = []
    for _ in range(2):
        study = optuna.create_study(sampler=build_sampler(name, {}, seed=3))
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=4)
        found.append([trial.params["x"] for trial in study.trials])
    assert found[0] == found[1]


def test_defaults_of_tpe_suit_conditional_spaces() -> None:
    sampler = build_sampler("tpe", {}, seed=0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert (sampler._multivariate, sampler._group) == (True, True)
    plain = build_sampler("tpe", {"multivariate": False}, seed=0)
    assert isinstance(plain, optuna.samplers.TPESampler)
    assert (plain._multivariate, plain._group) == (False, False)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_samplers, "find_spec", lambda name: None)
    assert problem("cmaes") == (
        "sampler.name",
        "cmaes needs the package cmaes | Run: pip install 'autotune-peft[cmaes]'",
    )


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["tall", "tall_samplers:TallSampler"])
def test_a_sampler_of_another_package(name: str) -> None:
    sampler: Any = build_sampler(name, {"height": 3}, seed=7)
    assert (sampler.height, sampler.width, sampler.given) == (3, 1, 7)
    assert problem(name) == ("sampler.height", f"missing | {name} requires it; add height.")
    assert problem(name, height=1, heigth=2)[1].endswith("Did you mean 'height'?")


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_imported_when_it_is_named() -> None:
    assert sampler_names() == [*OPTUNA, "tall"]
    build_sampler("random", {}, seed=0)
    assert "tall_samplers" not in sys.modules


@pytest.mark.usefixtures("installed")
def test_a_constructor_with_any_keywords() -> None:
    sampler: Any = build_sampler("tall_samplers:OpenSampler", {"depth": 3}, seed=7)
    assert sampler.options == {"depth": 3}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tall_samplers:TalSampler",
            "the module tall_samplers has no TalSampler | Did you mean 'TallSampler'?",
        ),
        ("tall_samplers:Dept", "Did you mean 'Depth'?"),
        ("tall_samplers:Q", "Use one of: Depth, FancySampler, OpenSampler, TallSampler."),
        ("string:Any", "the module string has no Any | It has no sampler; correct the module."),
        ("tall_samplers:Other", "'tall_samplers:Other' is not a sampler | Name a subclass of"),
        ("no_such_package:Sampler", "'no_such_package:Sampler' cannot be imported: No module named"),
        ("tal", "unknown sampler 'tal' | Did you mean 'tall'? Or write module:Class"),
        ("tall_samplers.py:TallSampler", "cannot be imported"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    where, text = problem(name)
    assert where == "sampler.name"
    assert message in text


@pytest.mark.usefixtures("installed")
def test_a_constructor_that_raises_any_exception_is_named() -> None:
    assert problem("tall_samplers:FancySampler") == (
        "sampler",
        "FancySampler cannot be built; it raised KeyError: 'depth' | Correct its arguments, or repair the class.",
    )


def test_a_message_ends_with_one_period() -> None:
    assert "greater than or equal to 2 | Correct" in problem("nsga2", population_size=1)[1]


@pytest.mark.parametrize("exception", ["ImportError", "AttributeError", "RuntimeError"])
def test_a_module_that_fails_is_named(
    exception: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torn_samplers.py").write_text(f"raise {exception}('torn')")
    monkeypatch.syspath_prepend(tmp_path)
    assert problem("torn_samplers:Any") == (
        "sampler.name",
        "'torn_samplers:Any' cannot be imported: torn | Repair the package.",
    )
