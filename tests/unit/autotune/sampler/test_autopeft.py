"""Strategy `autopeft`: batches, the local search, the copula, and searches on small problems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from botorch.models import ModelList
from botorch.utils.multi_objective.hypervolume import Hypervolume
from optuna.trial import TrialState

from autotune.sampler.autopeft import strategy as strategy_module
from autotune.sampler.autopeft.acquisition import mixture_improvement, possible_front
from autotune.sampler.autopeft.batch import Batch, BatchData
from autotune.sampler.autopeft.copula import NormalCopula
from autotune.sampler.autopeft.local_search import Search, local_search, neighbors_of
from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.history import History, completed_values
from autotune.sampler.objectives import StudyObjectives
from autotune.sampler.pareto_sampler import ParetoSampler
from autotune.sampler.proposal import Candidates, Proposer
from autotune.sampler.strategies import STRATEGIES, autopeft_startup
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Categorical, Float, Int, Value
from search_spaces.space import SearchSpace
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess, Hyperparameters

SPACE = SearchSpace(
    (
        Categorical(name="family", choices=("lora", "ia3")),
        Int(name="rank", low=1, high=64, log=True, default=8, when={"family": ("lora",)}),
        Float(name="lr", low=1e-5, high=1e-2, log=True, default=3e-4),
        Categorical(name="layer", choices=(False, True)),
    )
)


def cost(config: Mapping[str, Value]) -> float:
    return 1000.0 * float(config.get("rank", 0.5)) * (2.0 if config["layer"] else 1.0)


def error(config: Mapping[str, Value]) -> float:
    off = (math.log10(float(config["lr"])) + 3.5) ** 2
    return 0.1 * off + 0.2 / math.sqrt(float(config.get("rank", 0.5))) - 0.05 * bool(config["layer"])


def sampler(**changes: Any) -> ParetoSampler:
    given = {"seed": 0, "strategy": "autopeft", "n_startup": 6, "space": SPACE, "known_objectives": {1: cost}}
    return ParetoSampler(**{**given, **changes})


def objective(trial: optuna.Trial) -> tuple[float, float]:
    config = SPACE.suggest(trial)
    return error(config), cost(config)


def search(trials: int, **changes: Any) -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler(**changes))
    study.optimize(objective, n_trials=trials)
    return study


@pytest.fixture(scope="module")
def searched() -> list[optuna.trial.FrozenTrial]:
    """Twelve trials: two batches, the second of which is not complete."""
    return search(12).trials


def study_after(trials: list[optuna.trial.FrozenTrial], **changes: Any) -> optuna.Study:
    """Return a study that holds these trials, with a new sampler."""
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler(**changes))
    study.add_trials(trials)
    return study


def memory(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return trial.system_attrs["autotune:proposal"]["batch"]


# --- batches


def test_four_proposals_share_a_fit_and_the_fifth_begins_a_batch(searched):
    places = [(memory(trial)["first"], memory(trial)["position"]) for trial in searched[6:]]
    assert places == [(6, 0), (6, 1), (6, 2), (6, 3), (10, 0), (10, 1)]
    fits = [memory(trial)["fit"] for trial in searched[6:]]
    assert fits[0] == fits[1] == fits[3] != fits[4] == fits[5]


def test_members_of_a_batch_are_pending_even_once_they_have_finished(searched):
    study = study_after(searched[: 6 + 3])
    trial = study.ask()
    history = History.read(study, study.trials[trial.number], SPACE, completed_values)
    data = BatchData.of(history, Batch(6, 3, {}))
    assert [history.numbers[i] for i in data.rows] == list(range(6))
    assert data.pending == [study.trials[number].params for number in (6, 7, 8)]


def test_a_batch_is_the_same_whether_its_members_have_finished_or_still_run(searched):
    parallel = study_after(searched[:6])
    asked = [parallel.ask() for _ in range(4)]
    for trial in asked:
        objective(trial)
    assert [trial.params for trial in searched[6:10]] == [trial.params for trial in asked]
    assert len({tuple(sorted(trial.params.items())) for trial in asked}) == 4


def test_a_failed_member_is_neither_data_nor_pending(searched):
    study = study_after(searched[: 6 + 1])
    study.tell(study.ask(SPACE.distributions()), state=TrialState.FAIL)
    trial = study.ask()
    history = History.read(study, study.trials[trial.number], SPACE, completed_values)
    data = BatchData.of(history, Batch(6, 2, {}))
    assert (len(data.rows), len(data.pending), len(history.failed)) == (6, 1, 1)


def test_proposals_follow_from_the_study_alone(searched):
    resumed = study_after(searched[:9])
    resumed.optimize(objective, n_trials=3)
    assert [trial.params for trial in searched] == [trial.params for trial in resumed.trials]


# --- local search


def proposer(seed: int = 0) -> Proposer:
    history = History(
        configs=[], numbers=[], values=np.empty((0, 1)), variances=np.empty((0, 1)), constraints=np.empty((0, 0)),
        pending=[], failed=[], seen=[], enqueued=[], started=0, sequence_index=0,
    )  # fmt: skip
    return Proposer(
        space=SPACE,
        columns=EncodedSpace(SPACE),
        objectives=StudyObjectives(np.ones(1), {}, {}, {}, [None]),
        history=history,
        rng=np.random.default_rng(seed),
        number=0,
    )


def utility(candidates: Candidates) -> np.ndarray:
    return np.array([-error(config) for config in candidates.configs])


def start(of: Proposer) -> np.ndarray:
    return of.space.encode([{"family": "lora", "rank": 2, "lr": 1e-5, "layer": False}])


def test_the_search_returns_a_configuration_with_its_own_score():
    """The published code pairs the start of each search with the score of its end."""
    given = proposer()
    scored: dict[bytes, float] = {}

    def remembered(candidates: Candidates) -> np.ndarray:
        values = utility(candidates)
        scored.update(zip(given.columns.keys(candidates.rows), values.tolist(), strict=True))
        return values

    found = local_search(given, remembered, start(given))
    assert found.score == max(scored.values())
    assert found.score == pytest.approx(utility(found.current)[0])
    assert found.current.configs[0]["layer"] is True
    assert math.log10(float(found.current.configs[0]["lr"])) == pytest.approx(-3.5, abs=0.2)


def test_neighbors_change_the_current_configuration_and_not_each_other():
    """As a random walk, the k-th neighbor would be k changes away."""
    given = proposer()
    row = start(given)
    current = given.feasible(row)
    neighbors = neighbors_of(given, Search(current, 0.0), 200).configs
    assert len(neighbors) > 20
    for config in neighbors:
        shared = config.keys() & current.configs[0].keys()
        changed = {name for name in shared if config[name] != current.configs[0][name]}
        assert 1 <= len(changed) <= 2
        assert abs(math.log10(float(config["lr"])) + 5.0) < 3.0


def test_a_search_stays_where_no_neighbor_is_better():
    given = proposer()
    best = Search(given.feasible(start(given)), 1.0)
    worse = given.feasible(given.columns.random(5, given.rng))
    best.advance(worse, np.full(len(worse.configs), 0.5))
    assert (best.score, best.step) == (1.0, 1)
    assert best.current.configs == given.feasible(start(given)).configs
    best.advance(worse.take(np.array([], dtype=int)), np.empty(0))
    assert best.step == 2


@pytest.mark.parametrize("limit", [30, 300, 2000])
def test_the_search_ends_at_its_number_of_evaluations(limit):
    given, count = proposer(), []

    def counted(candidates: Candidates) -> np.ndarray:
        count.append(len(candidates.configs))
        return utility(candidates)

    local_search(given, counted, start(given), max_evaluations=limit)
    assert 0 < sum(count) <= limit


# --- acquisition


def models(lengths: list[float], noise: float = 1e-4) -> tuple[list[ModelList], torch.Tensor]:
    """Two objectives x and 1 - x, as members with different lengthscales, and the inputs of their data."""
    embedding = Embedding(np.array([0]))
    X = np.linspace(0.1, 0.9, 5)[:, None]
    built = []
    for length in lengths:
        values = Hyperparameters(np.array([length]), 1.0, noise)
        built.append(
            ModelList(*(GaussianProcess.of(X, y, embedding, values) for y in (X[:, 0], 1.0 - X[:, 0])))
        )
    return built, torch.as_tensor(embedding.features(X))


def test_the_improvement_is_the_mean_over_the_members():
    built, inputs = models([0.5, 3.0])
    candidates = torch.as_tensor(
        Embedding(np.array([0])).features(np.array([[0.0], [0.31], [1.0]]))
    ).unsqueeze(1)
    reference = torch.tensor([-0.5, -0.5], dtype=torch.double)

    def improvement(members: list[ModelList], is_smooth: bool = False) -> torch.Tensor:
        return mixture_improvement(members, inputs, reference, None, seed=0, is_smooth=is_smooth)(
            candidates
        ).exp()

    both = improvement(built)
    torch.testing.assert_close(both, (improvement(built[:1]) + improvement(built[1:])) / 2.0)
    assert (both > 0).any()
    torch.testing.assert_close(improvement(built, is_smooth=True), both, rtol=0.2, atol=2e-3)


def test_a_pending_configuration_removes_its_own_improvement():
    built, inputs = models([0.5], noise=1e-3)
    at = torch.as_tensor(Embedding(np.array([0])).features(np.array([[1.0]])))
    reference = torch.tensor([-0.5, -0.5], dtype=torch.double)
    free = mixture_improvement(built, inputs, reference, None, seed=0)(at.unsqueeze(1))
    taken = mixture_improvement(built, inputs, reference, at, seed=0)(at.unsqueeze(1))
    assert float(taken.exp()) < 0.2 * float(free.exp())


@pytest.mark.parametrize("is_smooth", [False, True])
def test_with_one_objective_a_pending_configuration_moves_the_choice_elsewhere(is_smooth):
    embedding = Embedding(np.array([0]))
    X = np.linspace(0.2, 0.8, 7)[:, None]
    y = (X[:, 0] - 0.499) ** 2  # larger towards both ends, a little more so towards 1
    model = ModelList(GaussianProcess.of(X, y, embedding, Hyperparameters(np.array([0.4]), 1.0, 1e-4)))
    inputs, ends = (torch.as_tensor(embedding.features(each)) for each in (X, np.array([[0.0], [1.0]])))

    def scores(pending: torch.Tensor | None) -> list[float]:
        reference = torch.tensor([-1.0], dtype=torch.double)
        value = mixture_improvement([model], inputs, reference, pending, seed=0, is_smooth=is_smooth)
        return value(ends.unsqueeze(1)).tolist()

    free, taken = scores(None), scores(ends[1:])
    assert free[1] > free[0]
    assert taken[0] > taken[1]


def test_dominated_trials_are_pruned_from_the_front_reproducibly():
    embedding = Embedding(np.array([0]))
    X = np.linspace(0.0, 1.0, 6)[:, None]
    values = Hyperparameters(np.array([0.3]), 1.0, 1e-5)
    targets = (X[:, 0], np.array([1.0, 0.0, 0.9, 0.0, 0.8, 0.7]))
    model = ModelList(*(GaussianProcess.of(X, y, embedding, values) for y in targets))
    inputs = torch.as_tensor(embedding.features(X))
    before = torch.random.get_rng_state()
    kept = possible_front(model, inputs, torch.tensor([-1.0, -1.0], dtype=torch.double), seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    rows = [int((inputs == row).all(dim=1).nonzero()) for row in kept]
    assert rows == [0, 2, 4, 5]


# --- copula and options


def test_the_copula_keeps_the_order_and_is_clamped():
    rng = np.random.default_rng(0)
    outcomes = np.exp(rng.standard_normal((50, 3)))
    copula = NormalCopula(outcomes, m=2)
    converted = copula.convert(outcomes[:, 0], 0)
    assert (np.argsort(converted) == np.argsort(outcomes[:, 0])).all()
    assert abs(converted.mean()) < 0.05
    assert 0.9 < converted.std() < 1.05
    assert copula.convert(outcomes[:, 2], 2) is not None
    assert copula.convert(outcomes[:, 2], 2) == pytest.approx(outcomes[:, 2])  # a constraint keeps its units
    assert copula.convert(np.array([-1e9, 1e9]), 0) == pytest.approx([converted.min(), converted.max()])
    assert (copula.reference(np.zeros(2)) > converted.max()).all()


def test_the_copula_is_off_by_default_and_an_option_changes_proposals(searched):
    ranked = search(8, strategy_options={"copula": True})
    assert [t.params for t in searched[:6]] == [t.params for t in ranked.trials[:6]]
    assert [t.params for t in searched[6:8]] != [t.params for t in ranked.trials[6:]]
    same = study_after(searched[:6], strategy_options={"copula": False})
    same.optimize(objective, n_trials=2)
    assert [t.params for t in searched[:8]] == [t.params for t in same.trials]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy_options": {"copla": True}}, "'copla' is unknown; this strategy has copula"),
        ({"strategy_options": {"copula": "yes"}}, "copula is 'yes'; give True or False"),
        ({"strategy": "pareto", "strategy_options": {"copula": True}}, "this strategy has laws"),
    ],
)
def test_options_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        sampler(**changes)


def test_an_unknown_surrogate_is_refused():
    with pytest.raises(ValueError, match="this strategy has no 'gp'"):
        sampler(surrogate="gp")


@pytest.mark.skipif(find_spec("numpyro") is not None, reason="numpyro is installed")
def test_a_missing_extra_is_named_before_the_first_trial():
    with pytest.raises(InvalidInputError, match=r"pip install 'autotune-peft\[fully-bayesian\]'"):
        sampler(surrogate="saas-bayesian")


def test_startup_trials_grow_with_the_parameters():
    assert autopeft_startup(None) == 20
    assert autopeft_startup(SPACE) == 20
    many = SearchSpace(tuple(Float(name=f"x{i}", low=0.0, high=1.0) for i in range(70)))
    assert autopeft_startup(many) == 100
    assert STRATEGIES["autopeft"].default_startup is autopeft_startup


# --- searches


def hypervolume(study: optuna.Study) -> float:
    values = torch.tensor([trial.values for trial in study.trials], dtype=torch.double)
    values[:, 1] = values[:, 1].log()
    reference = torch.tensor([-1.0, -math.log(2e5)])
    return float(Hypervolume(reference).compute(-values[(values < -reference).all(dim=1)]))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_it_finds_a_better_front_than_random_trials(seed):
    """The seeds are fixed, so the test does not fail by chance."""
    random = optuna.create_study(
        directions=["minimize", "minimize"], sampler=optuna.samplers.RandomSampler(seed)
    )
    random.optimize(objective, n_trials=14)
    assert hypervolume(search(14, seed=seed, log_objectives={1: 1.0})) > hypervolume(random)


def test_limits_hold_and_constraints_are_learned():
    study = search(10, limits={1: (None, 20_000.0)})
    assert all(trial.values[1] <= 20_000.0 for trial in study.trials)


@pytest.mark.parametrize("directions", [["minimize"], pytest.param(["minimize"] * 4, marks=pytest.mark.slow)])
def test_one_and_four_objectives_are_searched(directions):
    study = optuna.create_study(
        directions=directions, sampler=ParetoSampler(seed=0, strategy="autopeft", n_startup=4)
    )

    def many(trial: optuna.Trial) -> list[float]:
        x = [trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(2)]
        return [(x[0] - 0.2 * j) ** 2 + (x[1] - 0.1 * j) ** 2 for j in range(len(directions))]

    study.optimize(many, n_trials=6)
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 6


def test_a_score_that_is_nowhere_finite_is_replaced_by_the_smooth_one(monkeypatch):
    calls = []
    original = strategy_module.BatchPosterior.score

    def score(self, seed, *, is_smooth=False):
        calls.append(is_smooth)
        if is_smooth:
            return original(self, seed, is_smooth=True)
        return lambda candidates: np.full(len(candidates.configs), -np.inf)

    monkeypatch.setattr(strategy_module.BatchPosterior, "score", score)
    study = search(7)
    assert calls == [False, True]
    assert study.trials[-1].state == TrialState.COMPLETE
