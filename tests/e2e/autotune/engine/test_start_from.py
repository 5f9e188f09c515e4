"""A sweep starts from earlier ones: their fronts first, kept in its own folder, and refused where they do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.cli.status import overview_json
from autotune.engine.samplers import pareto_sampler
from autotune.engine.start import prepare_start
from autotune.engine.sweep_run import SweepInterruptedError
from autotune.results.sweep_tables import read_tables
from autotune.sweep.schema import Sweep
from autotune.transfer.stored_sources import SOURCES_FILE
from search_spaces.errors import InvalidInputError
from tests.support.fake_executor import FakeExecutor
from tests.support.sweeps import SPACE, Watcher, fake_run, small_sweep, stop_at

pytestmark = pytest.mark.usefixtures("light_sweeps")


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[..., Sweep]:
    def make(base: Path | None = None, **changes: Any) -> Sweep:
        return small_sweep(base or tiny_model("bert"), reviews, **{"confirm": {"seeds": 0}, **changes})

    return make


@pytest.fixture
def source(sweep: Callable[..., Sweep], tmp_path: Path) -> Path:
    """The folder of a finished sweep of eight trials, one of which failed, with two confirmed points."""
    folder = tmp_path / "first"
    executor = FakeExecutor(workers=1, fails=lambda spec: spec.config["family"] == "head")
    fake_run(sweep(budget={"trials": 8}, confirm={"seeds": 2, "points": 2}), folder, None, executor)
    return folder


def notes_of(sweep: Sweep, folder: Path) -> str:
    return "\n".join(prepare_start(sweep, folder).notes)


def test_the_front_is_trained_first_and_the_sampler_gets_the_trials(
    sweep: Any, source: Path, tmp_path: Path
) -> None:
    starting = sweep(start_from=str(source), budget={"trials": 12})
    prepared, start = (found := prepare_start(starting, tmp_path / "out")).prepared, found.search
    before = read_tables(source)
    complete = before.trials[before.trials["status"] == "complete"]
    [carried] = start.sources
    informed = pareto_sampler(prepared, sources=[carried.for_sampler])
    assert (informed._settings.n_startup, pareto_sampler(prepared)._settings.n_startup) == (4, 6)
    assert carried.trials == tuple(complete["trial"])
    assert f"first: {len(complete)} of {len(complete)} trials carried over" in carried.note
    row = carried.trials.index(int(before.front["trial"].iloc[0]))
    runs = before.confirmations.query(f"trial == {carried.trials[row]}")["metric.accuracy"]
    searched = complete.set_index("trial").loc[carried.trials[row], "accuracy"]
    assert min(*runs, searched) <= carried.values[row, 0] <= max(*runs, searched)
    results = fake_run(starting, tmp_path / "out")
    first = overview_json(results)["tried_first"]
    assert (
        len(first) == 3
    )  # a quarter of the trials; the rest of the source follows where its front is smaller
    for origin, trial in first.items():
        assert results.config(trial) == before.config(int(origin.removeprefix("first: trial ")))
    assert overview_json(results)["budget"]["trials"]["used"] == 12


def test_a_resumed_sweep_needs_no_source(sweep: Any, source: Path, tmp_path: Path) -> None:
    starting = sweep(start_from=str(source), budget={"trials": 8})
    with pytest.raises(SweepInterruptedError):
        fake_run(starting, tmp_path / "out", Watcher(stop_at(1)))
    shutil.rmtree(source)
    results = fake_run(starting, tmp_path / "out")
    assert (results.trials["status"] == "complete").sum() == 8
    origins = results.trials.loc[results.trials["status"] == "complete", "origin"].dropna()
    assert origins.is_unique
    kept = tmp_path / "out" / SOURCES_FILE
    kept.write_text(kept.read_text().replace("carried over", "carried  over"))
    with pytest.raises(InvalidInputError, match=r"start_from\.json' changed since the sweep began"):
        fake_run(starting, tmp_path / "out")
    kept.unlink()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        fake_run(starting, tmp_path / "out")


def test_other_models_spaces_and_objectives(
    sweep: Any, source: Path, deep_model: Path, tmp_path: Path
) -> None:
    other = sweep(
        deep_model,
        start_from=[str(source)],
        space={**SPACE, "families": ["lora"]},
        objectives=["matthews", "train_flops"],
    )
    start = prepare_start(other, tmp_path / "out")
    [carried] = start.search.sources
    assert "use norm, which this space lacks" in carried.note
    assert all(config["family"] == "lora" for config in carried.configs)
    assert np.isfinite(carried.values).all()
    before = read_tables(source)
    for trial, config, values in zip(carried.trials, carried.configs, carried.values, strict=True):
        assert config["lora.layers"] == 2 * before.config(trial)["lora.layers"]  # type: ignore[operator]
        assert values[1] == start.prepared.costs(config).train_flops


def test_the_number_of_examples_is_that_of_the_earlier_trials(
    sweep: Any, source: Path, tmp_path: Path
) -> None:
    space = {"families": ["lora", "norm", "head"], "parameters": {"train_samples": [20, 48, 60]}}
    start = prepare_start(sweep(start_from=str(source), space=space, fidelity={}), tmp_path / "out")
    [carried] = start.search.sources
    assert {config["train_samples"] for config in carried.configs} == {48}
    assert "its trials used train_samples 48" in carried.note
    assert {first.config["train_samples"] for first in start.search.first} == {48}


def test_sources_that_cannot_be_used_are_refused(sweep: Any, source: Path, tmp_path: Path) -> None:
    def refused(**changes: Any) -> str:
        with pytest.raises(InvalidInputError) as error:
            prepare_start(sweep(**changes), tmp_path / "out")
        return str(error.value)

    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.mkdir()
    shutil.copytree(source, broken)
    (broken / "study.db").write_bytes(b"no database" * 100)
    text = refused(start_from=[str(tmp_path / "none"), str(empty), str(broken), str(tmp_path / "out")])
    assert "start_from[0]: there is no folder" in text
    assert "start_from[1]: " in text
    assert "holds no sweep.yaml" in text
    assert "start_from[2]: the results in" in text
    (tmp_path / "out").mkdir()
    assert "start_from[0]: is the folder of this sweep itself" in refused(start_from=[str(tmp_path / "out")])
    text = refused(start_from=[str(source)], space={"families": ["ia3"]})
    assert "can be carried over: " in text
    assert "use lora, which this space lacks" in text


def test_an_existing_sweep_keeps_what_it_started_from(sweep: Any, source: Path, tmp_path: Path) -> None:
    fake_run(sweep(), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="already holds another sweep: start_from differ"):
        fake_run(sweep(start_from=str(source)), tmp_path / "out")


def test_a_sampler_that_cannot_learn_from_sources_says_so(sweep: Any, source: Path, tmp_path: Path) -> None:
    for sampler in ("tpe", {"strategy": "carbs"}):
        text = notes_of(sweep(start_from=str(source), sampler=sampler), tmp_path / "out")
        assert "does not learn from the other trials of earlier sweeps" in text
    assert "does not learn" not in notes_of(sweep(start_from=str(source)), tmp_path / "out")
