"""ParetoSampler beyond Optuna's contract: conditions, known costs, limits, resuming."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from autotune.sampler.candidates import EncodedSpace, enumerate_configurations
from autotune.sampler.history import Observation
from autotune.sampler.objectives import StudyObjectives
from autotune.sampler.pareto import surrogates
from autotune.sampler.pareto.posterior import Posterior, StudyData
from autotune.sampler.pareto.strategy import choice_counts
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.proposal import Proposer
from autotune.sampler.strategies import default_startup
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace
from tests.support.configuration_keys import config_key

SPACE = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Int(name="rank", low=1, high=64, log=True, default=8, when={"family": ("lora",)}),
        Float(name="lora.lr", low=1e-5, high=1e-2, log=True, default=3e-4, when={"family": ("lora",)}),
        Float(name="ia3.lr", low=1e-4, high=1e-1, log=True, default=3e-3, when={"family": ("ia3",)}),
        Categorical(name="batch", choices=(8, 16, 32), ordered=True, default=16),
    )
)


def cost(config: Mapping[str, Value]) -> float:
    return 1000.0 * float(config.get("rank", 0.5))


def error(config: Mapping[str, Value]) -> float:
    if config["family"] == "ia3":
        return 0.3 + 0.1 * (math.log10(float(config["ia3.lr"])) + 2.5) ** 2
    off = math.log10(float(config["lora.lr"])) + 3.5
    return 0.1 + 0.15 / math.sqrt(float(config["rank"])) + 0.1 * off**2


def study_of(sampler: BaseSampler, directions: Sequence[Any] = ("minimize", "minimize")) -> optuna.Study:
    return optuna.create_study(directions=list(directions), sampler=sampler)


def proceed(study: optuna.Study, trials: int, space: SearchSpace = SPACE) -> list[Configuration]:
    """Asks and tells (error, cost), and returns what was asked for."""
    configs = []
    for _ in range(trials):
        trial = study.ask()
        configs.append(space.suggest(trial))
        study.tell(trial, [error(configs[-1]), cost(configs[-1])])
    return configs


def sampler(**arguments: object) -> ParetoSampler:
    defaults: dict[str, object] = {"space": SPACE, "known_objectives": {1: cost}, "n_startup": 6, "seed": 0}
    return ParetoSampler(**{"n_candidates": 128, **defaults, **arguments})  # type: ignore[arg-type]


def test_proposals_are_configurations_with_active_parameters_alone() -> None:
    study = study_of(sampler())
    for _ in range(12):
        trial = study.ask()
        proposed = study.sampler.sample_relative(study, trial._cached_frozen_trial, SPACE.distributions())
        SPACE.validate(proposed)
        config = SPACE.suggest(trial)
        assert trial.relative_params == config
        study.tell(trial, [error(config), cost(config)])


def test_startup_has_the_defaults_and_is_spread_over_the_cost_with_cheap_trials_first() -> None:
    configs = proceed(study_of(sampler()), 6)
    assert all(default in configs for default in SPACE.defaults())
    assert len({config_key(config) for config in configs}) == 6
    costs = [cost(config) for config in configs]
    assert costs == sorted(costs)
    # Four points beside the defaults, one in each quarter of the logarithmic range from 500 to 64,000.
    spread = [math.log(cost(config)) for config in configs if config not in SPACE.defaults()]
    edges = np.linspace(math.log(500.0), math.log(64_000.0), 5)
    assert {int(np.searchsorted(edges, each)) for each in spread} >= {2, 3, 4}


def test_the_cost_of_a_trial_orders_the_startup() -> None:
    def seconds(config: Mapping[str, Value]) -> float:
        return -float(config["batch"])

    batches = [config["batch"] for config in proceed(study_of(sampler(trial_cost=seconds)), 6)]
    assert batches == sorted(batches, reverse=True)
    assert len(set(batches)) > 1


def test_without_known_objectives_the_startup_is_the_defaults_and_the_sequence() -> None:
    configs = proceed(study_of(sampler(known_objectives=None)), 6)
    assert configs[:2] == SPACE.defaults()
    rates = sorted(SPACE["lora.lr"].to_unit(c["lora.lr"]) for c in configs if "lora.lr" in c)
    assert rates[-1] - rates[0] > 0.2


@pytest.mark.parametrize(("families", "expected"), [(0, 10), (3, 10), (8, 10), (9, 11), (18, 20)])
def test_default_startup(families: int, expected: int) -> None:
    choices = tuple(str(i) for i in range(max(families, 1)))
    name = "family" if families else "other"
    assert default_startup(SearchSpace((Categorical(name=name, choices=choices),))) == expected
    assert default_startup(None) == 10


def test_never_twice_until_nothing_else_is_left() -> None:
    space = SearchSpace(
        (
            Categorical(name="family", choices=("lora", "ia3")),
            Int(name="rank", low=1, high=5, when={"family": ("lora",)}),
            Categorical(name="batch", choices=(8, 16, 32), ordered=True),
        )
    )
    everything = enumerate_configurations(space)
    assert everything is not None
    expected = {config_key(config) for config in everything}
    assert len(expected) == 18
    study = study_of(ParetoSampler(space=space, n_startup=4, n_candidates=32, seed=0), ("minimize",))
    seen = set()
    for _ in range(18):
        trial = study.ask()
        seen.add(config_key(space.suggest(trial)))
        study.tell(trial, float(trial.params.get("rank", 3)))
    assert seen == expected
    with pytest.warns(UserWarning, match="every configuration has been proposed"):
        space.suggest(study.ask())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space.suggest(study.ask())


def test_known_objectives_are_not_modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []
    fit = surrogates.GaussianProcess.fit

    def counted(X: np.ndarray, y: np.ndarray, *rest: object, **named: object) -> object:
        fitted.append(y)
        return fit(X, y, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(surrogates.GaussianProcess, "fit", counted)
    proceed(study_of(sampler()), 7)
    assert len(fitted) == 1
    proceed(study_of(sampler(known_objectives=None)), 7)
    assert len(fitted) == 3


def test_a_study_of_known_objectives_alone_finds_the_front() -> None:
    known = {0: lambda config: error(config), 1: cost}
    study = study_of(sampler(known_objectives=known))
    configs = proceed(study, 10)
    # After the start-up each proposal enlarges the front: no later trial is dominated by an earlier one. The
    # eighth is a point of the start-up sequence.
    for i in (6, 8, 9):
        assert not any(
            error(configs[k]) <= error(configs[i]) and cost(configs[k]) <= cost(configs[i]) for k in range(i)
        )


def test_every_eighth_proposal_continues_the_startup_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    interleaved = []
    startup_point = Proposer.startup_point

    def spy(self: Proposer, *arguments: int) -> Configuration:
        interleaved.append(self.history.started)
        return startup_point(self, *arguments)

    monkeypatch.setattr(Proposer, "startup_point", spy)
    configs = proceed(study_of(sampler(n_startup=6)), 22)
    assert interleaved == [0, 1, 2, 3, 4, 5, 13, 21]
    assert len({config_key(config) for config in configs}) == 22


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_no_proposal_breaks_a_known_limit(direction: str) -> None:
    sign = 1 if direction == "minimize" else -1
    limit = (None, 4000.0) if sign > 0 else (-4000.0, None)
    study = study_of(
        sampler(known_objectives={1: lambda config: sign * cost(config)}, limits={1: limit}),
        ("minimize", direction),
    )
    for _ in range(14):
        trial = study.ask()
        config = SPACE.suggest(trial)
        assert cost(config) <= 4000
        study.tell(trial, [error(config), sign * cost(config)])


def test_a_limit_nothing_can_keep_is_named() -> None:
    study = study_of(sampler(limits={1: (None, 100.0)}))
    with pytest.raises(ValueError, match=r"limits of objective 1 \(min None, max 100.0\)"):
        SPACE.suggest(study.ask())


def test_a_known_objective_without_finite_values_is_named() -> None:
    study = study_of(sampler(known_objectives={1: lambda config: math.nan}, limits={1: (None, 100.0)}))
    with pytest.raises(
        ValueError, match="known_objectives: the function of objective 1 returned nan for"
    ) as caught:
        SPACE.suggest(study.ask())
    assert "limit" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:every configuration has been proposed")
def test_a_limit_that_leaves_little_is_kept_to_the_end() -> None:
    space = SearchSpace((Int(name="rank", low=1, high=200), Categorical(name="batch", choices=(8, 16))))
    study = study_of(
        ParetoSampler(
            space=space, known_objectives={1: cost}, limits={1: (None, 3000.0)}, n_candidates=16, seed=0
        )
    )
    asked = []
    for _ in range(14):
        trial = study.ask()
        asked.append(space.suggest(trial))
        study.tell(trial, [float(asked[-1]["batch"]), cost(asked[-1])])
    # Six of 400 configurations are within the limit: each is found, and then they repeat.
    assert max(cost(config) for config in asked) <= 3000
    assert len({config_key(config) for config in asked[:6]}) == 6


def test_an_uncertain_limit_draws_proposals_inside() -> None:
    def run(limits: dict[int, tuple[float | None, float | None]]) -> float:
        study = study_of(sampler(limits=limits, n_startup=8))
        return float(np.mean([error(config) <= 0.16 for config in proceed(study, 18)[8:]]))

    assert run({0: (None, 0.16)}) > max(run({}) + 0.2, 0.8)


def test_resuming_equals_an_uninterrupted_search(tmp_path: object) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    whole = proceed(study_of(sampler()), 12)
    study = optuna.create_study(
        study_name="s", storage=storage, directions=["minimize", "minimize"], sampler=sampler()
    )
    parts = proceed(study, 4)
    for trials in (1, 3, 4):
        parts += proceed(optuna.load_study(study_name="s", storage=storage, sampler=sampler()), trials)
    assert parts == whole


def test_seeds_matter_and_alone_do() -> None:
    assert proceed(study_of(sampler()), 9) == proceed(study_of(sampler()), 9)
    assert proceed(study_of(sampler(seed=1)), 9) != proceed(study_of(sampler()), 9)


def test_running_trials_push_proposals_apart() -> None:
    study = study_of(sampler(n_startup=8))
    proceed(study, 10)
    running = [SPACE.suggest(study.ask()) for _ in range(6)]
    assert len({config_key(config) for config in running}) == 6


def test_running_trials_let_the_noisy_acquisition_rank_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    initial = Posterior.log_noisy_acquisition

    def spy(self: Posterior, *arguments: int) -> Any:
        value = initial(self, *arguments)

        def counted(inputs: Any) -> Any:
            sizes.append(len(inputs))
            return value(inputs)

        return counted

    monkeypatch.setattr(Posterior, "log_noisy_acquisition", spy)
    study = study_of(sampler(n_startup=6))
    proceed(study, 8)
    assert sizes == []
    first, second = SPACE.suggest(study.ask()), SPACE.suggest(study.ask())
    assert sizes == [32]
    assert config_key(first) != config_key(second)


def test_a_running_trial_lowers_the_acquisition_where_it_is() -> None:
    rng = np.random.default_rng(0)
    configs = [SPACE.sample(rng) for _ in range(12)]
    objectives = StudyObjectives(np.ones(2), {1: cost}, {}, {}, [None, None])

    candidates = [SPACE.sample(rng) for _ in range(200)]
    rows, known = SPACE.encode(candidates), objectives.known_outcomes(candidates, 2)

    def acquisition(pending: list[Configuration]) -> np.ndarray:
        outcomes = np.array([[error(config), cost(config)] for config in configs])
        data = StudyData(
            X=SPACE.encode(configs),
            outcomes=outcomes,
            extra_noise=np.zeros_like(outcomes),
            replicates=np.ones(len(configs)),
            squares=np.zeros_like(outcomes),
            X_pending=SPACE.encode(pending),
            known_pending=objectives.known_outcomes(pending, 2),
            X_failed=SPACE.encode([]),
            known_failed=objectives.known_outcomes([], 2),
        )
        posterior = Posterior(objectives, choice_counts(SPACE), data)
        return np.exp(posterior.log_acquisition(0)(posterior.tensor(rows, known).unsqueeze(1)).numpy())

    before = acquisition([])
    best = int(before.argmax())
    assert acquisition([candidates[best]])[best] < 0.5 * before[best]


def test_start_up_points_differ_while_all_are_running() -> None:
    study = study_of(sampler())
    running = [SPACE.suggest(study.ask()) for _ in range(9)]
    assert len({config_key(config) for config in running}) == 9


def test_a_start_up_place_follows_from_the_trial_not_from_what_is_visible() -> None:
    # Two processes may ask before either has written its parameters down.
    study = study_of(sampler())
    first, second = study.ask(), study.ask()
    other = SPACE.suggest(second)
    assert [SPACE.suggest(first), other] == proceed(study_of(sampler()), 2)


def test_enqueued_trials_are_not_repeated_and_take_no_place() -> None:
    study = study_of(sampler())
    study.enqueue_trial(SPACE.defaults()[0])
    configs = proceed(study, 7)
    assert configs[0] == SPACE.defaults()[0]
    assert SPACE.defaults()[1] in configs[1:]
    assert len({config_key(config) for config in configs}) == 7
    assert config_key(configs[2]) not in {config_key(config) for config in configs[:2]}
    study.enqueue_trial({"family": "ia3"})
    proceed(study, 6)
    assert study.trials[7].params["family"] == "ia3"
    SPACE.validate(study.trials[7].params)


def _seen_by(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> StudyData:
    """Return the data of the next posterior."""
    seen: list[StudyData] = []
    initial = Posterior.__init__

    def spy(self: Posterior, objectives: StudyObjectives, counts: Any, data: StudyData, *rest: Any) -> None:
        seen.append(data)
        initial(self, objectives, counts, data, *rest)

    monkeypatch.setattr(Posterior, "__init__", spy)
    SPACE.suggest(study.ask())
    return seen[0]


def test_what_reaches_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(sampler(log_objectives={1: 1000.0}))
    proceed(study, 6)

    def add(state: TrialState, values: list[float] | None, status: str | None = None) -> Configuration:
        config = SPACE.sample(np.random.default_rng(len(study.trials)))
        distributions = {name: SPACE[name].distribution() for name in config}
        study.add_trial(
            optuna.create_trial(
                state=state,
                params=config,
                distributions=distributions,
                values=values,
                user_attrs={"status": status} if status else {},
            )
        )
        return config

    add(TrialState.COMPLETE, [math.inf, 1000.0])
    add(TrialState.PRUNED, None)
    add(TrialState.FAIL, None, "lost")
    failed = [add(TrialState.FAIL, None), add(TrialState.PRUNED, None, "failed")]
    SPACE.suggest(study.ask())
    seen = _seen_by(study, monkeypatch)
    assert seen.X.shape == (6, 5)
    assert np.isfinite(seen.outcomes).all()
    assert len(seen.X_pending) == 1
    np.testing.assert_array_equal(seen.X_failed, SPACE.encode(failed))
    complete = study.get_trials(states=(TrialState.COMPLETE,))[:6]
    costs = [math.log(max(trial.values[1], 1000.0)) for trial in complete]
    np.testing.assert_allclose(seen.outcomes[:, 1], costs)


def test_observe_lets_pruned_trials_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(trial: FrozenTrial) -> list[float] | None:
        return trial.user_attrs.get("predicted", trial.values)

    study = study_of(sampler(observe=observe))
    proceed(study, 7)
    trial = study.ask()
    config = SPACE.suggest(trial)
    trial.set_user_attr("predicted", [0.7, cost(config)])
    study.tell(trial, state=TrialState.PRUNED)
    seen = _seen_by(study, monkeypatch)
    np.testing.assert_allclose(seen.outcomes[-1], [0.7, cost(config)])


def test_an_observation_says_how_sure_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    fit = surrogates.GaussianProcess.fit

    def counted(X: np.ndarray, y: np.ndarray, *rest: object, **named: object) -> object:
        given.append(named["extra_noise"])
        return fit(X, y, *rest, **named)  # type: ignore[arg-type]

    def observe(trial: FrozenTrial) -> Observation | list[float] | None:
        return Observation(trial.values, [0.25, 0.0]) if trial.number == 2 else trial.values

    monkeypatch.setattr(surrogates.GaussianProcess, "fit", counted)
    proceed(study_of(sampler(observe=observe)), 7)
    assert [noise.tolist() for noise in given] == [[0.0, 0.0, given[0][2], 0.0, 0.0, 0.0]]
    assert given[0][2] > 0


def test_directions_are_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(sampler(known_objectives=None), ("maximize", "minimize"))
    proceed(study, 6)
    outcomes = _seen_by(study, monkeypatch).outcomes
    np.testing.assert_allclose(outcomes[:, 0], [-trial.values[0] for trial in study.trials[:6]])
    np.testing.assert_allclose(outcomes[:, 1], [trial.values[1] for trial in study.trials[:6]])


def test_a_failing_region_is_avoided() -> None:
    def failures(told: bool) -> int:
        study = study_of(sampler(n_startup=10))
        count = 0
        for _ in range(24):
            trial = study.ask()
            config = SPACE.suggest(trial)
            # The best learning rate lies in what fails, so only the failures can keep the sampler out.
            failed = float(config.get("lora.lr", 0.0)) > 1e-4
            count += failed and trial.number >= 10
            if failed and told:
                study.tell(trial, state=TrialState.FAIL)
            elif failed:
                study.tell(trial, state=TrialState.PRUNED)
            else:
                study.tell(trial, [error(config), cost(config)])
        return count

    assert failures(told=True) < 0.6 * failures(told=False)


def test_constraints_that_trials_set_are_kept() -> None:
    def share(constrained: bool) -> float:
        study = study_of(ParetoSampler(seed=0, n_startup=8, n_candidates=128), ("minimize",))
        kept = []
        for _ in range(18):
            trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
            x = trial.params["x"]
            kept.append(x >= 0.6)
            if constrained:
                study._storage.set_trial_system_attr(trial._trial_id, "constraints", [0.6 - x])
            study.tell(trial, x)
        return float(np.mean(kept[8:]))

    assert share(constrained=True) > share(constrained=False) + 0.3


def test_one_objective_finds_the_minimum() -> None:
    study = study_of(ParetoSampler(seed=0), ("maximize",))

    def objective(trial: optuna.Trial) -> float:
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", 1e-4, 1, log=True)
        return -((x - 1.3) ** 2) - (math.log10(y) + 2) ** 2

    study.optimize(objective, n_trials=24)
    assert study.best_value > -0.02


def test_three_uncertain_objectives_and_a_given_reference() -> None:
    study = study_of(
        sampler(known_objectives=None, references=[0.5, None, 2.0]), ("minimize", "minimize", "minimize")
    )
    for _ in range(9):
        trial = study.ask()
        config = SPACE.suggest(trial)
        study.tell(trial, [error(config), cost(config), 1 / float(config["batch"])])
    assert len({config_key(trial.params) for trial in study.trials}) == 9


@pytest.mark.parametrize("strategy", ["pareto", "carbs"])
@pytest.mark.parametrize("value", [1e160, -1e308])
def test_huge_values_are_clipped(value: float, strategy: str) -> None:
    known: Any = {1: cost}
    study = study_of(
        ParetoSampler(space=SPACE, known_objectives=known, strategy=strategy, n_startup=4, seed=0)
    )
    for number in range(8):
        trial = study.ask()
        config = SPACE.suggest(trial)
        study.tell(trial, [value if number == 2 else error(config), cost(config)])
    assert len(study.trials) == 8


def test_no_improvement_in_sight_is_no_exception() -> None:
    # References that nothing can reach leave no open region at all.
    configs = proceed(study_of(sampler(references=[-1e9, -1e9])), 10)
    assert len({config_key(config) for config in configs}) == 10


def test_masks_are_never_empty() -> None:
    """Nor does a switch come on without the parameters that it brings."""
    switches = [Categorical(name=f"on.{i}", choices=(False, True), default=True) for i in range(3)]
    sizes = [Int(name=f"size.{i}", low=1, high=9, when={f"on.{i}": (True,)}) for i in range(3)]
    space = SearchSpace((*switches, *sizes), masks=("on",))
    columns, rng = EncodedSpace(space), np.random.default_rng(0)
    rows = np.concatenate([columns.random(64, rng), columns.sobol(0, 64, 0)])
    rows = np.concatenate([rows, columns.neighbors(rows, 200, 0.1, rng)])
    assert all(not space.problems(config) for config in columns.configurations(rows))


def test_neighbors_change_little_and_always_something() -> None:
    columns, rng = EncodedSpace(SPACE), np.random.default_rng(0)
    base = SPACE.encode([SPACE.default(family="lora")])
    rows = columns.neighbors(base, 300, 0.05, rng)
    configs = SPACE.decode(rows)
    for config in configs:
        SPACE.validate(config)
        assert config_key(config) != config_key(SPACE.default(family="lora"))
        if config["family"] == "lora":
            changed = np.abs(SPACE.encode([config]) - base) > 1e-9
            assert 1 <= changed.sum() <= 2
    assert {config["family"] for config in configs} == {"lora", "ia3"}
    # Encoded rows are exactly those of the configurations they decode to.
    np.testing.assert_allclose(rows, SPACE.encode(configs), atol=1e-12)


def test_rows_stand_for_exactly_the_configurations_they_become() -> None:
    space = SearchSpace(
        (
            Int(name="many", low=1, high=100_000, log=True),
            Int(name="steps", low=3, high=3 + 7 * 5000, step=7),
            Float(name="fine", low=-1.0, high=1.0, step=1e-4),
            Float(name="coarse", low=0.0, high=1.0, step=0.25),
            Float(name="single", low=2.0, high=2.0),
            Categorical(name="parent", choices=("a", "b", None)),  # type: ignore[arg-type]
            Float(name="child", low=1e-3, high=1e3, log=True, when={"parent": ("b",)}),
        )
    )
    columns, rng = EncodedSpace(space), np.random.default_rng(0)
    rows = np.concatenate([columns.random(100, rng), columns.sobol(3, 50, 1)])
    rows = np.concatenate([rows, columns.neighbors(rows, 300, 0.01, rng)])
    configs = columns.configurations(rows)
    for config in configs:
        space.validate(config)
    np.testing.assert_allclose(space.encode(configs), rows, atol=1e-12)
    assert len(set(columns.keys(rows))) == len({config_key(config) for config in configs})


def test_fixed_values_hold_wherever_they_are_active() -> None:
    columns, rng = EncodedSpace(SPACE, {"family": "lora", "rank": 4, "unknown": 1}), np.random.default_rng(0)
    rows = columns.random(20, rng)
    rows = np.concatenate([rows, columns.neighbors(rows, 100, 0.2, rng), columns.sobol(0, 16, 0)])
    assert {(c["family"], c["rank"]) for c in columns.configurations(rows)} == {("lora", 4)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_startup": 0}, "n_startup: 0"),
        ({"n_startup": "3"}, "n_startup: '3' is not a whole number"),
        ({"n_startup": 2.5}, "n_startup: 2.5 is not a whole number"),
        ({"n_startup": True}, "n_startup: True is not a whole number"),
        ({"n_candidates": 0}, "n_candidates: 0"),
        ({"seed": -1}, "seed: -1 is out of range; give 0 or more"),
        ({"resample": True}, "resample: True is not a share"),
        ({"resample": "20%"}, "resample: '20%' is not a share"),
        ({"strategy": "carbs"}, "n_candidates: this strategy does not use it; remove it"),
        ({"strategy": "carbs", "n_candidates": None, "resample": 0.2}, "resample: this strategy does not"),
        ({"strategy": "autopeft", "n_candidates": None, "resample": 0.2}, "resample: this strategy does not"),
        ({"limits": {0: (3, 1)}}, "limits: the minimum 3 of objective 0 is above its maximum 1"),
        ({"limits": {0: (math.nan, 1)}}, "limits: a bound of objective 0 is nan"),
        ({"log_objectives": {0: 0.0}}, "floor of objective 0"),
    ],
)
def test_messages_when_built(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sampler(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"known_objectives": {2: cost}}, "known_objectives: no objective 2"),
        ({"limits": {-1: (None, 1.0)}}, "limits: no objective -1"),
        ({"references": [1.0]}, "references: 1 values for 2"),
    ],
)
def test_messages_when_used(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPACE.suggest(study_of(sampler(**arguments)).ask())
