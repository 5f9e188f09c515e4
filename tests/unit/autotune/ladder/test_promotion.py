"""The promotion scheduler and its parts: rungs, ranks, curves, rank correlations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autotune.ladder.learning_curves import extrapolate, margin
from autotune.ladder.promotion import PromotionScheduler
from autotune.ladder.rank_correlation import ENOUGH, Trust, rung_trust, widened
from autotune.ladder.ranking import contributions, rank_order
from autotune.ladder.rungs import Ladder
from autotune.pareto import hypervolume_contributions, non_dominated


def test_rungs_are_geometric_and_hit_both_ends():
    assert Ladder(1, 27, eta=3).rungs == (1, 3, 9, 27)
    assert Ladder(2, 50, eta=3).rungs == (2, 6, 17, 50)
    assert Ladder(0.1, 1.0, eta=3).rungs == pytest.approx((0.1, 10**-0.5, 1.0))
    assert Ladder(5, 5).rungs == (5,)
    assert Ladder(4, 5).rungs == (4, 5)
    assert Ladder(1, 27).base_share(0) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min": 0}, "min, max: 0, 9"),
        ({"min": 10}, "min, max: 10, 9"),
        ({"eta": 1}, "eta: 1"),
        ({"share": 0}, "share: 0"),
        ({"random_share": 1.5}, "random_share: 1.5"),
        ({"close": (-1, 0)}, r"close: \(-1, 0\)"),
        ({"first_rung": {"prompt": -1}}, "first_rung: -1 for 'prompt'"),
    ],
)
def test_a_wrong_ladder_names_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        Ladder(**{"min": 1, "max": 9, **fields})


def test_slow_families_are_ranked_first_on_a_higher_rung():
    ladder = Ladder(1, 9)
    assert ladder.first({"family": "lora"}) == 0
    assert ladder.first({"family": "prompt"}) == 1
    assert ladder.first({}) == 0
    assert Ladder(5, 5).first({"family": "prompt"}) == 0


def test_the_random_share_is_one_of_every_block():
    ladder = Ladder(1, 9, random_share=0.1)
    drawn = [number for number in range(200) if ladder.is_exploratory(number, seed=3)]
    assert [number // 10 for number in drawn] == list(range(20))
    assert len({number % 10 for number in drawn}) > 3
    assert drawn != [number for number in range(200) if ladder.is_exploratory(number, seed=4)]
    assert not any(Ladder(1, 9, random_share=0).is_exploratory(n, 0) for n in range(50))


@pytest.mark.parametrize("m", [2, 3])
def test_contributions_are_those_of_the_front(m):
    rng = np.random.default_rng(m)
    points = rng.random((40, m))
    front = points[non_dominated(points)]
    low, high = front.min(axis=0), front.max(axis=0)
    expected = hypervolume_contributions((front - low) / (high - low), np.full(m, 1.1))
    assert contributions(front) == pytest.approx(expected, abs=1e-12)


def test_order_by_hand():
    # (0, 4), (1, 1), (4, 0) and (1.1, 0.9) are not dominated; of the two in the middle neither adds much.
    values = np.array([[2.0, 2.0], [0, 4], [1, 1], [4, 0], [1.1, 0.9], [5, 5]])
    order = rank_order(values).tolist()
    assert set(order[:4]) == {1, 2, 3, 4}
    assert order[4:] == [0, 5]
    assert set(order[:2]) == {1, 3}
    assert rank_order(np.array([[3.0], [1.0], [2.0]])).tolist() == [1, 2, 0]
    assert rank_order(np.array([[1.0, 1.0], [1.0, 1.0]])).tolist() == [0, 1]


def test_a_power_law_is_extrapolated_exactly():
    curve = [(float(f), 3.0 * f**-0.5) for f in (1, 2, 4, 8)]
    assert extrapolate(curve, 32) == pytest.approx(3.0 * 32**-0.5)
    assert extrapolate([(4.0, 2.0)], 32) == 2.0
    rising = [(1.0, 1.0), (2.0, 1.5), (4.0, 2.0)]
    assert extrapolate(rising, 32) == pytest.approx(2 ** (np.log2([1, 1.5, 2]).mean()))
    below_zero = [(1.0, 0.0), (math.e, -1.0), (math.e**2, -2.0)]
    assert extrapolate(below_zero, math.e**4) == pytest.approx(-3.0 - 1.0)


def test_the_margin_has_its_coverage():
    # The share of new curves that fall below the largest of 99 errors is Beta(1, 99) distributed: above 0.05
    # with probability 0.006, and the seed is fixed.
    rng = np.random.default_rng(0)

    def curve() -> list[tuple[float, float]]:
        end, start = rng.random(2)
        return [(float(f), end + (1 + start) / f + 0.01 * rng.standard_normal()) for f in (1, 2, 4, 8, 16)]

    spare = margin(4, 16, [curve() for _ in range(99)])
    assert spare is not None
    misses = [c[-1][1] < extrapolate(c[:3], 16) + spare for c in (curve() for _ in range(4000))]
    assert np.mean(misses) < 0.05
    assert -1.0 < spare < 0.0
    assert margin(4, 16, [curve() for _ in range(8)]) is None
    assert margin(4, 16, [curve() for _ in range(9)]) is not None


def test_trust_by_hand():
    here = np.arange(8.0)[:, None]
    good = rung_trust(3, 0.3, here, here**2)
    assert (good.correlation, good.count, good.share, good.verdict) == (pytest.approx(1), 8, 0.3, "trusted")
    bad = rung_trust(3, 0.3, here, -here)
    assert bad.verdict == "not trusted"
    assert bad.share == 1.0
    few = rung_trust(3, 0.3, here[: ENOUGH - 1], here[: ENOUGH - 1])
    assert few.verdict == "not measured"
    flat = rung_trust(3, 0.3, here, np.zeros_like(here))
    assert flat.correlation == 0.0
    worst = rung_trust(3, 0.3, np.hstack([here, here]), np.hstack([here, -here]))
    assert worst.correlation == pytest.approx(-1)
    assert Trust((good, few)).verdict == "not measured"
    assert Trust((good, few, bad)).verdict == "not trusted"
    assert Trust(()).verdict == "trusted"
    assert "rank correlation with the final result 1.00 (8 configurations), 30 % are promoted" in str(
        Trust((good,))
    )


def test_the_share_widens_with_the_evidence():
    assert widened(0.3, 0.9, 30) == 0.3
    shares = [widened(0.3, 0.1, n) for n in (5, 10, 20, 40, 1000)]
    assert shares == sorted(shares)
    assert shares[0] < 0.5 < shares[-1]
    assert widened(0.3, -1.0, 50) == 1.0


def promotion(ladder: Ladder, known: tuple[bool, ...] = (False,), seed: int = 0) -> PromotionScheduler:
    return PromotionScheduler(ladder, known, seed)


def put(on: PromotionScheduler, number: int, *values: float, rung: int = 0) -> None:
    """A result on a rung, of a configuration that is new if need be."""
    if number not in on.candidates:
        on.add(number, rung)
    fidelity = on.ladder.rungs[rung]
    on.tell(number, rung, np.array(values), [[(fidelity, value)] for value in values])


def test_the_best_share_is_promoted_highest_rung_first():
    on = promotion(Ladder(1, 9, random_share=0))
    for number, loss in enumerate([0.5, 0.1, 0.9]):
        assert list(on.promotions()) == []
        put(on, number, loss)
    assert [c.number for c in on.promotions()] == [1]
    for number, loss in enumerate([0.6, 0.7, 0.05], start=3):
        put(on, number, loss)
    assert [c.number for c in on.promotions()] == [5, 1]
    for number in (5, 1):
        put(on, number, 0.05 * number, rung=1)
    assert list(on.promotions()) == []
    put(on, 0, 0.2, rung=1)
    assert [c.number for c in on.promotions()] == [1]
    assert next(on.promotions()).next_rung == 2


def test_a_cheap_configuration_with_the_worst_loss_is_promoted():
    on = promotion(Ladder(1, 9, random_share=0), known=(False, True))
    for number, (loss, cost) in enumerate(
        [(0.1, 5.0), (0.2, 6.0), (0.3, 7.0), (0.4, 8.0), (0.9, 1.0), (1, 9)]
    ):
        put(on, number, loss, cost)
    assert sorted(c.number for c in on.promotions()) == [0, 4]


def test_the_random_share_is_promoted_whatever_its_rank():
    on = promotion(Ladder(1, 9, random_share=1.0))
    for number in range(4):
        put(on, number, float(number))
    assert sorted(c.number for c in on.promotions()) == [0, 1, 2, 3]


def test_failed_candidates_are_left_out():
    on = promotion(Ladder(1, 9, random_share=0))
    for number in range(3):
        put(on, number, float(number))
    on.fail(0)
    assert list(on.promotions()) == []
    put(on, 3, 3.0)
    assert [c.number for c in on.promotions()] == [1]
    assert on.project(0) is None


def finished(on: PromotionScheduler, count: int, start: float, end: float) -> None:
    """Curves that reached the top, a straight line in log-log, so that they are predicted without error."""
    top = on.ladder.top
    for number in range(100, 100 + count):
        on.add(number, 0)
        for rung, fidelity in enumerate(on.ladder.rungs):
            value = start * (end / start) ** (rung / top)
            on.tell(number, rung, np.array([value]), [[(fidelity, value)]])


def test_where_ranks_are_close_the_curve_decides():
    ladder = Ladder(1, 16, eta=4, share=0.5, random_share=0, close=(0.5, 0.5))
    on = promotion(ladder)
    finished(on, 12, 1.0, 0.25)
    # Two newcomers just below the cut: the curve of one falls steeply, that of the other has stopped.
    for number, before in ((0, 4.0), (1, 1.01)):
        on.add(number, 0)
        on.tell(number, 0, np.array([1.01]), [[(0.5, before), (1.0, 1.01)]])
    assert on.may_reach_front(on.candidates[0]) is True
    assert on.may_reach_front(on.candidates[1]) is False
    for number in range(2, 10):
        put(on, number, 9.0 + number)
    promoted = [c.number for c in on.promotions()]
    assert 0 in promoted
    assert 1 not in promoted


def test_only_candidates_far_below_the_cut_and_the_front_are_pruned():
    ladder = Ladder(1, 16, eta=4, random_share=0.5, close=(0.0, 0.0))
    on = promotion(ladder)
    for number in range(12):
        put(on, number, 5.0 + number)
    assert on.prunable() == []  # nothing has been measured yet
    for number in range(12, 40):
        # Those that finish are the best on the first rung, too.
        if ladder.is_exploratory(number, seed=0):
            for rung in range(3):
                put(on, number, (1.0 + number / 100) * 0.9**rung, rung=rung)
        else:
            put(on, number, 5.0 + number)
    assert on.trust().verdict == "trusted"
    given_up = {c.number for c in on.prunable()}
    assert given_up
    order = [c.number for c in on.order(0)]
    assert not given_up & set(order[: len(order) // 4])
    assert not any(on.candidates[number].exploratory for number in given_up)


def test_projections_from_lower_rungs_have_larger_variances():
    on = promotion(Ladder(1, 9, random_share=0))
    assert on.project(0) is None
    put(on, 0, 1.0)
    assert on.project(0)[0] == pytest.approx([1.0])  # no other result contradicts it
    for number in range(1, 12):
        put(on, number, 1.0 + 0.1 * number)
    for number in range(4):
        # 1 / z - 1: what is left to gain is 8, 2 and 0 hundredths.
        put(on, number, 0.94 + 0.1 * number + 0.001 * (number % 2), rung=1)
    put(on, 0, 0.92, rung=2)
    assert on.project(0)[0] == pytest.approx([0.92])
    assert on.project(0)[1] == pytest.approx([0.0])
    low, middle = on.project(8), on.project(1)
    assert low[0] == pytest.approx([1.8 - 0.08], abs=0.01)
    assert middle[0] == pytest.approx([1.041 - 0.02], abs=0.01)
    assert low[1] > middle[1] > 0


def test_a_known_objective_is_exact_on_every_rung():
    on = promotion(Ladder(1, 9, random_share=0), known=(False, True))
    for number in range(6):
        put(on, number, 1.0 + 0.1 * number, 5.0 + number)
    put(on, 0, 0.5, 5.0, rung=1)
    values, variances = on.project(3)
    assert values[0] < 1.3
    assert (values[1], variances[1]) == (8.0, 0.0)


def test_a_rung_may_be_ranked_by_a_substitute():
    """Ranks by the values of a rung; trust and projections by the outcomes."""
    on = promotion(Ladder(1, 9, share=0.5, random_share=1.0))
    for number in range(6):
        on.add(number, 0)
        for rung in range(3):
            loss, error = 0.1 * number, (5 - number) / 10 + 0.01 * rung
            on.tell(number, rung, np.array([loss]), [[(on.ladder.rungs[rung], loss)]], np.array([error]))
    assert [c.number for c in on.order(0)] == list(range(6))
    assert on.trust().rungs[0].correlation == pytest.approx(-1.0)
    assert on.project(5)[0] == pytest.approx([0.02])
    on.add(6, 0)
    on.tell(6, 0, np.array([0.7]), [[(1.0, 0.7)]], np.array([0.4]))
    assert on.project(6)[0] == pytest.approx([0.4 + 0.01 + 0.01], abs=1e-3)


def test_a_nan_outcome_leaves_the_others_intact():
    on = promotion(Ladder(1, 9, random_share=1.0))
    for number in range(6):
        for rung in range(3):
            worst = math.inf if number == 3 else float(number)
            if number not in on.candidates:
                on.add(number, 0)
            on.tell(number, rung, np.array([float(number)]), [[(1.0, 1.0)]], np.array([worst + rung]))
    assert on.trust().rungs[0].correlation > 0.5
    on.add(6, 0)
    on.tell(6, 0, np.array([1.0]), [[(1.0, 1.0)]], np.array([1.0]))
    assert on.project(6)[0] == pytest.approx([3.0], abs=0.1)


def test_the_promoted_share_is_rounded_up_when_closing():
    on = promotion(Ladder(1, 9, random_share=0))
    put(on, 0, 0.5)
    assert list(on.promotions()) == []
    assert [c.number for c in on.promotions(closing=True)] == [0]
    for number in (1, 2, 3):
        put(on, number, 0.5 + number)
    assert [c.number for c in on.promotions()] == [0]
    assert [c.number for c in on.promotions(closing=True)] == [0, 1]
