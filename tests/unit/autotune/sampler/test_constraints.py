"""Constraints in sampling: how they become limits, how rare regions are found, and what an impossible one says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from autotune.objectives import Objective
from autotune.prepare.hard_limits import HardLimits, limits_of
from autotune.prepare.prepared_sweep import prepare
from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.feasible_sampling import draw_feasible, sample_feasible, total_excess
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import load_sweep
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.errors import InvalidInputError
from search_spaces.language.constraints import Constraint, read_constraints
from search_spaces.language.loader import load_space
from search_spaces.model.parts import Matrix
from search_spaces.parameters.centered import Centered
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace
from tests.support.configuration_keys import config_key
from tests.support.shapes import BERT
from tests.support.sweeps import SPACE, fake_run, small_sweep

COSTS = CostModel(BERT, "sequence-classification", Workload(20.0, 420.0, 100))
LOADED = load_space({"families": ["lora", "ia3", "head"]}, shape=BERT)


def constraints(*lines: str, space: SearchSpace = LOADED.space) -> tuple[Constraint, ...]:
    problems: list[Any] = []
    found = read_constraints(list(lines), {p.name: p for p in space.parameters}, problems)
    assert not problems
    return found


def limits(*lines: str, objectives: Sequence[Objective] = ()) -> HardLimits:
    return HardLimits(constraints(*lines), objectives, COSTS)


# --- what a limit measures


def test_shares_are_of_what_training_the_base_has() -> None:
    config = LOADED.space.default(family="lora") | {"epochs": 2}
    found = limits(
        "trainable_params <= 1%", "stored_bytes <= 1%", "train_flops <= 50%", "inference_flops <= 101%",
        "lora.rank <= 4", "lora.rank <= 4 if lora.dora = true",
    )  # fmt: skip
    costs = COSTS(config)
    base = COSTS({"family": "ia3"}).inference_flops
    np.testing.assert_allclose(
        found.values([config])[0],
        [
            costs.trainable_params / BERT.base_parameters,
            costs.stored_bytes / (4 * BERT.base_parameters),
            costs.train_flops / COSTS.full_fine_tuning_flops({"epochs": 2}),
            costs.inference_flops / base,
            8,
            np.nan,
        ],
    )
    assert found([config])[0].tolist()[-1] == -1
    broken = found.violations(config)
    assert broken is not None
    assert "lora.rank <= 4 (lora.rank is 8)" in broken
    assert "dora" not in broken
    assert limits("lora.rank <= 8").violations(config) is None


def test_limits_of_known_objectives_count_as_constraints() -> None:
    small = Objective(name="trainable_params", direction="minimize", max="2%", min=100)
    quality = Objective(name="accuracy", direction="maximize", min=0.9)
    assert list(map(str, limits_of(small))) == ["trainable_params <= 2%", "trainable_params >= 100"]
    found = limits("lora.rank >= 2", objectives=[quality, small])
    assert found.places == ("space.constraints[0]", "objectives[1]", "objectives[1]")


# --- drawing inside


def rare(config: Mapping[str, Value]) -> float:
    """The product of eight uniform numbers."""
    return float(np.prod([float(config[f"x{i}"]) for i in range(8)]))


RARE = SearchSpace(tuple(Float(name=f"x{i}", low=0.0, high=1.0) for i in range(8)))


def within(limit: float) -> Any:
    return lambda configs: np.array([[(limit - rare(config)) / limit] for config in configs])


def test_a_region_of_one_in_a_million_is_sampled_at_once() -> None:
    # The product of eight uniform numbers exceeds 0.6 with p = 2.5e-7 (an Erlang tail: -log 0.6 = 0.511).
    rng = np.random.default_rng(0)
    started = time.process_time()
    configs = sample_feasible(RARE, within(0.6), 64, rng)
    seconds = time.process_time() - started
    assert min(map(rare, configs)) >= 0.6
    assert len({config_key(config) for config in configs}) == 64
    assert seconds < 20  # about half a second; rejection would take more than an hour
    # Spread over the region, not all at the place where they came in.
    assert np.std([float(config["x0"]) for config in configs]) > 0.01


def test_where_there_is_room_the_draws_are_rejection() -> None:
    rng = np.random.default_rng(0)
    configs = sample_feasible(RARE, lambda c: np.array([[0.5 - x["x0"]] for x in c]), 400, rng)
    values = np.array([float(config["x0"]) for config in configs])
    assert values.min() >= 0.5
    # Uniform on [0.5, 1]: five standard errors of the mean, 5 · 0.144 / 20.
    assert abs(values.mean() - 0.75) < 0.036


def test_conditions_between_families_are_crossed() -> None:
    # A LoRA has at least 128 parameters here, (IA)³ 64; the head none at all.
    found = limits("trainable_params <= 100", "trainable_params >= 1")
    configs = sample_feasible(LOADED.space, found, 10, np.random.default_rng(0))
    assert {config["family"] for config in configs} == {"ia3"}
    assert all(1 <= COSTS(config).trainable_params <= 100 for config in configs)


def test_two_constraints_that_pull_apart() -> None:
    found = limits("trainable_params >= 5000", "train_flops <= 70%", "epochs = 4", "lora.rank <= 7")
    configs = sample_feasible(LOADED.space, found, 20, np.random.default_rng(0))
    for config in configs:
        assert COSTS(config).trainable_params >= 5000
        assert COSTS(config).train_flops <= 0.7 * COSTS.full_fine_tuning_flops({"epochs": 4})
        assert config["epochs"] == 4
        assert config["lora.rank"] <= 7  # type: ignore[operator]


def test_the_impossible_says_how_near_it_came() -> None:
    found = limits("inference_flops <= 1000")
    with pytest.raises(ValueError, match=r"the nearest violates one by \d"):
        sample_feasible(LOADED.space, found, 1, np.random.default_rng(0))
    draw = draw_feasible(EncodedSpace(LOADED.space), found, 4, np.random.default_rng(0))
    assert draw.rows.shape == (0, len(LOADED.space))
    (problem,) = found.infeasibility(EncodedSpace(LOADED.space), draw.nearest, np.random.default_rng(0))
    smallest = COSTS({"family": "head"}).inference_flops
    assert problem.where == "space.constraints[0]"
    assert f"the smallest found is {smallest:,.4g}" in problem.what
    apart = limits("lora.rank >= 2", "trainable_params >= 4000", "trainable_params <= 3000")
    draw = draw_feasible(EncodedSpace(LOADED.space), apart, 4, np.random.default_rng(0))
    assert not len(draw.rows)
    rng = np.random.default_rng(0)
    whats = [problem.what for problem in apart.infeasibility(EncodedSpace(LOADED.space), draw.nearest, rng)]
    assert any("together with the other limits" in what for what in whats)
    much = limits("trainable_params >= 1000%")
    draw = draw_feasible(EncodedSpace(LOADED.space), much, 4, np.random.default_rng(0))
    assert "the largest found is" in much.infeasibility(EncodedSpace(LOADED.space), draw.nearest, rng)[0].what


def test_total_excess_is_zero_inside_alone() -> None:
    found = total_excess(np.array([[-1.0, 0.0], [-5.0, 0.1], [np.nan, -1.0], [np.inf, -1.0]]))
    assert found[0] == 0
    assert (found[1:] > 0).all()
    assert np.isfinite(found).all()


# --- the sampler


def study_of(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    return optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)


@pytest.mark.parametrize("count", [7, pytest.param(11, marks=pytest.mark.slow)])
def test_no_proposal_breaks_a_constraint_on_what_is_no_objective(count: int) -> None:
    found = limits("train_flops <= 40%", "trainable_params >= 500")
    study = study_of(
        ParetoSampler(space=LOADED.space, constraints=found, n_startup=5, n_candidates=64, seed=0)
    )
    seen = set()
    for _ in range(count):
        trial = study.ask()
        config = LOADED.space.suggest(trial)
        assert found.violations(config) is None
        seen.add(config_key(config))
        study.tell(trial, [float(config["weight_decay"]), float(config["warmup"])])
    assert len(seen) == count


def test_a_rare_region_is_searched_and_the_front_improves() -> None:
    """Quality wants x0 small, the constraint wants all of them large."""
    sampler = ParetoSampler(space=RARE, constraints=within(0.5), n_startup=6, n_candidates=64, seed=0)
    study = optuna.create_study(sampler=sampler)
    for _ in range(18):
        trial = study.ask()
        config = RARE.suggest(trial)
        assert rare(config) >= 0.5 - 1e-9
        study.tell(trial, float(config["x0"]))
    start = min(trial.value or 1.0 for trial in study.trials[:6])
    assert study.best_value < start


def test_a_constraint_nothing_can_keep_is_named() -> None:
    study = study_of(ParetoSampler(space=LOADED.space, constraints=limits("inference_flops <= 9"), seed=0))
    with pytest.raises(ValueError, match="found no configuration that satisfies constraint 0"):
        LOADED.space.suggest(study.ask())


# --- centered parameters


def test_rows_of_centred_parameters_stand_for_what_they_become() -> None:
    space = SearchSpace(
        (
            Centered(name="rate", center=1e-3, scale=0.5, kind="log"),
            Centered(name="share", center=0.1, scale=0.5, kind="logit"),
            Centered(name="few", center=8, scale=4, whole=True, low=1),
            Centered(name="many", center=1000, scale=1.0, kind="log", whole=True),
            Categorical(name="parent", choices=("a", "b")),
            Centered(name="child", center=0.0, scale=2.0, when={"parent": ("b",)}),
            Int(name="rank", low=1, high=4),
        )
    )
    columns, rng = EncodedSpace(space), np.random.default_rng(0)
    rows = np.concatenate([columns.random(100, rng), columns.sobol(3, 50, 1)])
    rows = np.concatenate([rows, columns.neighbors(rows, 300, 0.5, rng)])
    configs = columns.configurations(rows)
    for config in configs:
        space.validate(config)
    np.testing.assert_allclose(space.encode(configs), rows, atol=1e-9)
    assert len(set(columns.keys(rows))) == len({config_key(config) for config in configs})
    assert ((rows < 0) | (rows > 1)).any()


def test_a_search_follows_an_optimum_three_scales_from_the_centre() -> None:
    """First draws come within a scale of it, at 1e-4 and 30, once in a thousand."""
    space = SearchSpace(
        (
            Centered(name="rate", center=1e-2, scale=2 / 3, kind="log"),
            Centered(name="size", center=0.0, scale=10.0),
        )
    )

    def off(config: Configuration) -> float:
        return ((np.log10(config["rate"]) + 4) / (2 / 3)) ** 2 + ((config["size"] - 30) / 10) ** 2  # type: ignore[operator, arg-type]

    study = optuna.create_study(sampler=ParetoSampler(space=space, seed=0))
    for _ in range(30):
        trial = study.ask()
        study.tell(trial, float(off(space.suggest(trial))))
    assert off(study.trials[0].params) == pytest.approx(18)
    assert study.best_value < 0.25


def test_other_samplers_take_centred_parameters() -> None:
    space = SearchSpace(
        (
            Centered(name="rate", center=1e-2, scale=1.0, kind="log"),
            Centered(name="size", center=8, scale=0.3, kind="log", whole=True),
        )
    )
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    configs = []
    for _ in range(30):
        trial = study.ask()
        configs.append(space.suggest(trial))
        space.validate(configs[-1])
        study.tell(trial, float(configs[-1]["rate"]))
    assert all(isinstance(config["size"], int) and config["size"] >= 1 for config in configs)
    assert len({config["size"] for config in configs}) > 5
    first, last = ([np.log10(config["rate"]) for config in part] for part in (configs[:10], configs[-10:]))
    assert np.mean(last) < np.mean(first) - 0.5, "the sampler learns that low rates are better"


def test_fused_matrices_are_one_switch_for_the_sampler() -> None:
    fused = replace(
        BERT, matrices=(Matrix("qkv", "c_attn", 32, 96, True), Matrix("o", "c_proj", 32, 32, True))
    )
    loaded = load_space(
        {
            "families": ["lora"],
            "parameters": {"lora.targets": {"subset": True}, "lora.layers": {"range": True}},
        },
        shape=fused,
    )
    columns = EncodedSpace(loaded.space)
    rows = columns.random(100, np.random.default_rng(0))
    assert all(not loaded.space.problems(config) for config in columns.configurations(rows))


# --- a whole sweep


def constrained_sweep(model: Path, data: Path, *lines: str, **changes: Any) -> Sweep:
    return small_sweep(
        model,
        data,
        space={**SPACE, "constraints": list(lines)},
        budget={"trials": 2},
        confirm={"seeds": 0},
        **changes,
    )


def test_another_sampler_is_led_inside(
    tiny_model: Callable[[str], Path], reviews: Path, tmp_path: Path
) -> None:
    lines = ("trainable_params >= 128", "trainable_params <= 140", "warmup = 0.1", "inference_flops <= 100%")
    sweep = constrained_sweep(tiny_model("bert"), reviews, *lines, sampler="random")
    results = fake_run(sweep, tmp_path / "out")
    done = results.trials[results.trials["status"] == "complete"]
    assert len(done) == 2
    assert done["trainable_params"].between(128, 140).all()
    assert {config["warmup"] for config in done["config"]} == {0.1}
    assert (results.trials["status"] == "pruned").any()
    assert load_sweep(tmp_path / "out" / "sweep.yaml").space["constraints"] == list(lines)


def test_an_impossible_sweep_says_so_before_it_begins(
    tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    line = "inference_flops <= 1%"
    sweep = constrained_sweep(
        tiny_model("bert"), reviews, line, objectives=["accuracy", {"name": "train_flops", "max": 5.0}]
    )
    with pytest.raises(InvalidInputError) as error:
        prepare(sweep)
    found = {problem.where: problem.what for problem in error.value.problems}
    assert f"keeps {line}: the smallest found is 100%" in found["space.constraints[0]"]
    assert "keeps train_flops <= 5: the smallest found is" in found["objectives[1]"]


def test_the_box_of_the_objectives_is_that_of_the_space_inside(
    tiny_model: Callable[[str], Path], reviews: Path
) -> None:
    sweep = constrained_sweep(tiny_model("bert"), reviews, "trainable_params <= 140", "trainable_params >= 1")
    prepared = prepare(sweep)
    size = prepared.sweep.objectives[1]
    assert size.reference is not None
    assert size.reference <= 140
    assert size.ideal is not None
    assert size.ideal >= 1
