"""CARBS' acquisition function and its parts against computations that follow the paper line by line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.preprocessing import QuantileTransformer

from autotune.sampler.candidates import EncodedSpace
from autotune.sampler.carbs.acquisition import (
    log_acquisition,
    log_expected_improvement,
    log_success,
    log_within,
)
from autotune.sampler.carbs.basic_space import SEARCH_RADIUS, BasicSpace
from autotune.sampler.carbs.groups import CHEAP_SHARE, Group, front
from autotune.sampler.carbs.kernels import value_of
from autotune.sampler.carbs.process import Process
from autotune.sampler.carbs.search import Search
from autotune.sampler.carbs.transforms import CostScale, QuantileTransform
from autotune.sampler.history import History
from autotune.sampler.objectives import StudyObjectives
from autotune.sampler.proposal import Proposer
from search_spaces.parameters.types import Categorical, Configuration, Float, Int, Value
from search_spaces.space import SearchSpace

Array = NDArray[np.float64]

SPACE = SearchSpace(
    (
        Categorical(name="method", choices=("a", "b", "c")),
        Float(name="rate", low=1e-5, high=1e-1, log=True, default=1e-4),
        Float(name="dropout", low=0.0, high=0.5, default=0.1, when={"method": ("b",)}),
        Int(name="width", low=1, high=64, log=True, default=8),
    )
)


def error(config: Mapping[str, Value]) -> float:
    off = math.log10(float(config["rate"])) + 3.0
    return 0.2 + 0.1 * off**2 + 0.5 / float(config["width"]) + 0.05 * (config["method"] == "c")


def width(config: Mapping[str, Value]) -> float:
    return float(config["width"])


def proposer_of(
    configs: Sequence[Configuration],
    values: Array,
    *,
    failed: Sequence[Configuration] = (),
    pending: Sequence[Configuration] = (),
    known: Mapping[int, Callable[[Mapping[str, Value]], float]] | None = None,
    limits: Mapping[int, tuple[float | None, float | None]] | None = None,
    floors: Mapping[int, float] | None = None,
    seed: int = 0,
) -> Proposer:
    """Return the proposer of a study with minimized objectives."""
    n, m = values.shape
    history = History(
        configs=list(configs),
        numbers=list(range(n)),
        values=values,
        variances=np.zeros((n, m)),
        constraints=np.empty((n, 0)),
        pending=list(pending),
        failed=list(failed),
        seen=[*configs, *pending, *failed],
        enqueued=[],
        started=n + len(pending) + len(failed),
        sequence_index=n + len(pending) + len(failed),
    )
    objectives = StudyObjectives(np.ones(m), known or {}, floors or {}, limits or {}, [None] * m)
    return Proposer(SPACE, EncodedSpace(SPACE), objectives, history, np.random.default_rng(seed))


def observed(n: int, seed: int = 1) -> tuple[list[Configuration], Array]:
    """Return n random configurations, the last one repeated, with errors and widths."""
    rng = np.random.default_rng(seed)
    configs = [SPACE.sample(rng) for _ in range(n - 1)]
    configs.append(configs[-1])
    return configs, np.array([[error(c) + 0.02 * rng.random(), width(c)] for c in configs])


def reference_features(config: Mapping[str, Value]) -> Array:
    """Return the coordinates in the basic space by hand: decades, half ranges and one-hot choices."""
    dropout = 0.0 if "dropout" not in config else (float(config["dropout"]) - 0.1) / 0.5 * 2.0
    one_hot = [0.3 / math.sqrt(2.0) * (config["method"] == choice) for choice in ("a", "b", "c")]
    decades = [math.log10(float(config["rate"]) / 1e-4), math.log10(float(config["width"]) / 8)]
    return np.array([decades[0], dropout, decades[1], *one_hot])


def reference_covariance(process: Process, x: Array, z: Array) -> float:
    kernel = process.modules.kernel
    if x.shape == (1,):
        length, variance = (float(value_of(kernel, name).detach()) for name in ("length", "variance"))
        return variance * math.exp(-0.5 * ((x[0] - z[0]) / length) ** 2)
    lengths = value_of(kernel, "lengthscales").detach().numpy()
    scale = [lengths[1], lengths[2], lengths[3], lengths[0], lengths[0], lengths[0]]
    r = math.sqrt(3.0) * math.sqrt(sum(((x[i] - z[i]) / scale[i]) ** 2 for i in range(6)))
    linear, matern = (
        float(value_of(kernel, name).detach()) for name in ("linear_variance", "matern_variance")
    )
    return linear * float(x @ z) + matern * (1.0 + r) * math.exp(-r)


def reference_posterior(process: Process, x: Array) -> tuple[float, float]:
    """Return mean and standard deviation by equations 2.25 and 2.26 of Rasmussen and Williams (2006)."""
    X, y = process.X.numpy(), process.y.numpy()
    noise = float(value_of(process.modules, "noise").detach())
    K = np.array([[reference_covariance(process, a, b) for b in X] for a in X]) + noise * np.eye(len(X))
    k = np.array([reference_covariance(process, a, x) for a in X])
    inverse = np.linalg.inv(K)
    return float(k @ inverse @ y), math.sqrt(reference_covariance(process, x, x) - k @ inverse @ k)


@pytest.mark.parametrize("known", [True, False])
def test_the_best_of_fixed_candidates_is_that_of_a_worked_reference(known: bool) -> None:
    configs, values = observed(14)
    failed = [SPACE.default(method="c"), {**SPACE.default(method="c"), "rate": 3e-2}]
    functions = {1: width} if known else {}
    proposer = proposer_of(configs, values, failed=failed, known=functions, seed=7)
    pool = proposer.feasible(EncodedSpace(SPACE).random(40, np.random.default_rng(3)))
    search = Search(proposer)
    prediction = search.predict(pool)
    scores = log_acquisition(prediction, SEARCH_RADIUS)

    scale = CostScale.fit(values[:, 1])
    transform = QuantileTransform.fit(-values[:, 0])
    costs = scale(values[:, 1])
    groups = [Group.of(indices, -values[:, 0], costs) for indices in ([i] for i in range(12))]
    members = front([*groups, Group.of([12, 13], -values[:, 0], costs)], is_cautious=True)
    runs = [i for group in members for i in group.members]
    output, success, cost = reference_models(search)
    front_model = search._front_model.process
    assert np.allclose(front_model.y.numpy(), transform(-values[runs, 0]))
    low, high = scale(values[runs, 1]).min(), scale(values[runs, 1]).max()
    random_cost = np.random.default_rng(7).uniform(low, high)

    expected = []
    for config in pool.configs:
        x = reference_features(config)
        mean, std = reference_posterior(output, x)
        c = scale(np.array(width(config))) if known else reference_posterior(cost, x)[0]
        clamp = reference_posterior(front_model, np.array([random_cost]))[0]
        best = max(reference_posterior(front_model, np.array([min(max(c, low), high)]))[0], clamp)
        z = (mean - best - 1.0) / std
        improvement = std * (norm.pdf(z) + z * norm.cdf(z))
        origins = [reference_features(configs[group.members[0]]) for group in members]
        proximity = max(math.exp(-0.5 * (np.linalg.norm(x - o) / 0.3) ** 2) for o in origins)
        label, spread = reference_posterior(success, x)
        expected.append(improvement * proximity * norm.cdf(0.0, loc=label, scale=spread))
    assert np.argmax(scores) == np.argmax(expected)
    assert np.allclose(np.exp(scores), expected, rtol=1e-4, atol=1e-12)


def reference_models(search: Search) -> tuple[Process, Process, Process]:
    """Return the fitted processes of the output, of success and of the cost."""
    success = search._success_model.process
    assert success is not None
    return search._output_model.process, success, search._cost_model.process


def test_expected_improvement_is_the_integral_and_stays_finite_far_below_the_front() -> None:
    for mean, std, threshold in ((0.3, 0.5, 0.1), (-1.0, 0.8, 1.2), (-3.0, 0.4, 0.0)):
        integral = quad(lambda y: (y - threshold) * norm.pdf(y, mean, std), threshold, threshold + 4)[0]  # noqa: B023
        value = log_expected_improvement(np.array([mean]), np.array([std]), np.array([threshold]))[0]
        assert value == pytest.approx(math.log(integral), rel=1e-6)
    zero = log_expected_improvement(np.zeros(1), np.ones(1), np.zeros(1))[0]
    assert zero == pytest.approx(math.log(1 / math.sqrt(2 * math.pi)))
    far = log_expected_improvement(-np.array([5e2, 9.99e2, 1.001e3, 1e6]), np.ones(4), np.zeros(4))
    z = np.array([5e2, 9.99e2, 1.001e3, 1e6])
    assert np.allclose(far, -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(z), rtol=1e-5)


def test_probability_of_success_uses_the_standard_deviation() -> None:
    # Half a unit on the side of success with a standard deviation of 0.5: Phi(1), where the variance gives Phi(2).
    assert np.exp(log_success(np.array([-0.5]), np.array([0.5])))[0] == pytest.approx(norm.cdf(1.0))
    assert np.exp(log_success(np.array([0.5]), np.array([0.5])))[0] == pytest.approx(norm.cdf(-1.0))


def test_success_is_less_likely_near_failures() -> None:
    configs, values = observed(14)
    wide = [{**SPACE.default(), "width": size, "rate": rate} for size in (48, 64) for rate in (1e-4, 1e-3)]
    narrow = [config for config in configs if width(config) < 20]
    rows = [i for i, config in enumerate(configs) if width(config) < 20]
    search = Search(proposer_of(narrow, values[rows], failed=wide))
    probability = np.exp(
        search.predict(search._proposer.feasible(SPACE.encode(wide), repeat=True)).log_feasible
    )
    assert (probability < 0.4).all()
    assert (
        np.exp(search.predict(search._proposer.feasible(SPACE.encode(narrow), True)).log_feasible) > 0.6
    ).all()


def test_probability_within_limits() -> None:
    probability = np.exp(log_within(np.zeros(1), np.ones(1), -1.0, 2.0))[0]
    assert probability == pytest.approx(norm.cdf(2.0) - norm.cdf(-1.0))
    assert log_within(np.zeros(1), np.ones(1), None, None)[0] == 0.0


def test_scores_are_those_of_sklearn_between_the_ends() -> None:
    rng = np.random.default_rng(0)
    outputs = np.round(rng.normal(size=50), 1)  # with ties
    transform = QuantileTransform.fit(outputs)
    theirs = QuantileTransformer(n_quantiles=7, output_distribution="normal").fit(outputs[:, None])
    edge = norm.ppf(1 - 0.5 / 50)
    assert np.allclose(
        transform(outputs), np.clip(theirs.transform(outputs[:, None])[:, 0], -edge, edge), atol=1e-6
    )
    assert transform(np.array(99.0)) == pytest.approx(edge)
    assert (QuantileTransform.fit(np.ones(5))(np.array([0.0, 1.0])) == 0).all()


def test_scaled_costs_span_minus_one_to_one_after_the_logarithm() -> None:
    scale = CostScale.fit(np.array([1.0, 10.0, 100.0]))
    assert np.allclose(scale(np.array([1.0, 10.0, 100.0, 1000.0])), [-1, 0, 1, 2])
    assert np.allclose(CostScale.fit(np.array([0.0, 1.0, 100.0]))(np.array([0.0, 1.0, 10.0])), [-1, -1, 0])
    for linear in (
        CostScale.fit(np.array([-2.0, 2.0])),
        CostScale.fit(np.array([1.0, 5.0]), can_log=False),
        CostScale.fit(np.zeros(3)),
    ):
        assert linear.floor is None
    assert CostScale.fit(np.array([1.0, 5.0]), can_log=False)(np.array([3.0]))[0] == 0.0


def test_basic_coordinates_are_decades_half_ranges_and_radii() -> None:
    basic = BasicSpace(EncodedSpace(SPACE))
    rng = np.random.default_rng(0)
    configs = [SPACE.sample(rng) for _ in range(20)]
    expected = np.array([reference_features(config) for config in configs])
    assert np.allclose(basic.features(SPACE.encode(configs)), expected)
    two = basic.features(SPACE.encode([SPACE.default(method="a"), SPACE.default(method="c")]))
    assert np.linalg.norm(two[0] - two[1]) == pytest.approx(SEARCH_RADIUS)


def test_candidates_are_drawn_within_a_radius_and_are_configurations_of_the_space() -> None:
    columns = EncodedSpace(SPACE)
    basic = BasicSpace(columns)
    origin = SPACE.encode([SPACE.default()])
    rows = basic.around(origin, 4000, np.random.default_rng(0))
    assert not any(SPACE.problems(config) for config in columns.configurations(rows[:200]))
    decades = basic.features(rows)[:, 0]
    assert np.std(decades) == pytest.approx(SEARCH_RADIUS, rel=0.05)
    changed = float((rows[:, 0] != origin[0, 0]).mean())
    assert changed == pytest.approx(0.2 * 2 / 3, abs=0.02)  # a draw may repeat the choice
    # A parameter that becomes active starts at its default.
    dropout = rows[rows[:, 0] == 1.0, 2] * 0.5
    assert np.median(dropout) == pytest.approx(0.1, abs=0.03)


def test_a_front_prefers_repeated_runs_to_single_lucky_ones() -> None:
    outputs = np.array([0.0, 1.0, 0.6, 0.55, 0.75, 0.8, 5.0])
    costs = np.array([1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 0.5])
    groups = [Group.of(members, outputs, costs) for members in ([0, 1], [2], [3, 4], [5], [6])]
    assert [group.output for group in front(groups, is_cautious=False)] == [5.0]
    without_lucky = groups[:-1]
    assert [round(g.output, 9) for g in front(without_lucky, is_cautious=False)] == [0.5, 0.6, 0.65, 0.8]
    assert [round(g.output, 9) for g in front(without_lucky, is_cautious=True)] == [0.5, 0.65, 0.8]
    assert [group.runs for group in groups] == [2, 1, 2, 1, 1]


def test_the_cheapest_fifth_of_the_runs_counts_as_one_cost() -> None:
    outputs, costs = np.array([0.9, 0.5, 0.95, 1.0, 0.1]), np.array([1.0, 0.9, 5.0, 6.0, 7.0])
    groups = [Group.of([i], outputs, costs) for i in range(5)]
    assert CHEAP_SHARE == 0.2
    assert [group.output for group in front(groups, is_cautious=False)] == [0.5, 0.9, 0.95, 1.0]
    pooled = [Group.of([i], outputs, np.array([1.0, 1.0, 5.0, 6.0, 7.0])) for i in range(5)]
    assert [group.output for group in front(pooled, is_cautious=False)] == [0.9, 0.95, 1.0]


def test_without_a_cost_the_front_is_the_best_group() -> None:
    outputs = np.array([0.5, 0.9, 0.8, 1.0])
    groups = [Group.of(members, outputs, np.zeros(4)) for members in ([0, 1], [2], [3])]
    assert [group.output for group in front(groups, is_cautious=True)] == [1.0]
    assert [group.output for group in front(groups[:-1], is_cautious=True)] == [pytest.approx(0.7)]
    assert [group.output for group in front(groups[:-1], is_cautious=False)] == [0.8]
