"""The benchmark of transfer in simulation: its arms, its sources and its table, on a problem of one parameter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from autotune.sampler.sources import SourceTrials
from benchmarks import transfer_cases, transfer_simulation
from benchmarks.run_cache import Run, Runs
from benchmarks.search_problems import Problem
from benchmarks.transfer_cases import adapters_source, fcnet_sources
from benchmarks.transfer_simulation import main, search, tables, to_share
from search_spaces.parameters.types import Configuration, Float
from search_spaces.space import SearchSpace


def error(config: Configuration) -> float:
    return (float(config["size"]) - 0.8) ** 2


PROBLEM = Problem(
    name="toy",
    space=SearchSpace((Float(name="size", low=0.0, high=1.0),)),
    error=error,
    observed=lambda config, rng: error(config),
    cost=lambda config: float(config["size"]),
    reference=(1.0, 1.1),
    best=1.0,
)
SOURCE = SourceTrials(
    name="earlier",
    configs=[{"size": size} for size in (0.1, 0.3, 0.5, 0.7, 0.8, 0.95)],
    values=np.array([[0.49, 0.1], [0.25, 0.3], [0.09, 0.5], [0.01, 0.7], [0.0, 0.8], [0.02, 0.95]]),
)


@pytest.mark.parametrize(("arm", "first"), [("cold", None), ("fronts", 0.1), ("transfer", 0.1)])
def test_an_arm_takes_what_it_says_from_the_sources(arm: str, first: float | None):
    run = search(PROBLEM, arm, 0, 6, [SOURCE])
    sizes = [row[0] for row in run.configs]
    assert (sizes[:5] == [0.1, 0.3, 0.5, 0.7, 0.8]) == (first is not None)
    assert len(run.gaps) == 6
    assert run.arm == arm


def run_of(arm: str, seed: int, gaps: list[float], problem: str = "adapters") -> Run:
    return Run(arm=arm, problem=problem, seed=seed, gaps=gaps, seconds=[0.0] * len(gaps))


def test_the_table_divides_by_the_cold_start_and_counts_what_was_not_reached():
    long = [0.5] * 9
    runs = Runs(
        [
            *(run_of("cold", seed, [*long, 0.05]) for seed in range(3)),
            *(run_of("transfer", seed, [0.5] * 4 + [0.05] * 6) for seed in range(3)),
            *(run_of("reversed", seed, [*long, 0.5]) for seed in range(3)),
        ]
    )
    table = tables(runs)["adapters"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["cold"][:3] == ("3", "3 of 3", "10")
    assert rows["transfer"][:4] == ("3", "3 of 3", "5", "0.50 (0.50 to 0.50)")
    assert rows["reversed"][1] == "0 of 3"
    assert (rows["cold"][4], rows["transfer"][4], rows["reversed"][4]) == ("10", "5", "10")
    assert rows["reversed"][5].startswith("0.526")
    assert "fcnet" not in tables(runs)
    assert to_share(run_of("cold", 0, [0.5, 0.5])) == 2


def test_reversed_and_unrelated_sources_have_the_errors_of_the_recorded_trials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    recorded = tmp_path / "trials.csv"
    pd.DataFrame(
        {"config": [f'{{"size": {i / 80}}}' for i in range(80)], "accuracy": np.linspace(0.5, 0.9, 80)}
    ).to_csv(recorded, index=False)
    monkeypatch.setattr(transfer_cases, "front_surrogate", SimpleNamespace(TABLE=recorded))
    monkeypatch.setattr(transfer_cases, "adapters_target", lambda seed: PROBLEM)
    kinds = {kind: adapters_source(3, kind) for kind in ("related", "reversed", "unrelated")}
    errors = {kind: each.values[:, 0] for kind, each in kinds.items()}
    assert all(len(each.configs) == 60 for each in kinds.values())
    assert kinds["reversed"].configs == kinds["related"].configs
    assert np.corrcoef(errors["related"], errors["reversed"])[0, 1] == pytest.approx(-1.0)
    np.testing.assert_allclose(sorted(errors["unrelated"]), sorted(errors["related"]))
    assert abs(np.corrcoef(errors["related"], errors["unrelated"])[0, 1]) < 0.5


def test_the_sources_of_a_table_are_the_searches_of_the_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transfer_cases.fcnet, "problem", lambda name: PROBLEM)
    sources = fcnet_sources("one", 0, {name: [[0.25], [0.5]] for name in ("one", "two", "three")})
    assert [source.name for source in sources] == ["two", "three"]
    assert sources[0].configs == [{"size": 0.25}, {"size": 0.5}]
    np.testing.assert_allclose(
        sources[0].values, [[error({"size": 0.25}), 0.25], [error({"size": 0.5}), 0.5]]
    )


def test_a_run_that_the_cache_has_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(transfer_simulation, "target_problem", lambda name, seed: PROBLEM)
    monkeypatch.setattr(transfer_simulation, "adapters_source", lambda seed, kind: SOURCE)
    monkeypatch.setattr(transfer_simulation, "ADAPTERS", "toy")
    monkeypatch.setattr(transfer_simulation, "ARMS", {"toy": ("cold", "fronts")})
    cache = tmp_path / "runs.jsonl"
    for _ in range(2):
        transfer_simulation.run_all("toy", range(2), 3, cache)
    assert len(cache.read_text("utf-8").splitlines()) == 4
    with pytest.raises(SystemExit, match="give --cache"):
        main(["--targets", "toy"])
