"""`autotune.optimize` from outside: budgets, failures, resuming, threads, and what the study holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

import autotune
from autotune import Budget, Ladder, Objective
from autotune.blackbox.objectives import read_metrics, read_objectives

SPACE = {"x": FloatDistribution(1e-5, 1e-1, log=True), "width": IntDistribution(1, 64, log=True)}
LADDER = Ladder(1, 9)


def loss(config: dict[str, Any], fidelity: float) -> float:
    width = config.get("width", 64)
    return float((np.log10(config["x"]) + 3) ** 2 / 4 + 0.5 / width**0.5 + 1 / fidelity)


class BlackBox:
    """Notes every call; may fail, refuse to keep a state, or be interrupted after some calls."""

    def __init__(self, keeps: bool = True, interrupt_after: int | None = None) -> None:
        self.calls: list[tuple[float, float, Any]] = []
        self.keeps, self.interrupt_after = keeps, interrupt_after

    def __call__(self, config, fidelity, state):
        if len(self.calls) == self.interrupt_after:
            raise KeyboardInterrupt
        self.calls.append((config["x"], fidelity, state))
        return {"loss": loss(config, fidelity)}, ({"done": fidelity} if self.keeps else None)


def random_sampler(seed: int = 0) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def test_the_optimum_is_found_with_less_than_full_training():
    box = BlackBox()
    result = autotune.optimize(box, SPACE, ["loss"], LADDER, 300, sampler=random_sampler())
    assert result.used <= 300
    assert result.used == sum(f - (s["done"] if s else 0) for _, f, s in box.calls)
    assert len(result.trials) > 300 / 9 * 2
    assert result.best.values[0] < 0.3
    assert result.best.fidelity == 9
    assert [s and s["done"] for _, f, s in box.calls if f == 9] == [3] * sum(f == 9 for _, f, _ in box.calls)
    assert result.trust.rungs[0].count == sum(t.exploratory and t.status == "complete" for t in result.trials)
    assert "300 of training used" in str(result)


def test_the_front_of_two_objectives_and_what_the_study_holds():
    params = Objective("params", known=lambda config: 10.0 * config["width"], log=True)
    result = autotune.optimize(
        BlackBox(), SPACE, ["loss", params], LADDER, Budget(trials=24), sampler=random_sampler()
    )
    assert len(result.trials) == 24
    assert len(result.front) >= 2
    values = [trial.values for trial in result.front]
    assert all(v[1] == 10 * t.config["width"] for v, t in zip(values, result.front, strict=True))
    assert sorted(v[0] for v in values) == [v[0] for v in sorted(values, key=lambda v: -v[1])]
    complete = [t for t in result.study.trials if t.state == TrialState.COMPLETE]
    assert {t.number for t in complete} == {t.number for t in result.trials if t.status == "complete"}
    records = complete[0].user_attrs["rungs"]
    assert [r["fidelity"] for r in records] == [1, 3, 9]
    assert [r["cost"] for r in records] == [1, 2, 6]
    assert records[-1]["values"] == complete[0].values
    with pytest.raises(ValueError, match="2 objectives; use `front`"):
        _ = result.best


NO_PROMOTIONS = Ladder(1, 9, share=0.01, random_share=0.0, close=(0.0, 0.0))
"""One of a hundred would, and there are fewer."""


@pytest.mark.parametrize(("ladder", "tops"), [(LADDER, {1, 3, 9}), (NO_PROMOTIONS, {1})])
def test_the_default_sampler_learns_from_the_lower_rungs(ladder: Ladder, tops: set[int]):
    """Where every trial stays on the lowest rung, that alone can have brought proposals near the optimum at 1e-3."""
    result = autotune.optimize(BlackBox(), SPACE, ["loss"], ladder, Budget(trials=22), seed=1)
    assert {trial.fidelity for trial in result.trials} == tops
    start, later = result.trials[:10], result.trials[14:]
    # What is drawn before anything is known seldom reaches the top, of which one in nine is to.
    assert sum(trial.status == "complete" for trial in start) <= 2
    distance = [np.median([abs(np.log10(t.config["x"]) + 3) for t in part]) for part in (start, later)]
    assert distance[1] < 0.5 * distance[0]


@pytest.mark.parametrize(
    ("sampler", "kind"),
    [
        (None, autotune.ParetoSampler),
        ("pareto", autotune.ParetoSampler),
        ({"name": "pareto", "n_startup": 3}, autotune.ParetoSampler),
        ({"strategy": "carbs", "n_startup": 3}, autotune.ParetoSampler),
        ({"name": "tpe", "n_startup_trials": 3}, optuna.samplers.TPESampler),
        ("optuna.samplers:QMCSampler", optuna.samplers.QMCSampler),
    ],
)
def test_a_sampler_by_name(sampler, kind: type):
    params = Objective("params", known=lambda config: 10.0 * config["width"], log=True)
    arguments = (BlackBox(), SPACE, ["loss", params], None, Budget(trials=6))
    first, second = (autotune.optimize(*arguments, sampler=sampler, seed=5) for _ in range(2))
    assert isinstance(first.study.sampler, kind)
    assert [trial.config for trial in first.trials] == [trial.config for trial in second.trials]


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ("paretto", r"sampler\.name: unknown sampler 'paretto'\. Did you mean 'pareto'"),
        ({"n_start": 3}, r"sampler\.n_start: unknown key\. Did you mean 'n_startup'"),
        ({"name": "tpe", "n_startup": 3}, r"sampler\.n_startup: .* Did you mean 'n_startup_trials'"),
        ("cmaes", r"cmaes searches with one objective, and there are 2"),
    ],
)
def test_a_wrong_sampler_by_name(sampler, message: str):
    with pytest.raises(autotune.InvalidInputError, match=message):
        autotune.optimize(BlackBox(), SPACE, ["loss", "other"], None, 6, sampler=sampler)


def test_a_metric_to_maximize_and_curves():
    def evaluate(config, fidelity, state):
        points = {f: -loss(config, f) for f in range((state or 0) + 1, int(fidelity) + 1)}
        return {"score": points}, int(fidelity)

    objective = Objective("score", direction="maximize")
    result = autotune.optimize(evaluate, SPACE, [objective], LADDER, 100, sampler=random_sampler())
    finals = [t.values[0] for t in result.trials if t.status == "complete"]
    assert result.best.values[0] == max(finals)
    curve = result.study.trials[result.best.number].user_attrs["rungs"][-1]["curves"][0]
    assert [f for f, _ in curve] == [4, 5, 6, 7, 8, 9]
    shown = result.study.trials[result.best.number].intermediate_values
    assert list(shown) == list(range(1, 10))
    assert shown[9] == result.best.values[0]


def test_without_a_state_every_rung_costs_its_full_fidelity():
    box = BlackBox(keeps=False)
    result = autotune.optimize(box, SPACE, ["loss"], LADDER, 60, sampler=random_sampler())
    assert result.used == sum(f for _, f, _ in box.calls) <= 60


def test_exceptions_and_values_that_are_not_finite_fail_the_trial():
    def evaluate(config, fidelity, state):
        if config["x"] > 1e-2:
            raise MemoryError("too large")
        if config["x"] < 1e-4:
            return {"loss": float("nan")}, None
        return {"loss": loss(config, fidelity)}, fidelity

    result = autotune.optimize(evaluate, SPACE, ["loss"], LADDER, 300, sampler=random_sampler())
    failed = [t for t in result.trials if t.status == "failed"]
    assert {t.config["x"] > 1e-2 for t in failed} == {True, False}
    assert {t.error for t in failed if t.config["x"] > 1e-2} == {"MemoryError: too large"}
    assert all(t.error.startswith("not finite") for t in failed if t.config["x"] < 1e-4)
    assert all(result.study.trials[t.number].user_attrs["status"] == "failed" for t in failed)
    assert 1e-4 <= result.best.config["x"] <= 1e-2


def test_a_black_box_that_always_fails_ends_the_search():
    def evaluate(config, fidelity, state):
        raise KeyError("lr")

    with pytest.raises(RuntimeError, match=r"first 5 trials all failed:\n.*KeyError"):
        autotune.optimize(evaluate, SPACE, ["loss"], LADDER, 300, sampler=random_sampler())


@pytest.mark.parametrize("after", [4, 7])
def test_a_resumed_search_equals_an_uninterrupted_one(tmp_path: Path, after: int):
    ladder = Ladder(1, 9, random_share=0.25)
    whole, first, second = BlackBox(), BlackBox(interrupt_after=after), BlackBox()
    space = {"x": SPACE["x"]}
    expected = autotune.optimize(whole, space, ["loss"], ladder, 24, sampler=Stateless())
    with pytest.raises(KeyboardInterrupt):
        autotune.optimize(
            first, space, ["loss"], ladder, 24, sampler=Stateless(), storage=tmp_path / "search.db"
        )
    result = autotune.optimize(
        second, space, ["loss"], ladder, 24, sampler=Stateless(), storage=tmp_path / "search.db"
    )
    assert first.calls + second.calls == whole.calls
    assert result.used == expected.used
    assert [t.rungs for t in result.trials] == [t.rungs for t in expected.trials]
    more = autotune.optimize(
        BlackBox(), space, ["loss"], ladder, 34, sampler=Stateless(), storage=tmp_path / "search.db"
    )
    assert expected.used < more.used <= 34


class Stateless(optuna.samplers.BaseSampler):
    """Random draws that follow from the trial's number."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return float(10 ** np.random.default_rng([trial.number, len(param_name)]).uniform(-5, -1))


def test_another_search_in_the_same_file_is_refused(tmp_path: Path):
    def run(**changes):
        asked = {"ladder": LADDER, "objectives": ["loss"], "space": SPACE, **changes}
        return autotune.optimize(
            BlackBox(),
            asked["space"],
            asked["objectives"],
            asked["ladder"],
            4,
            sampler=random_sampler(),
            storage=tmp_path / "search.db",
        )

    run()
    with pytest.raises(ValueError, match="whose rungs differ"):
        run(ladder=Ladder(1, 27))
    with pytest.raises(ValueError, match="whose objectives differ"):
        run(objectives=[Objective("loss", direction="maximize")])
    with pytest.raises(ValueError, match=r"another space: width was .*high=64.* and is .*high=8"):
        run(space={**SPACE, "width": IntDistribution(1, 8, log=True)})
    run()


def test_a_file_of_an_earlier_version_says_nothing_of_the_ranges(tmp_path: Path):
    file = tmp_path / "search.db"
    autotune.optimize(BlackBox(), SPACE, ["loss"], LADDER, 4, sampler=random_sampler(), storage=file)
    study = optuna.load_study(study_name="ladder", storage=f"sqlite:///{file}")
    settings = {name: value for name, value in study.user_attrs["asked"].items() if name != "space"}
    study.set_user_attr("asked", settings)
    found = autotune.optimize(BlackBox(), SPACE, ["loss"], LADDER, 8, sampler=random_sampler(), storage=file)
    assert found.used > 4


def test_the_study_of_a_sweep_is_not_written_to(tmp_path: Path):
    file = tmp_path / "study.db"
    optuna.create_study(study_name="reviews", storage=f"sqlite:///{file}")
    with pytest.raises(
        ValueError, match=r"holds the study 'reviews', which autotune\.optimize did not write"
    ):
        autotune.optimize(BlackBox(), SPACE, ["loss"], LADDER, 4, storage=file)
    assert optuna.get_all_study_names(f"sqlite:///{file}") == ["reviews"]


def test_a_state_that_cannot_be_stored_is_refused(tmp_path: Path):
    def evaluate(config, fidelity, state):
        return {"loss": 1.0}, threading.Lock()

    with pytest.raises(ValueError, match="state: lock is not plain data"):
        autotune.optimize(
            evaluate, SPACE, ["loss"], LADDER, 20, sampler=random_sampler(), storage=tmp_path / "search.db"
        )


def test_workers_run_in_parallel_within_the_budget():
    barrier = threading.Barrier(3, timeout=20)
    lock, met = threading.Lock(), [0]

    def evaluate(config, fidelity, state):
        with lock:
            met[0] += 1
            first = met[0] <= 3
        if first:
            barrier.wait()  # passes only if three evaluations are running at once
        return {"loss": loss(config, fidelity)}, fidelity

    result = autotune.optimize(evaluate, SPACE, ["loss"], LADDER, 100, sampler=random_sampler(), workers=3)
    assert 90 < result.used <= 100
    assert result.best.values[0] < 1


def test_rungs_that_rank_badly_promote_more():
    def evaluate(config, fidelity, state):
        value = config["x"] if fidelity == 9 else -config["x"]
        return {"loss": value}, fidelity

    ladder = Ladder(1, 9, random_share=0.2)
    result = autotune.optimize(evaluate, SPACE, ["loss"], ladder, 500, sampler=random_sampler())
    assert result.trust.verdict == "not trusted"
    assert result.trust.rungs[1].correlation < -0.9
    assert all(rung.share == 1.0 for rung in result.trust.rungs)
    assert not any(trial.status == "stopped" for trial in result.trials)


def test_invalid_arguments_are_refused():
    for objectives, message in (
        ([], "there are 0"),
        ("loss", "give a list such as"),
        (["a", "a"], "has a name twice"),
        ([Objective("a", known=len)], "all known"),
        (["a", "b", "c", "d", "e"], "there are 5"),
    ):
        with pytest.raises(ValueError, match=message):
            read_objectives(objectives)
    with pytest.raises(ValueError, match="give minimize or maximize"):
        Objective("a", direction="up")
    with pytest.raises(ValueError, match="no limit"):
        Budget()
    with pytest.raises(ValueError, match="trials is 0"):
        Budget(trials=0)
    with pytest.raises(ValueError, match="lack the objective 'loss'"):
        autotune.optimize(lambda c, f, s: ({"los": 1.0}, None), SPACE, ["loss"], LADDER, 9)
    for returned in (1.0, {"loss": 1.0}, (1.0, None)):
        with pytest.raises(ValueError, match="return two things, a dictionary of metrics and the state"):
            autotune.optimize(lambda c, f, s, r=returned: r, SPACE, ["loss"], LADDER, 9)
    with pytest.raises(ValueError, match=r"x: \(0, 1\) is not a Float-, Int- or CategoricalDistribution"):
        autotune.optimize(BlackBox(), {"x": (0, 1)}, ["loss"], LADDER, 9)
    with pytest.raises(ValueError, match="must end at the fidelity of the rung, 3"):
        read_metrics([Objective("a")], {"a": {1: 0.5}}, 3, {})
    with pytest.raises(ValueError, match="workers: 0"):
        autotune.optimize(BlackBox(), SPACE, ["loss"], LADDER, 9, workers=0)


def test_the_loss_of_a_logarithmic_objective_is_invertible():
    objective = Objective("cost", direction="maximize", log=True)
    assert objective.value(objective.loss(20.0)) == pytest.approx(20.0)
    assert objective.loss(20.0) < objective.loss(2.0)
    assert np.isnan(objective.loss(0.0))


def test_without_a_ladder_every_configuration_is_evaluated_once_in_full():
    asked = []

    def evaluate(config, fidelity, state):
        asked.append((fidelity, state))
        return {"loss": abs(np.log10(config["x"]) + 3)}, "not used"

    result = autotune.optimize(evaluate, SPACE, ["loss"], None, autotune.Budget(trials=12))
    assert asked == [(1.0, None)] * 12
    assert [trial.status for trial in result.trials] == ["complete"] * 12
    assert result.used == 12
    assert result.best.values == (min(trial.values[0] for trial in result.trials),)
    assert str(result) == "12 trials (12 complete), 12 of training used."
